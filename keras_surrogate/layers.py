"""Keras layers: thin faces over surrogates."""

import keras

from keras_surrogate import presets
from keras_surrogate.surrogate import Surrogate


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateActivation(keras.layers.Layer):
    """An activation layer whose value is `forward`'s and whose derivative is `scale` times `backward`'s.

    Args:
        forward: a function's name, configuration, callable or `Function`; or, without `backward`, also what
            `keras_surrogate.get` takes: a `Surrogate`, a preset's name ("sugar_bsilu") or a surrogate's configuration.
        backward: the function whose slope the backward pass takes. Default: that of `forward`.
        scale: multiplies the slope; any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: tensors of any shape, the same for both.

    Raises:
        ValueError: as `Surrogate`.
    """

    def __init__(self, forward, backward=None, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        pair = presets.get(forward) if backward is None else Surrogate(forward, backward)
        self.surrogate = pair.scaled(scale)
        self.supports_masking = True

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        return self.surrogate(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.surrogate.get_config()}
