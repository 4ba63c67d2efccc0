"""ReLU networks of ten layers whose units die in training, at rates from good to too large (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "depth": 10,
    "width": 64,
    "batch_size": 64,
    "images": 10_000,
    "epochs": 2,
    "validation": 0.1,
}
SLOPES = ["true", "leaky_relu:0.1", "leaky_relu:0.3", "softplus", "nelu"]
# From the best rates of the true slope to such with which the loss hardly falls.
PLAIN = ["adam:0.001", "adam:0.003", "adam:0.01", "adam:0.03"]
PLAIN += ["sgd:0.01", "sgd:0.03", "sgd:0.1", "sgd:0.3"]
NORMALIZED = ["adam:0.001", "adam:0.003", "adam:0.01", "sgd:0.1", "sgd:0.3", "sgd:1"]

# Rivals: a forward that cannot die, and batch normalisation.
grid = (
    Grid(backward=SLOPES, optimizer=PLAIN, **TRAINING)
    + Grid(forward="leaky_relu:0.1", optimizer=PLAIN, **TRAINING)
    + Grid(
        backward=["true", "softplus"],
        normalization="batch",
        optimizer=NORMALIZED,
        **TRAINING,
    )
)
