"""Initial weights: at criticality, for spiking layers, and such that few units are born dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_surrogate import checks, functions, presets
from keras_surrogate.layers import neurons
from keras_surrogate.theory.criticality import critical_weight_variance
from keras_surrogate.theory.spiking import sustaining_weight_variance

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
class SustainedActivity(keras.initializers.VarianceScaling):
    """Normal weights with which all layers of a deep spiking network fire at the start.

        W ~ N(0, sigma_w**2 / fan_in)
        sigma_w**2 = theory.sustaining_weight_variance(neuron, rate, steps)

    With Glorot's weights (sigma_w**2 = 1) each layer fires less than the one before: with the
    default neuron the sixth is silent. With these, twenty layers of 128 units go on firing. It is
    for layers whose inputs are spikes, and whose outputs are currents of neurons; also for a first
    layer whose inputs have a mean square of about `rate`.

    Args:
        neuron: the neurons after the layer, a `layers.neurons.LIFNeuron` or `IFNeuron`; default
            None, LIFNeuron().
        rate: the firing rate of deep layers, spikes a step, in (0, 0.5], default 0.2. Rates below
            some 10 % are not sustained; see `theory.sustaining_weight_variance`.
        steps: the number of time steps, at least 1, default 25.
        seed: an integer or a `keras.random.SeedGenerator`; default None, a random seed.

    Shape: that of any kernel of a Keras layer.

    Raises:
        ValueError: an argument out of range, another neuron, or a rate that is not reached.

    Source: this package; the aim is that of Micheli et al. 2024, arXiv:2410.00580.
    """

    def __init__(
        self,
        neuron: neurons.SpikingNeuron | None = None,
        rate: float = 0.2,
        steps: int = 25,
        seed: int | keras.random.SeedGenerator | None = None,
    ) -> None:
        if neuron is None:
            neuron = neurons.LIFNeuron()
        if isinstance(neuron, dict):
            neuron = keras.saving.deserialize_keras_object(neuron)
        self.neuron = neuron
        self.rate = rate
        self.steps = steps
        scale = sustaining_weight_variance(neuron, rate, steps)
        super().__init__(scale, "fan_in", "untruncated_normal", seed)

    def get_config(self) -> dict[str, Any]:
        return {
            "neuron": keras.saving.serialize_keras_object(self.neuron),
            "rate": self.rate,
            "steps": self.steps,
            "seed": super().get_config()["seed"],
        }


@keras.saving.register_keras_serializable(package="keras_surrogate")
class FluctuationDriven(keras.initializers.Initializer):
    """Normal weights with which the potential of a spiking neuron fluctuates below its threshold.

        xi = (threshold - mean) / deviation

    is the distance of the threshold from the mean of the potential, in standard deviations over
    time. For independent input spikes of probability `rate` in each step, and without reset,

        mean        = fan_in * mu_w * rate / (1 - leak)
        deviation^2 = fan_in * (mu_w**2 + sigma_w**2) * rate * (1 - rate) / (1 - leak**2)

    which gives mu_w and sigma_w. Besides, the means of the units differ, with the deviation
    sqrt(fan_in) * sigma_w * rate / (1 - leak), which `xi` does not count; with much leak and high
    rates it is the larger one. The formula is for one layer. A stack falls silent with most
    settings, unless the layers happen to fire at `rate` as well: for many layers use
    `SustainedActivity`.

    Args:
        leak: the leak of the neurons, in [0, 1), default 0.9.
        threshold: their threshold, in (0, inf), default 1.
        rate: the probability of an input spike in each step, in (0, 1), default 0.05.
        xi: in (0, inf), 1 to 3 in the source, default 1.
        mean: the mean of the potential, below the threshold, default 0.
        seed: an integer or a `keras.random.SeedGenerator`; default None, a random seed.

    Shape: that of any kernel of a Keras layer; fan_in is the product of all axes but the last.

    Raises:
        ValueError: an argument out of range; when called, a mean that needs such large mean weights
            that they alone exceed the deviation.

    Source: Rossbroich, Gygax and Zenke 2022, arXiv:2206.10226, for random spikes in discrete time.
    """

    def __init__(
        self,
        leak: float = 0.9,
        threshold: float = 1.0,
        rate: float = 0.05,
        xi: float = 1.0,
        mean: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
    ) -> None:
        self.leak = self._number("leak", leak, "from 0 to below 1", lambda leak: 0 <= leak < 1)
        self.threshold = self._number("threshold", threshold, "positive", lambda number: number > 0)
        self.rate = self._number("rate", rate, "between 0 and 1", lambda rate: 0 < rate < 1)
        self.xi = self._number("xi", xi, "positive", lambda xi: xi > 0)
        self.mean = self._number(
            "mean", mean, "below the threshold", lambda mean: mean < self.threshold
        )
        self.seed = seed
        # With a seed of its own, a second call would draw the same weights.
        self._generator = seed
        if not isinstance(seed, keras.random.SeedGenerator):
            self._generator = keras.random.SeedGenerator(seed)

    def _number(self, name, number, meaning, accepts):
        return functions.real_number(number, "FluctuationDriven", name, meaning, accepts)

    def moments(self, fan_in: int) -> tuple[float, float]:
        """The mean and the standard deviation of the weights of a layer with `fan_in` inputs."""
        mean_weight = self.mean * (1 - self.leak) / (fan_in * self.rate)
        deviation = (self.threshold - self.mean) / self.xi
        spread = fan_in * self.rate * (1 - self.rate) / (1 - self.leak**2)
        variance = deviation**2 / spread - mean_weight**2
        if variance < 0:
            raise ValueError(
                f"FluctuationDriven: with mean={self.mean:g} and xi={self.xi:g} the mean weights "
                f"alone make the potential of {fan_in} inputs fluctuate more. Lower mean or xi."
            )
        return mean_weight, variance**0.5

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        mean, deviation = self.moments(int(np.prod(shape[:-1])))
        return keras.random.normal(shape, mean, deviation, dtype, self._generator)

    def get_config(self) -> dict[str, Any]:
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            seed = keras.saving.serialize_keras_object(seed)
        return {
            "leak": self.leak,
            "threshold": self.threshold,
            "rate": self.rate,
            "xi": self.xi,
            "mean": self.mean,
            "seed": seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FluctuationDriven:
        seed = config["seed"]
        if isinstance(seed, dict):
            seed = keras.saving.deserialize_keras_object(seed)
        return cls(**{**config, "seed": seed})


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
