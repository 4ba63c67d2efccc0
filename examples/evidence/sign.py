"""Networks whose activations are signs: slopes from a narrow spike to the identity (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 20_000,
    "epochs": 3,
    "validation": 0.1,
}
# Variance 1 / fan_in: outputs of -1 and 1 give pre-activations of variance 1.
NETWORKS = {
    "forward": "sign",
    "initializer": "lecun_normal",
    "depth": [3, 8, 16],
    "normalization": ["none", "batch"],
    "optimizer": ["adam:0.0003", "adam:0.001", "adam:0.003", "adam:0.01"],
}
# The slopes of identity, ReLU, clipped (hard tanh), a triangle, BNN+, and 1 / (1 + k |x|)**2.
SLOPES = ["linear", "relu", "hard_tanh", "2*piecewise_quadratic", "swish_sign"]
SPIKES = ["fast_sigmoid:1", "fast_sigmoid:5", "fast_sigmoid:25", "fast_sigmoid:100"]

# The true slope of the sign is 0, so that only the last layer learns.
grid = Grid(backward=["true", *SLOPES, *SPIKES], **NETWORKS, **TRAINING)
