"""Checks of functions, surrogates and saved models, for your own ones too.

contract     a function or surrogate: every mode of differentiation, dtype and extreme input
roundtrip    a saved model in a fresh process: the same outputs and the same gradients
"""

from keras_surrogate.testing import roundtrip
from keras_surrogate.testing.contract import DTYPES, POINTS, check_function, check_surrogate

__all__ = ["DTYPES", "POINTS", "check_function", "check_surrogate", "roundtrip"]
