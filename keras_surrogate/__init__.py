"""Artificial derivatives for TensorFlow/Keras: activations that keep their value and replace their slope.

import keras_surrogate as ks

ks.layers.SurrogateActivation("relu", "softplus")    a layer
ks.get("sugar_bsilu")                                a published pair, for activation=
ks.callbacks.GradientNormLogger()                    the gradient norms of the real training, layer by layer
"""

import importlib

import keras

__version__ = "0.1.0"

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"keras_surrogate needs Keras's TensorFlow backend, but the backend is {keras.backend.backend()!r}. Set the "
        "environment variable KERAS_BACKEND=tensorflow before keras is imported."
    )

from keras_surrogate import (
    callbacks,
    functions,
    gradients,
    initializers,
    layers,
    presets,
    records,
    theory,
)
from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.presets import get
from keras_surrogate.surrogate import Surrogate

# Imported when first used: plots needs matplotlib, which not everyone has, and the others are
# seldom needed.
_LATE = ("comparison", "conversion", "datasets", "diagnosis", "plots", "simulation", "testing")

__all__ = [
    "Surrogate",
    "callbacks",
    "functions",
    "get",
    "gradients",
    "initializers",
    "layers",
    "presets",
    "records",
    "theory",
    "true_gradients",
    *_LATE,
]


def __getattr__(name):
    if name in _LATE:
        return importlib.import_module(f"keras_surrogate.{name}")
    raise AttributeError(f"module 'keras_surrogate' has no attribute {name!r}")
