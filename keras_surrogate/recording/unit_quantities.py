"""The quantities that tell if a layer's units still differ, fire and learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import thresholds
from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import at_least_float32, norms
from keras_surrogate.recording.output_quantities import (
    LayerQuantity,
    OutputQuantity,
    axes_but,
    has_units,
    units_axis,
)
from keras_surrogate.recording.quantities import Layout, Quantity, over_replicas

if TYPE_CHECKING:
    from keras_surrogate.recording.taps import TracedStep

# The number of examples that are compared: the cost grows with its square.
_COMPARED = 64


class DormantUnits(OutputQuantity, ask_for="dormant"):
    """The share of units (channels) whose score is at most `thresholds.DORMANT`, 0.025.

        score = size / mean(size over the units),        size = mean(abs(output of the unit))

    The mean is over the batch and all places. Where all units are 0, all are dormant. Of layers
    without an activation the outputs are measured too.

    Source: Sokar et al. 2023, arXiv:2302.12902, definition 3.1.
    """

    name = "dormant_units"

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {name: layer for name, layer in layout.layers.items() if has_units(layer)}

    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        sizes = unit_sizes(layer, outputs)
        if sizes is None:
            return tf.constant(np.nan, tf.float64)
        return dormant_share(over_replicas(sizes))


class UnitScores(LayerQuantity, ask_for="dormant"):
    """The share of units in bins of the same score, over all recorded steps since the epoch began.

    The bins are 0 (dead: the unit was 0 for every example), and scores of at most 0.025 (dormant),
    0.1, 0.25, 0.5, 1, 2, and more. Where all units are 0, all are in the first bin.
    """

    name = "unit_scores"
    logged = False
    last = True
    edges: ClassVar[tuple[float, ...]] = (0.0, thresholds.DORMANT, 0.1, 0.25, 0.5, 1.0, 2.0)
    labels: ClassVar[tuple[str, ...]] = ("0", *(f"<={edge:g}" for edge in edges[1:]), ">2")

    def __init__(self) -> None:
        # From a layer's id to the sum of sizes of each unit since the epoch began.
        self._sizes: dict[int, tf.Variable] = {}

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {name: layer for name, layer in layout.layers.items() if has_units(layer)}

    def columns(self, layout: Layout) -> list[str]:
        owners = self.observed(layout)
        return [f"{self.name}[{label}]/{owner}" for owner in owners for label in self.labels]

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        shares = [
            self._shares(layer, step.outputs.get(id(layer)))
            for layer in self.observed(layout).values()
        ]
        return tf.concat([tf.zeros([0], tf.float64), *shares], axis=0)

    def _shares(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor] | None) -> tf.Tensor:
        now = None if outputs is None else unit_sizes(layer, outputs)
        if now is None:
            return tf.fill([len(self.labels)], tf.constant(np.nan, tf.float64))
        if id(layer) not in self._sizes:
            self._sizes[id(layer)] = local_variable(np.zeros(now.shape[0]))
        sizes = self._sizes[id(layer)] + over_replicas(now)
        self._sizes[id(layer)].assign(sizes)
        # Not divided by the mean, which may be 0.
        edges = tf.reduce_mean(sizes) * tf.constant(self.edges, tf.float64)
        above = tf.cast(sizes[:, tf.newaxis] > edges, tf.int32)
        place = tf.reduce_sum(above, axis=1)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(sizes), place, len(self.labels))
        shares = counts / tf.reduce_sum(counts)
        return tf.where(tf.math.is_finite(tf.reduce_sum(sizes)), shares, np.nan)

    def begin_epoch(self) -> None:
        for sizes in self._sizes.values():
            sizes.assign(tf.zeros_like(sizes))


def unit_sizes(layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """The mean of abs(output) of each unit, over all calls, in float64, shape (units,).

    None where the number of units is not known, or is not the same in all calls.
    """
    axis = units_axis(layer)
    units = outputs[0].shape[axis] if outputs[0].shape.rank else None
    if units is None or any(output.shape[axis] != units for output in outputs):
        return None
    means = [
        tf.reduce_mean(tf.abs(at_least_float32(output)), axes_but(axis, output))
        for output in outputs
    ]
    return tf.reduce_mean(tf.cast(tf.stack(means), tf.float64), axis=0)


def dormant_share(sizes: tf.Tensor, threshold: float = thresholds.DORMANT) -> tf.Tensor:
    """The share of units whose size is at most `threshold` times the mean; NaN if not finite."""
    mean = tf.reduce_mean(sizes)
    share = tf.reduce_mean(tf.cast(sizes <= threshold * mean, tf.float64))
    return tf.where(tf.math.is_finite(mean), share, np.nan)


class EffectiveRank(OutputQuantity, ask_for="effective_rank"):
    """exp(entropy of p), p = singular values / their sum, of a layer's outputs.

    The rows of the matrix are the first 64 examples of the batch. It is 1 where all are multiples
    of one vector, and at most the number of examples and of outputs. NaN where all outputs are 0
    or some are not finite. On several replicas it is the mean of theirs.

    Source: Roy and Vetterli 2007, "The effective rank", EUSIPCO.
    """

    name = "effective_rank"

    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        if not outputs[0].shape.rank:
            return tf.constant(np.nan, tf.float64)
        few = outputs[0][:_COMPARED]
        rows = tf.cast(tf.reshape(few, [tf.shape(few)[0], -1]), tf.float64)
        # Squares of the singular values are the eigenvalues of the inner products.
        products = tf.matmul(rows, rows, transpose_b=True)
        trace = tf.linalg.trace(products)
        valid = tf.math.is_finite(trace) & (trace > 0)
        squares = tf.linalg.eigvalsh(tf.where(valid, products, tf.zeros_like(products)))
        values = tf.sqrt(tf.maximum(squares, 0))
        shares = tf.math.divide_no_nan(values, tf.reduce_sum(values))
        # xlogy is 0 where a share is 0.
        rank = tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))
        replicas = over_replicas(tf.ones([], tf.float64))
        return over_replicas(tf.where(valid, rank, np.nan)) / replicas


class WeightNorm(Quantity, ask_for="weight_growth"):
    """sqrt(sum(weight**2)) after the step"""

    name = "weight_norm"

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        variables = [variable for group in layout.groups.values() for variable in group]
        squares = tf.square(norms([variable.value for variable in variables]))
        return tf.sqrt(layout.totals(squares, variables))


class WeightGrowth(WeightNorm, ask_for="weight_growth"):
    """This norm over that of the first recorded step of the fit; NaN where that is 0."""

    name = "weight_growth"
    last = True

    def __init__(self) -> None:
        # The norms of the first step; NaN before it.
        self._first: tf.Variable | None = None

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        now = super().values(step, layout)
        if self._first is None:
            self._first = local_variable(np.full(now.shape, np.nan))
        first = tf.where(tf.math.is_nan(self._first), now, self._first)
        self._first.assign(first)
        return tf.where(first > 0, now / first, np.nan)

    def begin_fit(self) -> None:
        if self._first is not None:
            self._first.assign(tf.fill(self._first.shape, tf.constant(np.nan, tf.float64)))
