"""Facts about a function that are read off a dense grid, as NumPy numbers."""

import concurrent.futures
import functools

import numpy as np
import tensorflow as tf


def tabulated(function, grid):
    """Value and slope of a function on a float64 grid, as two arrays; also while a graph is being traced."""
    # In a thread of its own: a tape inside init_scope records nothing, and a graph under
    # construction has no numbers.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(_evaluate, function, grid).result()


def _evaluate(function, grid):
    x = tf.constant(grid, tf.float64)
    return function.value(x).numpy(), function.slope(x).numpy()


@functools.lru_cache(maxsize=1024)
def saturation(function, share=0.01):
    """The outputs (low, high) from which on a squashing function is saturated.

    That is where its slope is below a share of its largest: for the sigmoid 0.0025 and 0.9975, for
    tanh -0.995 and 0.995, for a function with corners its ends. None for what is no squashing
    function: not increasing, unbounded (ReLU, whose zeros are another matter), or without any
    slope.

    Args:
        function: a `Function`.
        share: of the largest slope, default 0.01.
    """
    grid = np.linspace(-50, 50, 100_001)
    value, slope = tabulated(function, grid)
    steep = np.flatnonzero(slope >= share * slope.max())
    if not function.increasing or slope.max() == 0 or steep[0] == 0 or steep[-1] == len(grid) - 1:
        return None
    return float(value[steep[0] - 1]), float(value[steep[-1] + 1])


_NEGATIVE = np.linspace(-20, -0.01, 100)


@functools.lru_cache(maxsize=1024)
def is_rectifier(function):
    """Whether a function is 0, with slope 0, for all negative numbers: ReLU and others like it, and spikes."""
    value, slope = tabulated(function, _NEGATIVE)
    return not value.any() and not slope.any()


def in_flat_ends(function, outputs):
    """Which outputs of a squashing function lie in its flat ends; of a rectifier, in the upper one.

    A rectifier's zeros are another matter: they are counted as zeros and as dead units.

    Args:
        function: a `Function` that has a `saturation`.
        outputs: a tensor of its values.
    """
    low, high = saturation(function)
    above = outputs >= high
    return above if is_rectifier(function) else above | (outputs <= low)
