"""What a backward pass keeps of the input: all of it, or a compressed slope where memory matters more than digits.

None        the input (or the output, where the slope follows from it); exact
"bfloat16"  the slope in 2 bytes an element; relative error at most 2**-8
"uint8"     the slope in 1 byte an element; absolute error at most (largest slope - smallest slope) / 510
"""

import functools

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.tables import tabulated

NAMES = (None, "bfloat16", "uint8")

_LEVELS = 255
_TAIL = np.geomspace(1e-3, 1e4, 4001)
_GRID = np.concatenate([-_TAIL[::-1], np.linspace(-10, 10, 20001), _TAIL])


def compressed(name, function, x):
    """Keeps the slope of `function` at `x` in compressed form; returns a function that brings it back.

    Args:
        name: "bfloat16" or "uint8".
        function: a `Function`; for "uint8" its slope must be bounded.
        x: a floating tensor.
    """
    slope = function.slope(x)
    if name == "bfloat16":
        kept, restore = tf.cast(slope, tf.bfloat16), lambda kept: tf.cast(kept, x.dtype)
    else:
        low, high = slope_range(function)
        step = (high - low) / _LEVELS or 1.0
        kept = tf.cast(tf.round((tf.clip_by_value(slope, low, high) - low) / step), tf.uint8)
        restore = lambda kept: tf.cast(kept, x.dtype) * step + low  # noqa: E731

    def restored(upstream):
        # Without this order an executor restores the slope in the forward pass, and the memory is
        # not saved.
        with tf.control_dependencies([upstream]):
            return restore(tf.identity(kept))

    return restored


@functools.lru_cache(maxsize=1024)
def slope_range(function):
    """The smallest and the largest slope over a dense grid and both tails, as Python floats.

    Raises:
        ValueError: the slope is not bounded.
    """
    low, high = _range(function, _GRID)
    far_low, far_high = _range(function, 100 * _GRID)
    if (
        not np.isfinite([low, high, far_low, far_high]).all()
        or far_high > 2 * high + 1
        or far_low < 2 * low - 1
    ):
        raise ValueError(
            f'The slope of {function} is not bounded, so it does not fit residual="uint8"; use "bfloat16".'
        )
    return low, high


def _range(function, grid):
    _, slope = tabulated(function, grid)
    return float(slope.min()), float(slope.max())
