"""Slopes of signs, of two bits and of spikes: raw, calibrated, or with a learning rate for each layer (use --tune)."""

from keras_surrogate.comparison import Grid

TRAINING = {
    "data": "fashion-mnist",
    "width": 64,
    "batch_size": 64,
    "images": 10_000,
    "validation": 0.1,
}
RATES = [
    *["sgd:0.03", "sgd:0.1", "sgd:0.3", "sgd:1"],
    *["momentum:0.003", "momentum:0.01", "momentum:0.03", "momentum:0.1"],
    *["adam:0.0003", "adam:0.001", "adam:0.003", "adam:0.01"],
]
SIGNS = {"forward": "sign", "initializer": "lecun_normal", "depth": 8, "epochs": 6}
TWO_BITS = {"forward": "staircase:4", "initializer": "he_normal", "depth": 8, "epochs": 6}
SPIKES = {
    "network": "spiking",
    "forward": "step",
    "initializer": "variance:3",
    "depth": 4,
    "epochs": 3,
}
FEWER_RATES = [
    *["sgd:0.1", "sgd:0.3", "sgd:1"],
    *["momentum:0.01", "momentum:0.03", "momentum:0.1"],
    *["adam:0.0003", "adam:0.001", "adam:0.003"],
]


def variants(slope, rate, **settings):
    """A slope as it is, calibrated, and with a learning rate for each layer."""
    name = slope.rpartition("*")[2]
    both = Grid(backward=[slope, f"calibrated*{name}"], **settings, **TRAINING)
    return both + Grid(backward=slope, layer_rate=rate, **settings, **TRAINING)


# The gradient shrinks by half in each layer with the slope 1 / 2 on [-2, 2], by three quarters with
# 1 / 4 on [-4, 4]. With spikes it grows by 2 with the arctan's slope, and shrinks by half with
# that of the fast sigmoid, k = 25. Such rates undo it.
grid = (
    variants("2*boxcar:4", 2.0, **SIGNS, optimizer=RATES)
    + variants("2*boxcar:8", 4.0, **SIGNS, optimizer=RATES)
    + variants("2*boxcar:4", 2.0, **TWO_BITS, optimizer=RATES)
    + variants("2*boxcar:8", 4.0, **TWO_BITS, optimizer=RATES)
    + variants("atan", 0.5, **SPIKES, optimizer=FEWER_RATES)
    + variants("fast_sigmoid", 2.0, **SPIKES, optimizer=FEWER_RATES)
)
