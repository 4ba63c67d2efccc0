"""The width of a slope: the share of inputs at which it is not negligible, and wider slopes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_surrogate.functions import Function

# A slope below this share of its largest value is negligible, as in `functions.tables`.
_NEGLIGIBLE = 0.01
# The largest factor of a width.
_WIDEST = 1e4
# Where the largest slope is looked for, and where slopes are compared.
_GRID = np.concatenate([-np.geomspace(1e3, 1e-4, 400), [0.0], np.geomspace(1e-4, 1e3, 400)])


def share(function: Function, inputs: np.ndarray, factor: float = 1.0) -> float:
    """The share of inputs x at which abs(slope(x / factor)) is at least 1 % of its largest value.

    Args:
        function: the function of the slope.
        inputs: the inputs, shape (inputs,).
        factor: by what the slope is made wider, default 1.
    """
    largest = np.abs(_slope(function, _GRID)).max()
    sizes = np.abs(_slope(function, inputs / factor))
    return float(np.mean(sizes >= _NEGLIGIBLE * largest))


def widened(function: Function, inputs: np.ndarray, least: float) -> tuple[Function, float]:
    """A function whose slope is not negligible at a share of at least `least` of the inputs.

    Only the width changes, and only to larger ones. The function itself is returned where the share
    is large enough, where it has no parameter for the width, and where no width suffices.

    Returns:
        The function, and the factor of its width.
    """
    found = _width_parameter(function)
    if found is None or share(function, inputs) >= least:
        return function, 1.0
    if share(function, inputs, _WIDEST) < least:
        return function, 1.0
    low, high = 0.0, float(np.log(_WIDEST))
    for _ in range(40):
        middle = (low + high) / 2
        if share(function, inputs, float(np.exp(middle))) >= least:
            high = middle
        else:
            low = middle
    factor = float(np.exp(high))
    name, power = found
    wider = dataclasses.replace(function, **{name: getattr(function, name) * factor**power})
    return wider, factor


def _width_parameter(function: Function) -> tuple[str, int] | None:
    """The parameter that only stretches the slope, and the power with which the width changes it.

    The power is 1 where a larger parameter makes the slope wider, and -1 where it makes it
    narrower. None where there is no such parameter.
    """
    for field in dataclasses.fields(function):
        value = getattr(function, field.name)
        if not isinstance(value, float) or value <= 0:
            continue
        for power in (1, -1):
            try:
                wider = dataclasses.replace(function, **{field.name: value * 2.0**power})
            except ValueError:
                continue
            # slope of the wider one at 2 x, times any constant, is the slope at x
            if _proportional(_slope(wider, 2 * _GRID), _slope(function, _GRID)):
                return field.name, power
    return None


def _proportional(one: np.ndarray, other: np.ndarray) -> bool:
    sizes = [np.abs(one).max(), np.abs(other).max()]
    if not all(0 < size < np.inf for size in sizes):
        return False
    # A constant slope is proportional to itself at any width.
    is_constant = np.ptp(other) < 1e-6 * sizes[1]
    return not is_constant and np.allclose(one / sizes[0], other / sizes[1], atol=1e-6)


def _slope(function: Function, x: np.ndarray) -> np.ndarray:
    return function.slope(tf.constant(x, tf.float64)).numpy()


def sampled(tensors: Sequence[tf.Tensor], most: int = 1 << 14) -> np.ndarray:
    """At most `most` elements of some tensors, evenly spread, in float64."""
    if not tensors:
        return np.zeros(0)
    each = max(1, most // len(tensors))
    parts = [np.asarray(tensor, "float64").ravel() for tensor in tensors]
    return np.concatenate([part[:: max(1, len(part) // each)] for part in parts])
