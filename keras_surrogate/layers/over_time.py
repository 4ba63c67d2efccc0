"""A layer without memory, applied to all time steps at once."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import tensorflow as tf

from keras_surrogate.layers.encoders import DeltaEncoder, Encoder
from keras_surrogate.layers.neuron_layer import NeuronLayer
from keras_surrogate.layers.readouts import Readout
from keras_surrogate.layers.spiking_cell import SpikingCell


@keras.saving.register_keras_serializable(package="keras_surrogate")
class OverTime(keras.layers.Wrapper):
    """A layer applied to all time steps at once, as if they were further samples of the batch.

        y[:, t] = layer(x[:, t])

    One large multiplication replaces one for each step: `keras.layers.TimeDistributed` loops.
    A layer with statistics over the batch, such as `BatchNormalization`, takes them over batch and
    time. A mask of the time steps is passed on, and `BatchNormalization` leaves masked steps out.

    Args:
        layer: a Keras layer with one input and one output: Dense, Conv2D, pooling, normalisation,
            dropout, a Sequential or functional model. Not a layer that runs over the time axis
            itself: spiking layers, encoders, readouts.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, time, ...), time may be unknown. Output: shape (batch, time, ...), with the
    rest as `layer` makes it.

    Raises:
        ValueError: `layer` is no Keras layer, or has a time axis of its own, or the input has no
            axis besides batch and time.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                f"OverTime needs a Keras layer, such as keras.layers.Dense(10), but got {layer!r}."
            )
        if is_over_time(layer):
            raise ValueError(
                f"OverTime: {type(layer).__name__} runs over the time axis by itself. Use it "
                "without OverTime."
            )
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(_of_a_step(input_shape))
        self.built = True

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        inputs = tf.convert_to_tensor(inputs)
        _of_a_step(inputs.shape)
        shape = tf.shape(inputs)
        # From (batch, time, ...) to (batch * time, ...), with what is known of the shape.
        folded = tf.reshape(inputs, tf.concat([[-1], shape[2:]], axis=0))
        folded = tf.ensure_shape(folded, [None, *inputs.shape[2:]])
        outputs = self.layer(folded, **self._arguments(training, mask, folded.shape.rank))
        if outputs.dtype.is_floating:
            # The dtype that Keras tells of this layer.
            outputs = tf.cast(outputs, self.compute_dtype)
        unfolded = tf.reshape(outputs, tf.concat([shape[:2], tf.shape(outputs)[1:]], axis=0))
        return tf.ensure_shape(unfolded, [*inputs.shape[:2], *outputs.shape[1:]])

    def _arguments(
        self, training: bool | None, mask: tf.Tensor | None, rank: int
    ) -> dict[str, Any]:
        arguments = {}
        if "training" in inspect.signature(self.layer.call).parameters:
            arguments["training"] = training
        if mask is not None and isinstance(self.layer, keras.layers.BatchNormalization):
            # One entry for each folded sample, with an axis of 1 for each but the last.
            arguments["mask"] = tf.reshape(mask, [-1] + [1] * (rank - 2))
        return arguments

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = self.layer.compute_output_shape(_of_a_step(input_shape))
        return (*input_shape[:2], *shape[1:])


def is_over_time(layer: keras.layers.Layer) -> bool:
    """True for this package's layers that have a time axis of their own."""
    is_recurrent = isinstance(getattr(layer, "cell", None), SpikingCell)
    return is_recurrent or isinstance(layer, NeuronLayer | Encoder | DeltaEncoder | Readout)


def _of_a_step(shape: Any) -> tuple[int | None, ...]:
    """The shape of the folded samples."""
    if len(shape) < 3:
        raise ValueError(
            "OverTime needs inputs of shape (batch, time, ...), such as (None, 25, 100), but got "
            f"{tuple(shape)}. For an input without time put layers.ConstantCurrent(steps) before."
        )
    return (None, *shape[2:])
