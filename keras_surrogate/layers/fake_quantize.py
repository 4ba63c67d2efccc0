"""`FakeQuantize`: activations of few levels within a moving range."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.checks import integer
from keras_surrogate.custom_gradient import Use, applied


@keras.saving.register_keras_serializable(package="keras_surrogate")
class FakeQuantize(keras.layers.Layer):
    """Rounds its input to 2**bits levels between a moving minimum and a moving maximum.

        step = (high - low) / (2**bits - 1)
        y = step * round(clip(x, low, high) / step)
        dL/dx = dL/dy where low <= x <= high, else 0

    The range always includes 0, and it is shifted by less than a step so that 0 is a level. In
    training low and high follow the batches,

        low = momentum * low + (1 - momentum) * min(x)        high likewise, with max(x)

    where the first batch sets them, unless `observe` did before. Inference does not change them,
    nor does training while `trainable` is False.
    A conversion to LiteRT reads the range from this operation.

    Args:
        bits: the number of bits, an integer from 2 to 8; default 8.
        momentum: the weight of the old range, from 0 to below 1; default 0.99.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer. The range is float32, and the input
            is rounded in float32, whatever the dtype.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `bits` or `momentum` is out of range.

    Source: Jacob et al. 2018, arXiv:1712.05877.
    """

    def __init__(self, bits: int = 8, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = integer(bits, "FakeQuantize: bits", 2)
        if self.bits > 8:
            raise ValueError(f"FakeQuantize: bits must be an integer from 2 to 8, but is {bits}.")
        self.momentum = functions.real_number(
            momentum, "FakeQuantize", "momentum", "from 0 to below 1", lambda share: 0 <= share < 1
        )
        # True while `conversion.quantize` sets the ranges.
        self.observing = False
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        # Before any batch the range is that of most normalised activations.
        self.low = self._range("low", -6.0)
        self.high = self._range("high", 6.0)
        self.batches_seen = self._range("batches_seen", 0.0)

    def _range(self, name: str, initial: float) -> keras.Variable:
        return self.add_weight(
            (),
            keras.initializers.Constant(initial),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="mean",
            name=name,
        )

    def observe(self, x: tf.Tensor) -> None:
        """Set the range to that of `x`; later calls widen it.

        Args:
            x: a floating tensor or array, an input of this layer.
        """
        low, high = _ends(x)
        if float(self.batches_seen.numpy()) > 0:
            low = tf.minimum(low, self.low.value)
            high = tf.maximum(high, self.high.value)
        self.low.assign(low)
        self.high.assign(high)
        self.batches_seen.assign(1.0)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if self.observing:
            self.observe(inputs)
        elif training and self.trainable:
            self._follow(inputs)
        x = tf.cast(inputs, tf.float32)
        low = tf.convert_to_tensor(self.low.value)
        high = tf.convert_to_tensor(self.high.value)

        def rounded(x):
            return tf.quantization.fake_quant_with_min_max_vars(x, low, high, self.bits)

        def clipped(x):
            # The range as it is shifted: what lies far beyond its ends becomes these ends.
            reach = 2 * (high - low)
            ends = tf.stop_gradient(rounded(tf.stack([low - reach, high + reach])))
            return tf.clip_by_value(x, ends[0], ends[1])

        return tf.cast(applied(Use(x, rounded, clipped)), inputs.dtype)

    def _follow(self, inputs: tf.Tensor) -> None:
        low, high = _ends(inputs)
        # The first batch replaces the initial range.
        is_first = self.batches_seen.value == 0
        share = 1 - self.momentum
        for end, now in ((self.low, low), (self.high, high)):
            old = end.value
            end.assign(tf.where(is_first, now, old + share * (now - old)))
        self.batches_seen.assign(tf.ones_like(self.batches_seen.value))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits, "momentum": self.momentum}


def _ends(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The smallest and largest element, in float32, of `x` and 0."""
    x = tf.stop_gradient(tf.cast(x, tf.float32))
    return tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
