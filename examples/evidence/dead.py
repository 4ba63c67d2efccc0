"""ReLU networks whose units nearly all start dead, by a bias of -3: which slopes revive them, and how fast?"""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 5_000,
    "epochs": 20,
    "validation": 0.1,
}
SLOPES = ["true", "softplus", "bsilu", "nelu", "leaky_relu:0.1", "leaky_relu:0.3", "linear"]

grid = Grid(
    bias=-3.0, depth=[1, 3], backward=SLOPES, optimizer=["adam:0.001", "sgd:0.1"], **TRAINING
)
