"""Initial weights that put a pair of value and slope at criticality."""

import keras

from keras_surrogate import presets
from keras_surrogate.theory.criticality import critical_weight_variance


@keras.saving.register_keras_serializable(package="keras_surrogate")
class CriticalNormal(keras.initializers.VarianceScaling):
    """Normal weights with which signal and gradient of a surrogate neither vanish nor explode with depth.

        W ~ N(0, sigma_w**2 / fan_in)        sigma_w**2 = theory.critical_weight_variance(surrogate, ...)

    For ReLU this is He's initializer, without truncation, for tanh LeCun's. For `fan_in` of
    convolutions the kernel's size counts, as everywhere in Keras.

    Args:
        surrogate: the activation of the layer's input; whatever `keras_surrogate.get` takes.
        bias_variance: of the layers' biases, in [0, inf), default 0.
        input_variance: the mean square of the network's input, in [0, inf), default 1.
        signal_variance: a variance q of the pre-activations at which chi = 1 instead; default None,
            where the signal comes to rest.
        seed: an integer or a `keras.random.SeedGenerator`; default None, any.

    Shape: of any kernel that a Keras layer asks for.

    Raises:
        ValueError: an unknown surrogate, an argument out of range, or a pair for which no weights
            keep both signal and gradient, as ReLU with most other slopes: give
            `theory.balance(surrogate, ...)`.

    Source: Schoenholz et al. 2017, arXiv:1611.01232; for pairs, this package.
    """

    def __init__(
        self, surrogate, bias_variance=0.0, input_variance=1.0, signal_variance=None, seed=None
    ):
        self.surrogate = presets.get(surrogate)
        self.bias_variance, self.input_variance = bias_variance, input_variance
        self.signal_variance = signal_variance
        scale = critical_weight_variance(
            self.surrogate, bias_variance, input_variance, signal_variance=signal_variance
        )
        super().__init__(scale, "fan_in", "untruncated_normal", seed)

    def get_config(self):
        return {
            "surrogate": self.surrogate.get_config(),
            "bias_variance": self.bias_variance,
            "input_variance": self.input_variance,
            "signal_variance": self.signal_variance,
            "seed": super().get_config()["seed"],
        }
