"""What functions, surrogates and saved models promise, as checks that can be run on one's own.

contract     every mode of differentiation, dtype and extreme of a function or surrogate
roundtrip    a saved model opened in a fresh process: the same outputs and the same gradients
"""

from keras_surrogate.testing import roundtrip
from keras_surrogate.testing.contract import DTYPES, POINTS, check_function, check_surrogate

__all__ = ["DTYPES", "POINTS", "check_function", "check_surrogate", "roundtrip"]
