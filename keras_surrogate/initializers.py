"""Initial weights that put a pair of value and slope at criticality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from keras_surrogate import presets
from keras_surrogate.theory.criticality import critical_weight_variance

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike


@keras.saving.register_keras_serializable(package="keras_surrogate")
class CriticalNormal(keras.initializers.VarianceScaling):
    """Normal weights at criticality: signal and gradient keep their size over the layers.

        W ~ N(0, sigma_w**2 / fan_in)
        sigma_w**2 = theory.critical_weight_variance(surrogate, ...)

    For ReLU this is He's initializer without truncation, for tanh LeCun's. The `fan_in` of a
    convolution includes the size of its kernel, as in all of Keras.

    Args:
        surrogate: the activation of the layer's input; anything that `keras_surrogate.get` takes.
        bias_variance: the variance of the layers' biases, in [0, inf), default 0.
        input_variance: the mean square of the network's input, in [0, inf), default 1.
        signal_variance: the variance q of the pre-activations at which chi = 1; default None, the
            fixed point of the signal.
        seed: an integer or a `keras.random.SeedGenerator`; default None, a random seed.

    Shape: that of any kernel of a Keras layer.

    Raises:
        ValueError: an unknown surrogate, an argument out of range, or a pair without critical
            weights, as ReLU with most other slopes. Pass `theory.balance(surrogate, ...)` instead.

    Source: Schoenholz et al. 2017, arXiv:1611.01232; for pairs, this package.
    """

    def __init__(
        self,
        surrogate: SurrogateLike,
        bias_variance: float = 0.0,
        input_variance: float = 1.0,
        signal_variance: float | None = None,
        seed: int | keras.random.SeedGenerator | None = None,
    ) -> None:
        self.surrogate = presets.get(surrogate)
        self.bias_variance = bias_variance
        self.input_variance = input_variance
        self.signal_variance = signal_variance
        scale = critical_weight_variance(
            self.surrogate, bias_variance, input_variance, signal_variance=signal_variance
        )
        super().__init__(scale, "fan_in", "untruncated_normal", seed)

    def get_config(self) -> dict[str, Any]:
        return {
            "surrogate": self.surrogate.get_config(),
            "bias_variance": self.bias_variance,
            "input_variance": self.input_variance,
            "signal_variance": self.signal_variance,
            "seed": super().get_config()["seed"],
        }
