"""A small VGG on CIFAR-10 without augmentation, with and without batch normalisation."""

from keras_surrogate.comparison import Grid

NETWORKS = {
    "data": "cifar10",
    "network": "vgg",
    "depth": 6,
    "width": 8,
    "normalization": ["none", "batch"],
}
TRAINING = {
    "images": 10_000,
    "batch_size": 64,
    "epochs": 8,
    "optimizer": "adam:0.001",
    "validation": 0.1,
}
SLOPES = ["bsilu", "nelu", "leaky_relu:0.3"]

grid = Grid(**NETWORKS, **TRAINING) + Grid(
    backward=SLOPES, balanced=[False, True], **NETWORKS, **TRAINING
)
