"""Plain ReLU networks that He's weights keep alive: slopes, raw and balanced, at four depths."""

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
    "initializer": "he_normal",
}
SLOPES = ["softplus", "bsilu", "nelu", "leaky_relu:0.1", "leaky_relu:0.3"]

# He's weights balance the true slope already.
grid = Grid(**NETWORKS, **TRAINING) + Grid(
    backward=SLOPES, balanced=[False, True], **NETWORKS, **TRAINING
)
