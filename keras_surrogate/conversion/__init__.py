"""Surrogates into an existing model, and out again: `swap`, `strip`, `export`, and a `report` of what was done.

swapped = conversion.swap(model, {"relu": "leaky_backward"})    the same outputs, another backward pass
swapped.fit(...)
conversion.strip(swapped).save("served.keras")                  plain Keras, with the trained weights
"""

from keras_surrogate.conversion.export import export
from keras_surrogate.conversion.reports import Change, Report, Unreached, report
from keras_surrogate.conversion.strip import strip
from keras_surrogate.conversion.swap import swap

__all__ = ["Change", "Report", "Unreached", "export", "report", "strip", "swap"]
