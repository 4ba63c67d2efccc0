"""The quantities that can be recorded of a train step, here those of gradients.

There is one class for each quantity, and a user asks for it by name. A quantity defines the names
of its columns, and computes their values in graph from a `taps.TracedStep`. On several replicas
each one computes the same values, those of the whole batch.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.recording.norms import at_least_float32, nonzero_rows, norms, totals
from keras_surrogate.recording.optimizers import clipping

if TYPE_CHECKING:
    from keras_surrogate.recording.taps import TracedStep

# The classes of the optional quantities by the name under which a user asks for them.
COLLECTION: dict[str, list[type[Quantity]]] = {}


def names() -> tuple[str, ...]:
    """The names that `GradientNormLogger(also=...)` takes."""
    return tuple(COLLECTION)


def need_rehearsals(also: Iterable[str]) -> bool:
    """True if one of these quantities needs rehearsals of the step."""
    return any(quantity.rehearsed for name in also for quantity in COLLECTION[name])


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layers and variables of the columns.

    Attributes:
        groups: a dictionary from the name of a layer (or variable) to its trainable variables.
        layers: a dictionary from name to layer, of the layers whose outputs are observed.
    """

    groups: Mapping[str, Sequence[keras.Variable]]
    layers: Mapping[str, keras.layers.Layer]

    def is_of(self, variables: Iterable[keras.Variable]) -> bool:
        """True if the groups contain exactly these variables."""
        known = {id(variable) for group in self.groups.values() for variable in group}
        return known == {id(variable) for variable in variables}

    def totals(
        self,
        values: tf.Tensor,
        variables: Sequence[keras.Variable],
        segment: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor] = tf.math.unsorted_segment_sum,
    ) -> tf.Tensor:
        """`norms.totals` for the groups."""
        return totals(values, variables, self.groups, segment)


class Quantity(abc.ABC):
    """A number, or several, recorded of each step.

    Attributes that a class declares:
        name: the first part of its column names, which are the keys in Keras's logs.
        logged: whether Keras's logs contain it, as the mean over an epoch's steps; default True.
        weights, outputs, deltas, input_deltas: whether it needs these of the step; default False.
        last: whether its value for an epoch is that of the last step, instead of the mean; default
            False.
        rehearsed: whether it needs rehearsals of the step, which cost two more passes in the steps
            that are sampled; default False.
    """

    name: ClassVar[str]
    logged: ClassVar[bool] = True
    weights: ClassVar[bool] = False
    outputs: ClassVar[bool] = False
    deltas: ClassVar[bool] = False
    input_deltas: ClassVar[bool] = False
    last: ClassVar[bool] = False
    rehearsed: ClassVar[bool] = False

    def __init_subclass__(cls, ask_for: str | None = None) -> None:
        if ask_for is not None:
            COLLECTION.setdefault(ask_for, []).append(cls)

    def columns(self, layout: Layout) -> list[str]:
        """The names of the columns, "<quantity>/<layer>"."""
        return [f"{self.name}/{name}" for name in ("global", *layout.groups)]

    @abc.abstractmethod
    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        """The values of the columns, in float64, shape (columns,)."""

    def begin_fit(self) -> None:  # noqa: B027, most quantities have no state
        """Reset the state of the quantity at the start of a fit."""

    def begin_epoch(self) -> None:  # noqa: B027, most quantities have no state
        """Reset the state of the quantity at the start of an epoch."""


