"""SUGAR's comparison in small: convolutions on CIFAR-10, at the paper's one learning rate and at others (use --tune)."""

from keras_surrogate.comparison import Grid

# Horuz et al. 2025, arXiv:2505.22074: CIFAR-10, batches of 128, SGD at 0.001 for all slopes, no
# augmentation. Theirs are a VGG-16 and a ResNet-18 and 50 epochs.
# The moving averages of batch normalisation have a momentum of 0.9: with Keras's 0.99 they lag after
# 700 steps, and the same weights have 50 and 33 % with them and 53 and 44 % with the averages of
# their batches (VGG and ResNet, moving_averages.py). That is no cure for the ResNet. 35 trainings of a first grid were discarded, and
# the rates chosen after them.
TRAINING = {
    "data": "cifar10",
    "normalization": "batch:0.9",
    "batch_size": 128,
    "images": 10_000,
    "epochs": 10,
    "validation": 0.1,
    "optimizer": ["sgd:0.001", "sgd:0.1", "sgd:0.3"],
    "backward": ["true", "bsilu", "nelu"],
}

grid = Grid(network="vgg", width=8, depth=6, **TRAINING) + Grid(
    network="resnet", width=8, depth=8, residual=True, **TRAINING
)
