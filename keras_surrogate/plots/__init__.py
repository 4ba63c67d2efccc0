"""Pictures. Every function takes data and an axis, or makes one, and returns the axis. Needs matplotlib."""

from keras_surrogate.plots.pairs import surrogate
from keras_surrogate.plots.training import gradient_norms

__all__ = ["gradient_norms", "surrogate"]
