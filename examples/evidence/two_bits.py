"""Networks whose activations have four levels, -1, -1/3, 1/3 and 1: slopes as in sign.py (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "epochs": 3,
    "validation": 0.1,
}
# Steps at -1, 0 and 1. With variance 2 / fan_in pre-activations settle at a mean square near 0.55.
NETWORKS = {
    "forward": "staircase:4",
    "initializer": "he_normal",
    "depth": [3, 8, 16],
    "normalization": ["none", "batch"],
    "optimizer": ["adam:0.0003", "adam:0.001", "adam:0.003", "adam:0.01"],
}
# The slopes of identity, ReLU, clipped (hard tanh), a triangle, BNN+, and 1 / (1 + k |x|)**2.
SLOPES = ["linear", "relu", "hard_tanh", "2*piecewise_quadratic", "swish_sign"]
SPIKES = ["fast_sigmoid:1", "fast_sigmoid:5", "fast_sigmoid:25", "fast_sigmoid:100"]

grid = Grid(backward=["true", *SLOPES, *SPIKES], **NETWORKS, **TRAINING)
