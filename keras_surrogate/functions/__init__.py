"""The collection: one class per function, each a value and a slope.

A `Function` is a frozen dataclass with `value(x)` and `slope(x)`, both elementwise and in the dtype
of `x`. Defining a subclass is all there is to adding one, here or in your own code: it enters the
collection under its name in snake_case (`LeakyRelu` is "leaky_relu"), its docstring is its row in
the documentation, and the tests run over it. The `value:` and `slope:` lines of the docstring are
NumPy expressions that the tests evaluate and compare.

Every value and every slope sends NaN to NaN, and is connected to `x`, so that a second derivative
is never None.
"""

from keras_surrogate.functions import rectifiers, shrinkage, sigmoids, spikes
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
)
from keras_surrogate.functions.lookup import FromCallable, get, is_known, names, unknown_name

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
    "real",
    "real_number",
    "rectifiers",
    "shrinkage",
    "sigmoids",
    "spikes",
    "unknown_name",
]


def __getattr__(name):
    """The classes of the collection, `functions.LeakyRelu` and so on."""
    for cls in COLLECTION.values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"module 'keras_surrogate.functions' has no attribute {name!r}")
