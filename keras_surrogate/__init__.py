"""Artificial derivatives for TensorFlow/Keras: activations with another slope in the backward pass.

import keras_surrogate as ks

ks.layers.SurrogateActivation("relu", "softplus")    a layer
ks.get("sugar_bsilu")                                a published pair, for activation=
ks.callbacks.GradientNormLogger()                    gradient norms of the real training, per layer

In the order in which a value travels:

functions, surrogate, presets    a function, a pair of functions, the published pairs
custom_gradient                  the backward pass
layers, initializers             Keras objects that hold a surrogate
constraints, optimizers          for latent and binary weights, and a rate for each layer
recording, gradients, records, callbacks    gradient norms of training
theory, simulation, diagnosis, comparison   predict, simulate, examine and compare trainings
conversion                       surrogates into an existing model and out of it
plots, datasets, testing         pictures, data for examples, checks of one's own functions
"""

from typing import TYPE_CHECKING

from keras_surrogate import _command

with _command.importing():
    import keras as _keras

__version__ = "0.2.0"

if _keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_surrogate needs Keras's TensorFlow backend, but the backend is "
        f"{_keras.backend.backend()!r}. Set the environment variable KERAS_BACKEND=tensorflow "
        "before keras is imported."
    )

from keras_surrogate import (
    callbacks,
    constraints,
    functions,
    gradients,
    initializers,
    layers,
    optimizers,
    presets,
    records,
    theory,
)
from keras_surrogate.custom_gradient import smooth_forward, true_gradients
from keras_surrogate.presets import get
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate import (
        comparison,
        conversion,
        datasets,
        diagnosis,
        plots,
        simulation,
        testing,
    )

# A literal list, because type checkers and editors read it.
__all__ = [
    "Surrogate",
    "callbacks",
    "comparison",
    "constraints",
    "conversion",
    "datasets",
    "diagnosis",
    "functions",
    "get",
    "gradients",
    "initializers",
    "layers",
    "optimizers",
    "plots",
    "presets",
    "records",
    "simulation",
    "smooth_forward",
    "testing",
    "theory",
    "true_gradients",
]

# Imported when first used: plots needs matplotlib, which is optional, and the others are used
# seldom.
_LATE = ("comparison", "conversion", "datasets", "diagnosis", "plots", "simulation", "testing")


def __dir__() -> list[str]:
    return list(__all__)


# Type checkers must not see this function: it would make every name valid.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _LATE:
            from importlib import import_module

            return import_module(f"keras_surrogate.{name}")
        raise AttributeError(f"module 'keras_surrogate' has no attribute {name!r}")
