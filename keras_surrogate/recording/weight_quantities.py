"""The quantities that can be recorded of weights which `SurrogateWeights` replaces.

Their columns are those of layers (or variables) with such weights; other models have none.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.layers.weights import SurrogateWeights, name_within, replacing
from keras_surrogate.recording.quantities import Layout, Quantity, total

if TYPE_CHECKING:
    from keras_surrogate.recording.taps import TracedStep

# Functions of more levels than these have no column for each level.
_MOST_COLUMNS = 16


class WeightQuantity(Quantity):
    """A quantity of the replaced weights of each layer (or variable) that has some."""

    def columns(self, layout: Layout) -> list[str]:
        return [f"{self.name}/{name}" for name in self.observed(layout)]

    def observed(self, layout: Layout) -> dict[str, list[keras.Variable]]:
        """The replaced weights behind each column."""
        replaced = {
            name: [one for one in group if self.measures(replacing(one))]
            for name, group in layout.groups.items()
        }
        return {name: weights for name, weights in replaced.items() if weights}

    def measures(self, layer: SurrogateWeights | None) -> bool:
        """True if the quantity is defined for the weights of this layer; default any."""
        return layer is not None


class Flips(WeightQuantity, ask_for="flips"):
    """The share of weights whose level changed in the step: mean(level after != level before)

    The level is the value of the surrogate's forward, without the scale. NaN for weights that the
    step did not update.
    """

    name = "flips"
    weights = True

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        shares = []
        for weights in self.observed(layout).values():
            updated = [one for one in weights if id(one) in step.weights_before]
            changed = [_changed(one, step.weights_before) for one in updated]
            size = sum(int(np.prod(one.shape)) for one in updated)
            share = tf.add_n(changed) / size if size else tf.constant(np.nan, tf.float64)
            shares.append(share)
        return tf.convert_to_tensor(shares, tf.float64)


class LevelQuantity(WeightQuantity):
    """A quantity of the shares of weights on each level of a function of few levels."""

    last = True

    def measures(self, layer: SurrogateWeights | None) -> bool:
        return layer is not None and layer.levels is not None

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        measured = [self.measure(weights) for weights in self.observed(layout).values()]
        if not measured:
            return tf.zeros([0], tf.float64)
        return tf.concat(measured, axis=0)

    @abc.abstractmethod
    def measure(self, weights: Sequence[keras.Variable]) -> tf.Tensor:
        """The numbers of the columns of one layer, in float64, shape (columns,)."""


class WeightLevel(LevelQuantity, ask_for="levels"):
    """The share of weights on each level, with a column for each of at most 16 levels."""

    name = "weight_level"
    logged = False

    def measures(self, layer: SurrogateWeights | None) -> bool:
        return super().measures(layer) and len(layer.levels) <= _MOST_COLUMNS

    def columns(self, layout: Layout) -> list[str]:
        return [
            f"{self.name}[{level:g}]/{name}"
            for name, weights in self.observed(layout).items()
            for level in replacing(weights[0]).levels
        ]

    def measure(self, weights: Sequence[keras.Variable]) -> tf.Tensor:
        counts = tf.add_n([_counts(weight) for weight in weights])
        return counts / tf.reduce_sum(counts)


class LargestLevel(LevelQuantity, ask_for="levels"):
    """The share of weights on the commonest level; the largest such share of a layer's kernels.

    It is 1 where a kernel has one level only.
    """

    name = "largest_level"

    def measure(self, weights: Sequence[keras.Variable]) -> tf.Tensor:
        counts = [_counts(weight) for weight in weights]
        shares = [tf.reduce_max(one) / tf.reduce_sum(one) for one in counts]
        return tf.reduce_max(tf.stack(shares), keepdims=True)


class DeadKernels(LevelQuantity, ask_for="levels"):
    """The share of output channels whose weights are all on the level 0.

    Only functions with the level 0 have this quantity.
    """

    name = "dead_kernels"

    def measures(self, layer: SurrogateWeights | None) -> bool:
        return super().measures(layer) and 0 in layer.levels

    def measure(self, weights: Sequence[keras.Variable]) -> tf.Tensor:
        dead = [tf.reshape(_is_dead(weight), [-1]) for weight in weights]
        return tf.reduce_mean(tf.cast(tf.concat(dead, axis=0), tf.float64), keepdims=True)


def _level(weight: keras.Variable, before: Mapping[int, tf.Tensor] | None = None) -> tf.Tensor:
    layer = replacing(weight)
    return layer.weight_levels(before)[name_within(layer, weight)]


def _changed(weight: keras.Variable, before: Mapping[int, tf.Tensor]) -> tf.Tensor:
    """The number of weights whose level is another one than before the step."""
    return total(tf.cast(_level(weight) != _level(weight, before), tf.float32))


def _counts(weight: keras.Variable) -> tf.Tensor:
    """The number of weights on each level, in float64, shape (levels,)."""
    levels = np.array(replacing(weight).levels)
    level = tf.reshape(tf.cast(_level(weight), tf.float32), [-1])
    # A weight is on the level between whose neighbours' midpoints it is.
    between = tf.constant((levels[1:] + levels[:-1]) / 2, tf.float32)
    place = tf.searchsorted(between, level)
    return tf.math.unsorted_segment_sum(tf.ones_like(place, tf.float64), place, len(levels))


def _is_dead(weight: keras.Variable) -> tf.Tensor:
    layer = replacing(weight)
    axes = layer.axes_of_a_channel(name_within(layer, weight))
    return tf.reduce_all(_level(weight) == 0, axis=axes)
