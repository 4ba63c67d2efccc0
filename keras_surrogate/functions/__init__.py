"""The collection: one class per function, each a value and a slope.

A `Function` is a frozen dataclass with `value(x)` and `slope(x)`, both elementwise and in the dtype
of `x`. To add one, define a subclass, in this package or in your own code. It enters the collection
under its name in snake_case (`LeakyRelu` is "leaky_relu"). Its docstring is its row in the
documentation, and the tests run over it. The `value:` and `slope:` lines of the docstring are NumPy
expressions that the tests evaluate and compare.

Every value and every slope is NaN at NaN, and is connected to `x`, so that a second derivative is
never None.

base         `Function`, the collection and the declarations of parameters
rectifiers, sigmoids, shrinkage, spikes, quantizers    the functions
lookup       from a name, a configuration or a callable to a `Function`
tables       facts that are read off a dense grid: saturation, rectifiers
residuals    slopes that the backward pass keeps in fewer bytes
"""

from typing import TYPE_CHECKING

from keras_surrogate.functions import quantizers, rectifiers, shrinkage, sigmoids, spikes
from keras_surrogate.functions.base import (
    COLLECTION,
    Function,
    above,
    between,
    flag,
    nonnegative,
    positive,
    real,
    real_number,
    whole,
)
from keras_surrogate.functions.lookup import FromCallable, get, is_known, names, unknown_name
from keras_surrogate.functions.quantizers import *
from keras_surrogate.functions.rectifiers import *
from keras_surrogate.functions.shrinkage import *
from keras_surrogate.functions.sigmoids import *
from keras_surrogate.functions.spikes import *

__all__ = [
    "FromCallable",
    "Function",
    "above",
    "between",
    "flag",
    "get",
    "is_known",
    "names",
    "nonnegative",
    "positive",
    "quantizers",
    "real",
    "real_number",
    "rectifiers",
    "shrinkage",
    "sigmoids",
    "spikes",
    "unknown_name",
    "whole",
]
# Type checkers read these five lines, but no loop.
__all__ += quantizers.__all__
__all__ += rectifiers.__all__
__all__ += shrinkage.__all__
__all__ += sigmoids.__all__
__all__ += spikes.__all__


def __dir__() -> list[str]:
    return sorted(__all__)


# Type checkers must not see this function: it would make every name valid.
if not TYPE_CHECKING:

    def __getattr__(name):
        """The classes that users define, `functions.MyFunction`."""
        for cls in COLLECTION.values():
            if cls.__name__ == name:
                return cls
        raise AttributeError(f"module 'keras_surrogate.functions' has no attribute {name!r}")