class GradientQuantity(Quantity):
    """A quantity that is measured on each variable's gradient and joined for each layer.

    A subclass defines `measure`. It may replace `segment`, which joins measurements, and `finish`,
    which computes the values from the joined measurements.
    """

    width: ClassVar[int] = 1

    @staticmethod
    def segment(values: tf.Tensor, segments: tf.Tensor, count: int) -> tf.Tensor:
        """The joined rows of each segment, default their sum."""
        return tf.math.unsorted_segment_sum(values, segments, count)

    @abc.abstractmethod
    def measure(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """The measurements of each tensor, in float64, shape (tensors, width)."""

    def finish(self, totals: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        """The values, shape (1 + groups, width).

        Args:
            totals: the joined measurements, shape (1 + groups, width).
            sizes: the numbers of elements, shape (1 + groups, 1).
        """
        return totals

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        measured, variables = step.measured(self)
        counts = [[float(math.prod(variable.shape))] for variable in variables]
        sizes = layout.totals(tf.constant(counts, tf.float64), variables)
        joined = layout.totals(measured, variables, self.segment)
        values = self.finish(joined, sizes)
        unknown = [step.updates_none_of(group) for group in layout.groups.values()]
        if any(unknown):
            nan = tf.constant(np.nan, tf.float64)
            values = tf.where(tf.constant([False, *unknown])[:, tf.newaxis], nan, values)
        return tf.reshape(values, [-1])


class GradientNorm(GradientQuantity):
    """sqrt(sum(gradient**2))"""

    name = "gradient_norm"

    def __init__(self, compiled: bool = True) -> None:
        # Whether XLA compiles the step.
        self._compiled = compiled

    def measure(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.square(norms(tensors, self._compiled))[:, tf.newaxis]

    def finish(self, totals: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(totals)


class GradientNorm1(GradientQuantity, ask_for="norm_1"):
    """sum(abs(gradient))"""

    name = "gradient_norm_1"

    def measure(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.stack([[total(tf.abs(tensor))] for tensor in tensors])


class GradientMeanAbsolute(GradientNorm1, ask_for="mean_absolute"):
    """mean(abs(gradient))"""

    name = "gradient_mean_absolute"

    def finish(self, totals: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        return totals / sizes


class GradientNormInfinity(GradientQuantity, ask_for="norm_inf"):
    """max(abs(gradient))"""

    name = "gradient_norm_inf"

    def measure(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        largest = [tf.reduce_max(tf.abs(tensor)) for tensor in tensors]
        return tf.stack([[tf.cast(one, tf.float64)] for one in largest])

    @staticmethod
    def segment(values: tf.Tensor, segments: tf.Tensor, count: int) -> tf.Tensor:
        # The maximum of a segment ignores NaN, so NaN is added after it. The maximum of an empty
        # segment is the lowest number, which becomes 0.
        nan = tf.where(tf.math.is_nan(values), values, 0)
        largest = tf.maximum(tf.math.unsorted_segment_max(values, segments, count), 0)
        return largest + tf.math.unsorted_segment_sum(nan, segments, count)


class GradientHistogram(GradientQuantity, ask_for="histogram"):
    """Numbers of elements in bins of abs(gradient).

    The bins are 0, below 1e-12, each power of ten from 10**k to 10**(k + 1), 1e3 and more, and not
    finite.
    """

    name = "gradient_histogram"
    logged = False
    lowest: ClassVar[int] = -12
    highest: ClassVar[int] = 3
    labels: ClassVar[tuple[str, ...]] = (
        "0",
        f"<1e{lowest}",
        *(f"1e{k}" for k in range(lowest, highest)),
        f">=1e{highest}",
        "not finite",
    )
    width = len(labels)

    def measure(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.stack([self._counts(at_least_float32(tensor)) for tensor in tensors])

    def _counts(self, tensor: tf.Tensor) -> tf.Tensor:
        size = tf.abs(tf.reshape(tensor, [-1]))
        # Bin 2 begins at 10**lowest; bin 1 has everything below, except 0.
        decade = tf.floor(tf.experimental.numpy.log10(size)) - (self.lowest - 2)
        bins = tf.where(size == 0, tf.zeros_like(size), tf.clip_by_value(decade, 1, self.width - 2))
        bins = tf.cast(tf.where(tf.math.is_finite(size), bins, self.width - 1), tf.int32)
        return tf.math.unsorted_segment_sum(tf.ones_like(bins, tf.float64), bins, self.width)

    def finish(self, totals: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        # A sparse gradient shows other numbers of zeros than the variable has.
        others = totals[:, 1:]
        zeros = sizes - tf.reduce_sum(others, axis=1, keepdims=True)
        return tf.concat([zeros, others], axis=1)

    def columns(self, layout: Layout) -> list[str]:
        owners = ("global", *layout.groups)
        return [f"{self.name}[{label}]/{owner}" for owner in owners for label in self.labels]


class GradientClipped(Quantity):
    """1 if the optimizer's clipping changed the gradient, otherwise 0.

    NaN with gradient accumulation, where the clipped gradient is not visible, and where the
    gradients are computed within a branch or a tf.function of the train step. It is recorded
    whenever an optimizer has `clipnorm`, `clipvalue` or `global_clipnorm`.
    """

    name = "gradient_clipped"

    def columns(self, layout: Layout) -> list[str]:
        return [f"{self.name}/global"]

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        if step.is_hidden:
            return tf.constant([np.nan], tf.float64)
        acted = [_clipped(optimizer, step.reaching(optimizer)) for optimizer in step.optimizers()]
        return tf.minimum(over_replicas(tf.reduce_max(tf.stack(acted), keepdims=True)), 1)


def clips(optimizer: keras.optimizers.Optimizer) -> bool:
    """True if an optimizer clips gradients."""
    optimizer = clipping(optimizer)
    return bool(optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm)


def _clipped(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor | tf.IndexedSlices]
) -> tf.Tensor:
    """1.0 if one of the gradients exceeds the optimizer's threshold, otherwise 0.0."""
    optimizer = clipping(optimizer)
    if not clips(optimizer) or not gradients:
        return tf.constant(0.0, tf.float64)
    if optimizer.gradient_accumulation_steps:
        return tf.constant(np.nan, tf.float64)
    if optimizer.clipvalue:
        dense = [nonzero_rows(gradient) for gradient in gradients]
        largest = tf.reduce_max(GradientNormInfinity().measure(dense))
        threshold = optimizer.clipvalue
        return tf.cast(largest > threshold, tf.float64)
    # Keras clips the norm of a sparse gradient's rows, in which equal rows are not added up.
    tensors = [getattr(gradient, "values", gradient) for gradient in gradients]
    if optimizer.clipnorm:
        largest = tf.reduce_max(norms(tensors))
        threshold = optimizer.clipnorm
    else:
        largest = tf.norm(norms(tensors))
        threshold = optimizer.global_clipnorm
    return tf.cast(largest > threshold, tf.float64)


class UpdateRatio(Quantity, ask_for="update_ratio"):
    """norm(change of the weights in the step) / norm(weights before it)

    NaN where all weights were 0 before.
    """

    name = "update_ratio"
    weights = True

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        variables = [variable for _, _, variable in step.gradients]
        before = [step.weights_before[id(variable)] for variable in variables]
        change = [variable.value - value for variable, value in zip(variables, before, strict=True)]
        changed = layout.totals(tf.square(norms(change)), variables)
        held = layout.totals(tf.square(norms(before)), variables)
        return tf.where(held > 0, tf.sqrt(changed / held), np.nan)


def total(tensor: tf.Tensor) -> tf.Tensor:
    """The sum of all elements, in float64."""
    return tf.cast(tf.reduce_sum(tensor), tf.float64)


def over_replicas(tensor: tf.Tensor) -> tf.Tensor:
    """The sum of a tensor over the replicas."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensor
    # Not all_reduce: its collective operations are numbered, and those of another model would get
    # the same numbers.
    return replica.merge_call(
        lambda strategy, parts: tf.add_n(strategy.experimental_local_results(parts)), (tensor,)
    )
