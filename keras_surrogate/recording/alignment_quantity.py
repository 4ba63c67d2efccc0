"""The quantity that compares the gradient with a reference, in sampled steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_surrogate.recording.quantities import Layout, Quantity

if TYPE_CHECKING:
    from keras_surrogate.recording.taps import TracedStep


class Alignment(Quantity, ask_for="alignment"):
    """The cosine of the gradient with the true one, or with that of the smooth network.

    The reference is the gradient with the true slopes; where a true slope is 0 everywhere, it is
    that of the network within `keras_surrogate.smooth_forward`. NaN in steps that are not sampled,
    and where one of the two gradients is 0. 1 in a model without surrogates.
    """

    name = "alignment"
    rehearsed = True

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        variables = [variable for group in layout.groups.values() for variable in group]
        places = {key: place for place, key in enumerate(step.rehearsed_variables)}
        rows = tf.gather(step.rehearsed, [places[id(variable)] for variable in variables])
        # A variable without a gradient counts as one of zeros, except where none has one.
        missing = tf.math.is_nan(rows)
        none = layout.totals(tf.cast(~missing, tf.float64), variables)[:, 0] == 0
        own, other, both = tf.unstack(
            layout.totals(tf.where(missing, tf.zeros_like(rows), rows), variables), axis=1
        )
        lengths = tf.sqrt(own) * tf.sqrt(other)
        is_defined = (lengths > 0) & tf.math.is_finite(lengths) & ~none
        return tf.where(is_defined, both / lengths, np.nan)
