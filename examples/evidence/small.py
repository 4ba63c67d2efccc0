"""Networks so small that finite differences of the loss can be had: which reference tells the truth? (use --tune)"""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "digits",
    "width": 16,
    "depth": [2, 4],
    "batch_size": 32,
    "epochs": 20,
    "validation": 0.1,
    "optimizer": ["adam:0.001", "adam:0.003", "adam:0.01"],
    # Identity, clipped, triangle, and 1 / (1 + k |x|)**2 from wide to narrow.
    "backward": [
        *["linear", "hard_tanh", "piecewise_quadratic"],
        *["fast_sigmoid:1", "fast_sigmoid:5", "fast_sigmoid:25", "fast_sigmoid:100"],
    ],
}

grid = (
    Grid(forward="sign", initializer="lecun_normal", **TRAINING)
    + Grid(forward="staircase:4", initializer="he_normal", **TRAINING)
    + Grid(network="spiking", forward="step", initializer="variance:3", **TRAINING)
)
