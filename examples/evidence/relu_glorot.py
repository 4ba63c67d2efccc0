"""Plain ReLU networks with Keras's default weights, which halve the signal's power layer by layer."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "epochs": 3,
    "validation": 0.1,
}
NETWORKS = {
    "depth": [5, 20, 30, 50],
    "optimizer": ["adam:0.001", "sgd:0.01"],
    "initializer": "glorot_uniform",
}
SLOPES = ["true", "softplus", "bsilu", "nelu", "leaky_relu:0.1", "leaky_relu:0.3"]

grid = Grid(backward=SLOPES, balanced=[False, True], **NETWORKS, **TRAINING)
