"""Residuals: the tensors that a backward pass keeps, in full or as a compressed slope.

None        the input (or the output, where it determines the slope); exact
"bfloat16"  the slope in 2 bytes an element; relative error at most 2**-8
"uint8"     the slope in 1 byte an element; absolute error at most
            (largest slope - smallest slope) / 510
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import Function
from keras_surrogate.functions.tables import tabulated

NAMES = (None, "bfloat16", "uint8")

_LEVELS = 255
# Dense near 0, and on a logarithmic scale far out.
_TAIL = np.geomspace(1e-3, 1e4, 4001)
_GRID = np.concatenate([-_TAIL[::-1], np.linspace(-10, 10, 20001), _TAIL])


def compressed(
    name: Literal["bfloat16", "uint8"], function: Function, x: tf.Tensor
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Keep the slope of `function` at `x` in compressed form.

    Args:
        name: "bfloat16" or "uint8".
        function: a `Function`; for "uint8" its slope must be bounded.
        x: a floating tensor.

    Returns:
        A function from the incoming gradient to the slope in the dtype of `x`. The gradient's
        values are not used: it only says when the slope is needed.
    """
    slope = function.slope(x)
    if name == "bfloat16":
        return _restoring(tf.cast(slope, tf.bfloat16), lambda kept: tf.cast(kept, x.dtype))
    low, high = slope_range(function)
    # A constant slope has one level only.
    step = (high - low) / _LEVELS or 1.0
    levels = tf.round((tf.clip_by_value(slope, low, high) - low) / step)
    kept = tf.cast(levels, tf.uint8)
    return _restoring(kept, lambda kept: tf.cast(kept, x.dtype) * step + low)


def _restoring(
    kept: tf.Tensor, restore: Callable[[tf.Tensor], tf.Tensor]
) -> Callable[[tf.Tensor], tf.Tensor]:
    def restored(upstream):
        # Without this order an executor restores the slope in the forward pass, and no memory is
        # saved.
        with tf.control_dependencies([upstream]):
            return restore(tf.identity(kept))

    return restored


@functools.lru_cache(maxsize=1024)
def slope_range(function: Function) -> tuple[float, float]:
    """The smallest and the largest slope, over a dense grid and both tails.

    Raises:
        ValueError: the slope is not bounded.
    """
    low, high = _range(function, _GRID)
    # A slope that is much larger 100 times further out is regarded as unbounded.
    far_low, far_high = _range(function, 100 * _GRID)
    is_finite = np.isfinite([low, high, far_low, far_high]).all()
    if not is_finite or far_high > 2 * high + 1 or far_low < 2 * low - 1:
        raise ValueError(
            f'The slope of {function} is not bounded, so residual="uint8" cannot store it; use '
            '"bfloat16".'
        )
    return low, high


def _range(function: Function, grid: np.ndarray) -> tuple[float, float]:
    _, slope = tabulated(function, grid)
    return float(slope.min()), float(slope.max())
