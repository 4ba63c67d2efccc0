"""Scales of replaced weights: what the surrogate is applied to, and what multiplies its value.

    weight used = factor * surrogate(argument)

A scale is one class with `argument_and_factor`. `SCALES` lists their names.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.custom_gradient import constant
from keras_surrogate.functions import Function
from keras_surrogate.functions.tables import tabulated
from keras_surrogate.surrogate import Surrogate

ScaleName: TypeAlias = Literal["mean_abs", "max_abs", "least_error", "learned"]
SCALES: tuple[ScaleName | None, ...] = (None, "mean_abs", "max_abs", "least_error", "learned")


def least_step(dtype: str) -> float:
    """The smallest step of a dtype, because weights are divided by it."""
    # In float16, 1e-8 is 0. This is its smallest normal number.
    return 2.0**-14 if dtype == "float16" else 1e-8


# Functions with more levels than these have no levels here: 16 bits are no longer few.
_MOST_LEVELS = 2**10


@dataclasses.dataclass(frozen=True)
class Unscaled:
    """Weights without a scale: surrogate(w)."""

    def argument_and_factor(self, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        return weight, None


@dataclasses.dataclass(frozen=True)
class MeanAbs:
    """mean(abs(w)) * surrogate(w), with the mean as a constant in the backward pass.

    Attributes:
        axes: the axes of the mean: all but those of the output channels.
    """

    axes: tuple[int, ...]

    def argument_and_factor(self, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        mean = tf.reduce_mean(tf.abs(weight), self.axes, keepdims=True)
        return weight, constant(mean)


@dataclasses.dataclass(frozen=True)
class MaxAbs:
    """m * surrogate(w / m) with m = max(abs(w)), a constant in the backward pass.

    Attributes:
        axes: the axes of the maximum: all but those of the output channels.
    """

    axes: tuple[int, ...]

    def argument_and_factor(self, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        largest = tf.reduce_max(tf.abs(weight), self.axes, keepdims=True)
        return _divided(weight, largest)


@dataclasses.dataclass(frozen=True)
class LeastError:
    """m * surrogate(w / m) with m = min(max(abs(w)) / top, reach * mean(abs(w))), a constant.

    Attributes:
        axes: the axes of maximum and mean: all but those of the output channels.
        top: the largest level of the surrogate's own value.
        reach: that of `normal_reach`.
    """

    axes: tuple[int, ...]
    top: float
    reach: float

    def argument_and_factor(self, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        size = tf.abs(weight)
        largest = tf.reduce_max(size, self.axes, keepdims=True)
        mean = tf.reduce_mean(size, self.axes, keepdims=True)
        return _divided(weight, tf.minimum(largest / self.top, self.reach * mean))


def _divided(weight: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The weight over a factor, and the factor, which is a constant in the backward pass."""
    # A channel of zeros stays a channel of zeros.
    factor = constant(tf.where(factor > 0, factor, tf.ones_like(factor)))
    return weight / factor, factor


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """LSQ: step * level, with the level from surrogate(unit * w / step) and a trained step.

    Attributes:
        step: the variable of the distance between two levels.
        unit: the distance between two levels of the surrogate's own value.
        gradient_scale: multiplies the gradient of the step: 1 / sqrt(number of weights * levels).
    """

    step: keras.Variable
    unit: float
    gradient_scale: float

    def argument_and_factor(self, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        with_scaled_gradient = Surrogate("linear", scale=self.gradient_scale)
        factor = with_scaled_gradient(self.step.value) / self.unit
        # The gradient of the step follows: with u = w / factor it is value(u) - u * slope(u),
        # equation 3 of the paper.
        return weight / factor, factor


Scale: TypeAlias = "Unscaled | MeanAbs | MaxAbs | LeastError | Learned"


@functools.lru_cache(maxsize=256)
def levels_of(function: Function) -> tuple[float, ...] | None:
    """The values of a function of few levels, increasing; None for every other function.

    Values that it has at single points only, as some signs at 0, are not among them.

    Args:
        function: a `Function`.
    """
    fine = np.linspace(-2, 2, 2**16)
    wide = np.linspace(-512, 512, 2**16)
    # The shift keeps the grid off the places where functions jump.
    grid = np.concatenate([fine, wide]) + math.pi / 1e6
    jumps = function.jumps(1e6)
    if jumps is not None and len(jumps) > 0:
        # Wherever they are, with one place between two of them.
        ends = np.array([jumps[0] - 1, *jumps, jumps[-1] + 1])
        grid = np.concatenate([grid, (ends[1:] + ends[:-1]) / 2])
    values, _ = tabulated(function, grid)
    far, _ = tabulated(function, np.array([-1e6, 1e6]))
    levels = np.unique(np.round([*values, *far], 9))
    is_bounded = far.min() >= values.min() - 1e-9 and far.max() <= values.max() + 1e-9
    if len(levels) > _MOST_LEVELS or not is_bounded or not np.isfinite(levels).all():
        return None
    return tuple(float(level) for level in levels)


@functools.lru_cache(maxsize=256)
def normal_reach(function: Function) -> float:
    """The factor r with the least E[(w - m * f(w / m))**2], m = r * E[abs(w)], for normal w.

    At the least error m = E[w f(w / m)] / E[f(w / m)**2]. For a sign r is 1, for three levels
    1.534, for seven 2.447.

    Args:
        function: a `Function` of few levels.

    Raises:
        ValueError: the function does not increase with normal w.

    Source: Max 1960, doi:10.1109/TIT.1960.1057548, table 2, for equal steps.
    """
    w = np.linspace(-7, 7, 2**18)
    density = np.exp(-(w**2) / 2) / np.sum(np.exp(-(w**2) / 2))

    def is_below(m: float) -> bool:
        """True if m is below the best one."""
        values, _ = tabulated(function, w / m)
        return bool(np.sum(density * w * values) > m * np.sum(density * values**2))

    low = 1e-3
    high = 1e3
    if not is_below(low):
        raise ValueError(
            'scale="least_error" needs a forward that grows with the weight, but '
            f"{function.title} does not."
        )
    while high / low > 1 + 1e-7:
        middle = math.sqrt(low * high)
        if is_below(middle):
            low = middle
        else:
            high = middle
    return low / math.sqrt(2 / math.pi)


def positive_levels(levels: tuple[float, ...]) -> int:
    """The number of positive levels, Q_P in LSQ; 1 if there are none."""
    return max(1, sum(level > 0 for level in levels))


def unit_of(levels: tuple[float, ...]) -> float:
    """The distance between two levels: the largest level over the number of positive ones."""
    largest = max(abs(level) for level in levels)
    return largest / positive_levels(levels) if largest > 0 else 1.0


def first_step(weight: tf.Tensor, levels: tuple[float, ...]) -> tf.Tensor:
    """The initial step of LSQ, 2 * mean(abs(w)) / sqrt(Q_P)."""
    step = 2 * tf.reduce_mean(tf.abs(weight)) / positive_levels(levels) ** 0.5
    return tf.maximum(step, least_step(weight.dtype.name))


def channel_axes(owner: keras.layers.Layer, weight: keras.Variable) -> tuple[int, ...]:
    """The axes of a weight that belong to the output channels; default the last one.

    Args:
        owner: the layer that holds the weight.
        weight: a weight of that layer.
    """
    rank = len(weight.shape)
    name = weight.name
    if rank == 0:
        return ()
    if isinstance(owner, _DEPTHWISE) or name == "depthwise_kernel":
        # (..., channels, multiplier): each pair is a channel of the output.
        return (rank - 2, rank - 1)
    if isinstance(owner, _TRANSPOSED):
        # (..., outputs, inputs)
        return (rank - 2,)
    if isinstance(owner, keras.layers.EinsumDense):
        _, kernel, outputs = owner.equation.replace("->", ",").split(",")
        return tuple(axis for axis, letter in enumerate(kernel) if letter in outputs)
    return (rank - 1,)


_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
