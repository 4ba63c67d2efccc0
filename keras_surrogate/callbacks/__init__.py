"""Callbacks for `model.fit`: when to measure, where to write, and when to speak up."""

from keras_surrogate.callbacks.alerts import Alert, GradientAlerts
from keras_surrogate.callbacks.annealing import SurrogateAnnealing
from keras_surrogate.callbacks.logger import GradientNormLogger
from keras_surrogate.callbacks.table import GradientTable

__all__ = ["Alert", "GradientAlerts", "GradientNormLogger", "GradientTable", "SurrogateAnnealing"]
