"""Batch normalisation folded into the layer before it: one layer with the same outputs.

kernel' = kernel * f        bias' = (bias - mean) * f + beta        f = gamma / sqrt(var + eps)
"""

from __future__ import annotations

import keras
import numpy as np

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_PLAIN = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
FOLDABLE = (*_PLAIN, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE)


def is_foldable(layer: keras.layers.Layer, normalization: keras.layers.Layer) -> bool:
    """True if a normalisation of a layer's output is a scale and a shift of its channels."""
    # Not isinstance, because a subclass may use its kernel in another way.
    if type(layer) not in FOLDABLE or layer.activation is not keras.activations.linear:
        return False
    kernels = 2 if isinstance(layer, _SEPARABLE) else 1
    if len(layer.weights) != kernels + layer.use_bias:
        # Such as a Dense layer after `enable_lora`.
        return False
    channels = getattr(layer, "data_format", "channels_last")
    axis = normalization.axis
    last = len(layer.output.shape) - 1
    return channels == "channels_last" and axis in (-1, last)


def folded(
    layer: keras.layers.Layer, normalization: keras.layers.BatchNormalization
) -> list[np.ndarray]:
    """The weights of a layer with bias that computes `normalization(layer(x))` of inference."""
    factor = normalization.moving_variance.numpy().astype("float64") + normalization.epsilon
    factor = factor**-0.5
    if normalization.scale:
        factor = factor * normalization.gamma.numpy()
    shift = np.zeros_like(factor)
    if normalization.center:
        shift = shift + normalization.beta.numpy()
    weights = [weight.numpy().astype("float64") for weight in layer.weights]
    bias = weights.pop() if layer.use_bias else np.zeros_like(factor)
    weights[-1] = weights[-1] * _for_kernel(layer, factor, weights[-1].shape)
    bias = (bias - normalization.moving_mean.numpy()) * factor + shift
    return [weight.astype("float32") for weight in [*weights, bias]]


def _for_kernel(
    layer: keras.layers.Layer, factor: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The factors of the output channels, in a shape that multiplies the last kernel."""
    if isinstance(layer, _DEPTHWISE):
        # (..., channels, multiplier)
        return factor.reshape(shape[-2:])
    if isinstance(layer, _TRANSPOSED):
        # (..., outputs, inputs)
        return factor[:, None]
    return factor
