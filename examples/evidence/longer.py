"""The networks of 20 layers trained ten times as long, on all images: does what the short trainings show last?"""

from keras_surrogate.comparison import Grid

TRAINING = {"data": "fashion-mnist", "width": 64, "batch_size": 64, "epochs": 10, "validation": 0.1}
NETWORKS = {
    "depth": 20,
    "optimizer": ["adam:0.001", "sgd:0.01"],
    "initializer": "he_normal",
    **TRAINING,
}

grid = Grid(backward=["true", "leaky_relu:0.1"], **NETWORKS) + Grid(
    backward=["leaky_relu:0.3", "bsilu"], balanced=True, **NETWORKS
)
