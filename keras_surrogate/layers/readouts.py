"""Readouts: spikes or potentials over time into one prediction, for Keras's own losses."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import checks
from keras_surrogate.layers.time_loop import over_units


class Readout(keras.layers.Layer):
    """The base of the readouts, which remove the time axis, axis 1.

    A subclass defines `readout(inputs, mask)`, with a mask of the shape (batch, time, 1, ..., 1) or
    None.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        name = type(self).__name__
        checks.one_tensor(input_shape, name)
        if len(input_shape) < 2:
            raise ValueError(
                f"{name} needs inputs of shape (batch, time, ...), but got {tuple(input_shape)}."
            )
        if input_shape[1] == 0:
            raise ValueError(
                f"{name} needs at least one time step, but got the shape {tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs = tf.convert_to_tensor(inputs)
        if mask is not None:
            mask = over_units(mask, inputs)
        return self.readout(inputs, mask)

    def readout(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        raise TypeError(f"{type(self).__name__} does not define readout(inputs, mask).")

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *input_shape[2:])


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SpikeCount(Readout):
    """The number of spikes of each unit.

        y = sum over t of x[:, t]

    Args:
        average: True divides by the number of steps, which gives the firing rate; default False.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, time, ...); masked steps do not count. Output: shape (batch, ...).

    Raises:
        ValueError: `average` is not a bool, or the input has no time.
    """

    def __init__(self, average: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(average, bool):
            raise ValueError(f"SpikeCount: average must be True or False, but is {average!r}.")
        self.average = average

    def readout(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        if mask is None:
            counted = tf.ones_like(inputs[:1, :, ...])
        else:
            counted = tf.cast(mask, inputs.dtype)
            inputs = inputs * counted
        total = tf.reduce_sum(inputs, axis=1)
        if not self.average:
            return total
        # At least 1, for samples that are masked altogether.
        return total / tf.maximum(tf.reduce_sum(counted, axis=1), 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average": self.average}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LastPotential(Readout):
    """The potential after the last step, or after the last step that is not masked.

        y = x[:, -1]

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, time, ...). Output: shape (batch, ...); 0 for samples that are masked
    altogether.

    Raises:
        ValueError: the input has no time.
    """

    def readout(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        if mask is None:
            return inputs[:, -1]
        # 1 in the last step that is not masked: no such step follows it.
        present = tf.cast(mask, inputs.dtype)
        following = tf.cumsum(present, axis=1, exclusive=True, reverse=True)
        last = present * tf.cast(tf.equal(following, 0), inputs.dtype)
        return tf.reduce_sum(inputs * last, axis=1)


@keras.saving.register_keras_serializable(package="keras_surrogate")
class MaxPotential(Readout):
    """The largest potential over time.

        y = max over t of x[:, t]

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, time, ...); masked steps do not count. Output: shape (batch, ...); 0 for
    samples that are masked altogether.

    Raises:
        ValueError: the input has no time.

    Source: Cramer et al. 2022, doi:10.1109/TNNLS.2020.3044364, the max-over-time loss.
    """

    def readout(self, inputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
        if mask is None:
            return tf.reduce_max(inputs, axis=1)
        lowest = tf.constant(inputs.dtype.min, inputs.dtype)
        largest = tf.reduce_max(tf.where(mask, inputs, lowest), axis=1)
        return tf.where(tf.reduce_any(mask, axis=1), largest, tf.zeros_like(largest))
