"""Residual convolutions with batch normalisation: a test of the rule on a network it was not made on."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 12,
    "batch_size": 64,
    "images": 6_000,
    "epochs": 3,
}
NETWORKS = {
    "network": "resnet",
    "residual": True,
    "normalization": "batch",
    "depth": [6, 12],
    "optimizer": ["adam:0.001", "adam:0.01", "sgd:0.01", "sgd:0.1"],
}
SLOPES = ["softplus", "bsilu", "nelu", "leaky_relu:0.1", "leaky_relu:0.3"]

grid = Grid(backward=["true", *SLOPES], **NETWORKS, **TRAINING)
