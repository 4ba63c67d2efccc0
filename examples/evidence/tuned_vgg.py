"""The VGG with batch normalisation, each slope with the learning rate that suits it best (use --tune)."""

from keras_surrogate.comparison import Grid

# With Keras's momentum of 0.99 the moving averages lag behind: at adam:0.003 the same weights have 53 %
# with them and 58 % with the averages of their batches (moving_averages.py).
NETWORKS = {"data": "cifar10", "network": "vgg", "depth": 6, "width": 8}
TRAINING = {"images": 10_000, "batch_size": 64, "epochs": 8, "validation": 0.1}
ADAM = ["adam:0.0003", "adam:0.001", "adam:0.003"]

grid = Grid(
    backward=["true", "bsilu", "leaky_relu:0.3"],
    optimizer=ADAM,
    normalization="batch:0.9",
    **NETWORKS,
    **TRAINING,
)
