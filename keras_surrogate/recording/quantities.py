"""The numbers that can be recorded of a train step: one class for each, found by name. Here those of gradients.

A quantity says what its columns are called and, from what a traced `taps.Step` has shown, computes
their values in graph. Where there are several replicas each computes the same values, those of the
joined batch.
"""

import abc
import dataclasses
import math

import numpy as np
import tensorflow as tf

from keras_surrogate.recording.norms import at_least_float32, norms, totals
from keras_surrogate.recording.optimizers import innermost

# The classes of the optional quantities by the name under which a user asks for them.
COLLECTION = {}


def names():
    """The names that `GradientNormLogger(also=...)` takes."""
    return tuple(COLLECTION)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the columns are about.

    Attributes:
        groups: a dictionary from the name of a layer (or of a variable) to its trainable variables.
        layers: a dictionary from name to layer, of the layers whose outputs are observed.
    """

    groups: dict
    layers: dict

    def is_of(self, variables):
        """Whether the groups are made of just these variables."""
        return {id(v) for group in self.groups.values() for v in group} == {
            id(variable) for variable in variables
        }

    def totals(self, values, variables, segment=tf.math.unsorted_segment_sum):
        """`norms.totals` for the groups."""
        return totals(values, variables, self.groups, segment)


class Quantity(abc.ABC):
    """A number, or several, recorded of each step.

    What a class declares:
        name: what its columns begin with, and the keys in Keras's logs.
        logged: whether it goes into Keras's logs, as the mean over an epoch's steps; default True.
        weights, outputs, deltas: whether it needs the step to show these; default False.
        last: whether an epoch's value is that of its last step, and not the mean; default False.
    """

    logged = True
    weights = outputs = deltas = last = False

    def __init_subclass__(cls, ask_for=None):
        if ask_for is not None:
            COLLECTION.setdefault(ask_for, []).append(cls)

    def columns(self, layout):
        """The names of the columns, "<quantity>/<layer>"."""
        return [f"{self.name}/{name}" for name in ("global", *layout.groups)]

    @abc.abstractmethod
    def values(self, step, layout):
        """The values of the columns, in float64, shape (columns,)."""

    def begin_epoch(self):  # noqa: B027, most have nothing to forget
        """Forgets what concerns one epoch."""


class GradientQuantity(Quantity):
    """What is measured on each variable's gradient, put together for each layer.

    A subclass defines `measure`, and may replace how the parts are joined and what is made of the
    totals.
    """

    width = 1
    segment = staticmethod(tf.math.unsorted_segment_sum)

    @abc.abstractmethod
    def measure(self, tensors):
        """In float64, shape (tensors, width)."""

    def finish(self, totals, sizes):
        """The values, shape (1 + groups, width), from the joined parts and the numbers of elements."""
        return totals

    def values(self, step, layout):
        measured, variables = step.measured(self)
        sizes = layout.totals(
            tf.constant([[float(math.prod(v.shape))] for v in variables], tf.float64), variables
        )
        return tf.reshape(
            self.finish(layout.totals(measured, variables, self.segment), sizes), [-1]
        )


class GradientNorm(GradientQuantity):
    """sqrt(sum(gradient**2))"""

    name = "gradient_norm"

    def measure(self, tensors):
        return tf.square(norms(tensors))[:, tf.newaxis]

    def finish(self, totals, sizes):
        return tf.sqrt(totals)


class GradientNorm1(GradientQuantity, ask_for="norm_1"):
    """sum(abs(gradient))"""

    name = "gradient_norm_1"

    def measure(self, tensors):
        return tf.stack([[total(tf.abs(tensor))] for tensor in tensors])


class GradientMeanAbsolute(GradientNorm1, ask_for="mean_absolute"):
    """mean(abs(gradient))"""

    name = "gradient_mean_absolute"

    def finish(self, totals, sizes):
        return totals / sizes


class GradientNormInfinity(GradientQuantity, ask_for="norm_inf"):
    """max(abs(gradient))"""

    name = "gradient_norm_inf"

    def measure(self, tensors):
        return tf.stack(
            [[tf.cast(tf.reduce_max(tf.abs(tensor)), tf.float64)] for tensor in tensors]
        )

    @staticmethod
    def segment(values, segments, count):
        # The maximum of a segment ignores NaN, and is the lowest number where there is none.
        nan = tf.where(tf.math.is_nan(values), values, 0)
        largest = tf.maximum(tf.math.unsorted_segment_max(values, segments, count), 0)
        return largest + tf.math.unsorted_segment_sum(nan, segments, count)


class GradientHistogram(GradientQuantity, ask_for="histogram"):
    """How many elements have an absolute value of 0, from 10**k to 10**(k + 1) for each k, and which are not finite."""

    name = "gradient_histogram"
    logged = False
    lowest, highest = -12, 3
    labels = (
        "0",
        f"<1e{lowest}",
        *(f"1e{k}" for k in range(lowest, highest)),
        f">=1e{highest}",
        "not finite",
    )
    width = len(labels)

    def measure(self, tensors):
        return tf.stack([self._counts(at_least_float32(tensor)) for tensor in tensors])

    def _counts(self, tensor):
        size = tf.abs(tf.reshape(tensor, [-1]))
        decade = tf.floor(tf.experimental.numpy.log10(size)) - (self.lowest - 2)
        bins = tf.where(size == 0, tf.zeros_like(size), tf.clip_by_value(decade, 1, self.width - 2))
        bins = tf.cast(tf.where(tf.math.is_finite(size), bins, self.width - 1), tf.int32)
        return tf.math.unsorted_segment_sum(tf.ones_like(bins, tf.float64), bins, self.width)

    def columns(self, layout):
        owners = ("global", *layout.groups)
        return [f"{self.name}[{label}]/{owner}" for owner in owners for label in self.labels]


class GradientClipped(Quantity):
    """1 where the optimizer's clipping changed the gradient, 0 where not.

    NaN with gradient accumulation, which hides what is clipped. It is recorded whenever an
    optimizer has `clipnorm`, `clipvalue` or `global_clipnorm`.
    """

    name = "gradient_clipped"

    def columns(self, layout):
        return [f"{self.name}/global"]

    def values(self, step, layout):
        acted = [_clips(optimizer, step.unscaled(optimizer)) for optimizer in step.optimizers()]
        return tf.minimum(over_replicas(tf.reduce_max(tf.stack(acted), keepdims=True)), 1)


def clips(optimizer):
    """Whether an optimizer clips gradients."""
    optimizer = innermost(optimizer)
    return bool(optimizer.clipnorm or optimizer.clipvalue or optimizer.global_clipnorm)


def _clips(optimizer, tensors):
    """1.0 where one of the gradients exceeds the optimizer's threshold, else 0.0."""
    optimizer = innermost(optimizer)
    if not clips(optimizer):
        return tf.constant(0.0, tf.float64)
    if optimizer.gradient_accumulation_steps:
        return tf.constant(np.nan, tf.float64)
    if optimizer.clipvalue:
        largest, threshold = (
            tf.reduce_max(GradientNormInfinity().measure(tensors)),
            optimizer.clipvalue,
        )
    elif optimizer.clipnorm:
        largest, threshold = tf.reduce_max(norms(tensors)), optimizer.clipnorm
    else:
        largest, threshold = tf.norm(norms(tensors)), optimizer.global_clipnorm
    return tf.cast(largest > threshold, tf.float64)


class UpdateRatio(Quantity, ask_for="update_ratio"):
    """norm(change of the weights in the step) / norm(weights before it); NaN where these were all 0."""

    name = "update_ratio"
    weights = True

    def values(self, step, layout):
        variables = [variable for _, _, variable in step.gradients]
        before = [step.weights_before[id(variable)] for variable in variables]
        change = [variable.value - value for variable, value in zip(variables, before, strict=True)]
        changed, held = (
            layout.totals(tf.square(norms(tensors)), variables) for tensors in (change, before)
        )
        return tf.where(held > 0, tf.sqrt(changed / held), np.nan)


def total(tensor):
    """The sum of all elements, in float64."""
    return tf.cast(tf.reduce_sum(tensor), tf.float64)


def over_replicas(tensor):
    """The sum of what the replicas have."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensor
    # Not all_reduce: its collective operations are numbered, and would get mixed up with those of
    # another model.
    return replica.merge_call(
        lambda strategy, parts: tf.add_n(strategy.experimental_local_results(parts)), (tensor,)
    )
