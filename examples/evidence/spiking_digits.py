"""The slopes of spiking.py on two other data sets, digits and MNIST (use --tune)."""

from keras_surrogate.comparison import Grid

NETWORKS = {
    "network": "spiking",
    "forward": "step",
    "initializer": "variance:3",
    "width": 64,
    "batch_size": 64,
    "validation": 0.1,
    "depth": [2, 4, 8],
    "optimizer": ["adam:0.001", "adam:0.003"],
}
# The slopes of atan, a triangle, a box, sigmoid(4 x), and 1 / (1 + k |x|)**2.
SLOPES = ["atan", "piecewise_quadratic", "boxcar", "scaled_sigmoid"]
SPIKES = ["fast_sigmoid:1", "fast_sigmoid:5", "fast_sigmoid:25", "fast_sigmoid:100"]
BACKWARD = ["true", *SLOPES, *SPIKES]

grid = Grid(data="digits", epochs=20, backward=BACKWARD, **NETWORKS) + Grid(
    data="mnist", images=5_000, epochs=6, backward=BACKWARD, **NETWORKS
)
