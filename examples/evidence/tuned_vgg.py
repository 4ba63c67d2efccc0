"""The VGG with batch normalisation, each slope with the learning rate that suits it best (use --tune)."""

from keras_surrogate.comparison import Grid

NETWORKS = {"data": "cifar10", "network": "vgg", "depth": 6, "width": 8, "normalization": "batch"}
TRAINING = {"images": 10_000, "batch_size": 64, "epochs": 8, "validation": 0.1}
ADAM = ["adam:0.0003", "adam:0.001", "adam:0.003"]

grid = Grid(backward=["true", "bsilu", "leaky_relu:0.3"], optimizer=ADAM, **NETWORKS, **TRAINING)
