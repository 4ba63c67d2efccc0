"""Slopes that go over to the true one: never, within the first half of the training, and until its end."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "validation": 0.1,
}
SHARES = [0.0, 0.5, 1.0]
RELU = {"depth": 20, "epochs": 3, "optimizer": ["adam:0.001", "sgd:0.01"], **TRAINING}
SIGMOID = {
    "forward": "sigmoid",
    "initializer": "glorot_uniform",
    "depth": 5,
    "epochs": 6,
    "optimizer": "sgd:0.1",
}
SIGMOID = {**SIGMOID, **TRAINING}

grid = (
    Grid(**RELU)
    + Grid(backward=["bsilu", "leaky_relu:0.3"], balanced=[False, True], annealing=SHARES, **RELU)
    + Grid(backward="softplus", balanced=True, annealing=SHARES, **RELU)
    + Grid(**SIGMOID)
    + Grid(backward=["4*true", "tanh"], annealing=SHARES, **SIGMOID)
)
