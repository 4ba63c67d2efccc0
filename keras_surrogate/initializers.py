"""Initial weights: at criticality, and such that few units are born dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_surrogate import checks, functions, presets
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


@keras.saving.register_keras_serializable(package="keras_surrogate")
class RandomizedAsymmetric(keras.initializers.Initializer):
    """Weights and bias of which one, drawn anew for each unit, is positive and large.

        V ~ N(0, sigma_w**2 / fan_in), shape (fan_in + 1, units): the kernel, and the bias below it
        V[k, j] = Beta(2, 1) for each unit j, with k uniform over 0, ..., fan_in

        Dense(
            64,
            "relu",
            kernel_initializer=RandomizedAsymmetric(seed=1),
            bias_initializer=RandomizedAsymmetric(seed=1, fan_in=100),
        )

    In deep and narrow ReLU networks fewer networks are born dead than with symmetric weights. The
    large element of a unit may be its bias, so a kernel and its bias need the same seed, and
    different layers different ones. Without the bias initializer, about one unit in fan_in + 1 has
    no large element.

    Args:
        seed: an integer of at least 0.
        fan_in: the number of inputs of a unit, for a bias; for a convolution, size of the kernel
            times input channels. Default None: that of the kernel.
        sigma_w: default 0.6007, the paper's value, for which a ReLU layer keeps the size of its
            signal. A number of at least 0.

    Shape: that of a kernel whose last axis are the units (Dense, Conv); or (units,) with `fan_in`.

    Raises:
        ValueError: an argument out of range; a bias without `fan_in`.

    Source: Lu et al. 2019, arXiv:1903.06733, section 4 and the code of its appendix.
    """

    def __init__(self, seed: int, fan_in: int | None = None, sigma_w: float = 0.6007) -> None:
        self.seed = checks.integer(seed, "RandomizedAsymmetric: seed", least=0)
        self.fan_in = fan_in
        if fan_in is not None:
            self.fan_in = checks.integer(fan_in, "RandomizedAsymmetric: fan_in")
        self.sigma_w = functions.real_number(
            sigma_w, "RandomizedAsymmetric", "sigma_w", "at least 0", lambda sigma: sigma >= 0
        )

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        *inputs, units = (int(length) for length in shape)
        fan_in = self.fan_in
        if inputs:
            fan_in = int(np.prod(inputs))
        if fan_in is None:
            raise ValueError(
                f"RandomizedAsymmetric: a bias, of shape {tuple(shape)}, needs the number of "
                "inputs of the kernel, and its seed: RandomizedAsymmetric(seed=1, fan_in=100)."
            )
        # The place and the size of the large element are the same for a kernel and its bias.
        shared = np.random.default_rng([self.seed, 0])
        place = shared.integers(0, fan_in + 1, units)
        large = shared.beta(2, 1, units)
        own = np.random.default_rng([self.seed, 1 if inputs else 2])
        rows = fan_in if inputs else 1
        values = own.normal(0, self.sigma_w / fan_in**0.5, (rows, units))
        first = 0 if inputs else fan_in
        inside = np.flatnonzero((place >= first) & (place < first + rows))
        values[place[inside] - first, inside] = large[inside]
        return keras.ops.convert_to_tensor(values.reshape(shape), dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed, "fan_in": self.fan_in, "sigma_w": self.sigma_w}
