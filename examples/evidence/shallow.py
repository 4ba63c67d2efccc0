"""Does the slope matter in shallow networks? FreeGrad's MLP on the digits (one hidden layer, SGD at 0.05), and deeper ones (use --tune)."""

from keras_surrogate.comparison import Grid

# 100 epochs, batches of 64 and the rate 0.05 are those of Troiano et al. 2025, arXiv:2509.07236,
# who replace the slope of the sigmoid by 1.
TRAINING = {
    "data": "digits",
    "width": 64,
    "batch_size": 64,
    "epochs": 100,
    "validation": 0.1,
    "initializer": "glorot_uniform",
    "depth": [1, 2, 4, 8],
    "optimizer": ["sgd:0.005", "sgd:0.05", "sgd:0.5"],
}

grid = Grid(forward=["sigmoid", "relu"], backward=["true", "linear"], **TRAINING)
