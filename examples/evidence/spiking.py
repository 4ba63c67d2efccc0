"""Networks of leaky integrate-and-fire neurons: slopes from wide to narrow (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 10_000,
    "epochs": 4,
    "validation": 0.1,
}
# Twelve steps, leak 0.9, threshold 1. With variance 3 / fan_in all layers fire at the start.
NETWORKS = {
    "network": "spiking",
    "forward": "step",
    "initializer": "variance:3",
    "depth": [2, 4, 8],
    "optimizer": ["adam:0.0003", "adam:0.001", "adam:0.003"],
}
# The slopes of atan, a triangle, a box, sigmoid(4 x), and 1 / (1 + k |x|)**2.
SLOPES = ["atan", "piecewise_quadratic", "boxcar", "scaled_sigmoid"]
SPIKES = ["fast_sigmoid:1", "fast_sigmoid:5", "fast_sigmoid:25", "fast_sigmoid:100"]

# The true slope of a spike is 0, so that only the last layer learns.
grid = Grid(backward=["true", *SLOPES, *SPIKES], **NETWORKS, **TRAINING)
