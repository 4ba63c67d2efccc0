"""Sigmoid networks: other slopes, against critical weights and against a learning rate for each layer (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "epochs": 6,
    "validation": 0.1,
}
ADAM = ["adam:0.0003", "adam:0.001", "adam:0.003"]
SGD = ["sgd:0.01", "sgd:0.03", "sgd:0.1", "sgd:0.3", "sgd:1"]
NETWORKS = {"forward": "sigmoid", "depth": [3, 5, 10], "optimizer": [*ADAM, *SGD], **TRAINING}
GLOROT = {"initializer": "glorot_uniform", **NETWORKS}

# Under plain SGD a learning rate that grows by 4 with each layer from the output does what the
# slope 4 * true does.
grid = (
    Grid(backward=["true", "flat_spot_sigmoid", "4*true", "tanh"], **GLOROT)
    + Grid(layer_rate=4.0, **GLOROT)
    + Grid(initializer="critical", **NETWORKS)
)
