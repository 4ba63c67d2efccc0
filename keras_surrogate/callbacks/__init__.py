"""Callbacks for `model.fit`: when to measure, where to write, and when to speak up."""

from keras_surrogate.callbacks.annealing import SurrogateAnnealing
from keras_surrogate.callbacks.logger import GradientNormLogger

__all__ = ["GradientNormLogger", "SurrogateAnnealing"]
