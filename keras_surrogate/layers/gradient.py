"""The identity with another gradient."""

from __future__ import annotations

from typing import Any

import keras

from keras_surrogate import functions
from keras_surrogate.layers.elementwise import Elementwise
from keras_surrogate.surrogate import Surrogate


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientScale(Elementwise):
    """The identity with its gradient multiplied by a constant.

        y = x        dL/dx = scale * dL/dy

    Args:
        scale: any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `scale` is not a finite number, or the input is not floating.

    Source: as `GradientReversal`, for any sign; the same as `Surrogate("linear", scale=scale)`.
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        scale = functions.real_number(scale, "GradientScale", "scale")
        super().__init__(Surrogate("linear", scale=scale), **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.surrogate.scale}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientReversal(Elementwise):
    """The identity with a reversed gradient: the layers before it learn to increase the loss.

        y = x        dL/dx = -weight * dL/dy

    Args:
        weight: the factor of the reversed gradient; any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `weight` is not a finite number, or the input is not floating.

    Source: Ganin and Lempitsky 2015, arXiv:1409.7495; requested in keras#3119.
    """

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        weight = functions.real_number(weight, "GradientReversal", "weight")
        super().__init__(Surrogate("linear", scale=-weight), **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": -self.surrogate.scale}
