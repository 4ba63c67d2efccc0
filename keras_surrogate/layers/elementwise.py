"""The base of the layers that apply one surrogate to each element."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_surrogate.surrogate import Surrogate


class Elementwise(keras.layers.Layer):
    """A layer that applies a surrogate to inputs of any shape and passes masks on."""

    surrogate: Surrogate

    def __init__(self, surrogate: Surrogate, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.surrogate = surrogate
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.surrogate(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
