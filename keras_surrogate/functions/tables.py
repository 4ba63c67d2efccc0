"""Facts about a function that are read off a dense grid, as NumPy numbers."""

from __future__ import annotations

import concurrent.futures
import functools
import math

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import Function


def tabulated(function: Function, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope of a function on a float64 grid; also while a graph is being traced."""
    # In a thread of its own: a tape inside init_scope records nothing, and a graph under
    # construction has no numbers.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(_evaluate, function, grid).result()


def _evaluate(function: Function, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = tf.constant(grid, tf.float64)
    return function.value(x).numpy(), function.slope(x).numpy()


@functools.lru_cache(maxsize=1024)
def saturation(function: Function, share: float = 0.01) -> tuple[float, float] | None:
    """The outputs (low, high) beyond which a squashing function is saturated.

    There its slope is below a share of its largest slope: for the sigmoid 0.0025 and 0.9975, for
    tanh -0.995 and 0.995, for a function with corners its ends. None for other functions: not
    increasing, unbounded (as ReLU), or with slope 0 everywhere.

    Args:
        function: a `Function`.
        share: the share of the largest slope, in (0, 1), default 0.01.
    """
    grid = np.linspace(-50, 50, 100_001)
    value, slope = tabulated(function, grid)
    if not function.increasing or slope.max() == 0:
        return None
    steep = np.flatnonzero(slope >= share * slope.max())
    first = steep[0]
    last = steep[-1]
    if first == 0 or last == len(grid) - 1:
        return None
    return float(value[first - 1]), float(value[last + 1])


# So far out that a power with exponent -0.1 has ended, and a logarithm has not.
_FAR = np.array([-1e300, -1e150, 1e150, 1e300])


@functools.lru_cache(maxsize=1024)
def limits(function: Function) -> tuple[float, float] | None:
    """The limits of a function at -inf and at inf; None unless both are finite and differ.

    Args:
        function: a `Function`.
    """
    value, _ = tabulated(function, _FAR)
    with np.errstate(all="ignore"):
        height = abs(value[3] - value[0])
        change = max(abs(value[1] - value[0]), abs(value[3] - value[2]))
    # A logarithm still changes by half of its height.
    if not 0 < height < math.inf or change > 0.1 * height:
        return None
    return float(value[0]), float(value[3])


@functools.lru_cache(maxsize=1024)
def is_flat(function: Function) -> bool:
    """Tell if the slope of a function is 0 everywhere, as for signs, steps and roundings."""
    _, slope = tabulated(function, np.linspace(-20, 20, 10_001))
    return not slope.any()


@functools.lru_cache(maxsize=1024)
def largest_slope(function: Function) -> float:
    """The largest absolute slope of a function between -50 and 50."""
    _, slope = tabulated(function, np.linspace(-50, 50, 100_001))
    return float(np.abs(slope).max())


_NEGATIVE = np.linspace(-20, -0.01, 100)


@functools.lru_cache(maxsize=1024)
def is_rectifier(function: Function) -> bool:
    """Tell if value and slope are 0 for all negative numbers, as for ReLU and the step."""
    value, slope = tabulated(function, _NEGATIVE)
    return not value.any() and not slope.any()


def in_flat_ends(function: Function, outputs: tf.Tensor) -> tf.Tensor:
    """The outputs in the flat ends of a squashing function, as a boolean tensor.

    For a rectifier only the upper end counts: its zeros are counted as zeros and as dead units.

    Args:
        function: a `Function` that has a `saturation`.
        outputs: a tensor of its values.
    """
    low, high = saturation(function)
    is_high = outputs >= high
    if is_rectifier(function):
        return is_high
    return is_high | (outputs <= low)
