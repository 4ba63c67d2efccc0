"""ReLU networks of 20 layers with He's weights, each slope with the learning rate that suits it best (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "epochs": 3,
    "validation": 0.1,
}
ADAM = ["adam:0.0001", "adam:0.0003", "adam:0.001", "adam:0.003"]
SGD = ["sgd:0.0003", "sgd:0.001", "sgd:0.003", "sgd:0.01", "sgd:0.03", "sgd:0.1"]
NETWORKS = {"depth": 20, "optimizer": [*ADAM, *SGD], "initializer": "he_normal"}
SLOPES = ["softplus", "bsilu", "nelu", "leaky_relu:0.1", "leaky_relu:0.3"]

grid = Grid(**NETWORKS, **TRAINING) + Grid(
    backward=SLOPES, balanced=[False, True], **NETWORKS, **TRAINING
)
