"""Random networks of leaky integrate-and-fire neurons: firing and gradients over time and depth.

The network: currents I_l = W_l s_{l-1}, weights N(0, sw2 / N), neurons v, spikes s_l = H(v - h).

1. Given their input, the currents of a unit are a sum of many independent terms in each step, so
   Gaussian over time, with the covariance

       C_l(t, t') = sw2 E[s_{l-1}[t] s_{l-1}[t']]

   of which a part is constant in time: the rates differ between units. A spike train is a function
   of these currents, so C_{l+1} follows from C_l by an average over Gaussian currents. (The mean
   field of recurrent networks, Sompolinsky et al. 1988, doi:10.1103/PhysRevLett.61.259, from layer
   to layer.) The average is taken over sampled neurons, without weights.

2. With g the slope at the threshold, the gradient d of a unit's currents runs backwards in time,

       d[t] = g(v[t] - h) e[t] + f[t] d[t+1],        f[t] = dv[t+1] / dv[t]

   where e is the gradient of its spikes, and f the factor of `step_factor`: the leak b, and terms
   of the reset. If e is like a fresh Gaussian vector, as W^T d of a wide layer is, it has the
   covariance

       E_{l-1}(t, t') = sw2 E[d_l[t] d_l[t']]

3. The gradient of the kernel is the sum over t of d[t] s_{l-1}[t], so its mean square is the sum
   over t and t' of E[d[t] d[t']] E[s[t] s[t']].

A narrow slope loses the gradient in 2 by E[g**2], at each of L layers; a wide one may let it grow,
since 1 / (1 - b**2) steps add up (`white_noise_factor`). Herranz-Celotti and Rouat 2022,
arXiv:2202.00282, ask for a factor of 1, and for f of at most 1. Step 2 for a slope that is not the
derivative of the forward, with a reset, is this package's own.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_surrogate import checks, functions
from keras_surrogate.layers.neurons import IFNeuron, LIFNeuron, SpikingNeuron
from keras_surrogate.reprs import Shown
from keras_surrogate.theory import moments

# Layers after which the firing rate no longer depends on that of the input.
_SETTLED = 12
_BISECTIONS = 24


@dataclasses.dataclass(frozen=True, repr=False)
class SpikingPrediction(Shown):
    """The prediction for a random spiking network, from `predict_spiking`.

    Attributes:
        firing_rates: the spikes of a unit in a step, mean, shape (depth,).
        current_gradient: the root mean square over units of the gradient of each layer's currents,
            in each step, shape (depth, steps), for one example, and for gradients N(0, 1) of each
            spike of the last layer.
        kernel_gradient: the norm of the gradient of each kernel over sqrt(fan_in * fan_out), for
            the same, shape (depth,).
    """

    firing_rates: np.ndarray
    current_gradient: np.ndarray
    kernel_gradient: np.ndarray

    @property
    def gradient_ratio(self) -> float:
        """The kernel gradient of the first layer over that of the last; NaN if that is 0."""
        first, last = self.kernel_gradient[[0, -1]]
        return float(first / last) if last > 0 else float("nan")

    def _facts(self) -> dict[str, object]:
        depth, steps = self.current_gradient.shape
        return {
            "depth": depth,
            "steps": steps,
            "firing rate of the first layer": self.firing_rates[0],
            "of the last": self.firing_rates[-1],
            "gradient of the first kernel over the last": self.gradient_ratio,
        }

    def _table(self) -> tuple[list[str], list[tuple[int, float, float]]]:
        rows = zip(self.firing_rates, self.kernel_gradient, strict=True)
        return (
            ["layer", "firing rate", "gradient of the kernel"],
            [(number, rate, gradient) for number, (rate, gradient) in enumerate(rows, 1)],
        )


def predict_spiking(
    neuron: SpikingNeuron,
    depth: int,
    steps: int = 25,
    weight_variance: float = 1.0,
    input_rate: float = 0.2,
    samples: int = 4096,
    seed: int = 0,
) -> SpikingPrediction:
    """Predict firing rates and gradients of a random network of wide layers, Dense and neurons.

        narrow = layers.neurons.LIFNeuron(surrogate=ks.Surrogate("step", FastSigmoid(25.0)))
        predict_spiking(narrow, depth=8, weight_variance=4.0).gradient_ratio

    Compared with the mean of three networks of `layers.Spiking` of width 300, with 20 steps, 5
    layers and sw2 = 4, for slopes 1 / (1 + k * abs(x))**2 with k = 1, 5 and 25 and all resets:
    firing rates within 0.022, gradients of the currents within 20 %, of kernels within 30 %, while
    their ratio of first to last goes from 5e-4 to 44. The worst is k = 25 without reset, elsewhere
    15 %. It is off in narrow layers, where few units fire, and for a batch, whose examples share a
    part of the gradient.

    Args:
        neuron: a `layers.neurons.LIFNeuron` or `IFNeuron`.
        depth: the number of layers, at least 1.
        steps: the number of time steps, at least 1, default 25.
        weight_variance: sw2 = fan_in * Var(W), in (0, inf), default 1.
        input_rate: the probability of a spike of each input in each step, in (0, 1], default 0.2.
        samples: the number of sampled neurons of a layer, at least 100, default 4096. The error is
            of the order 1 / sqrt(samples).
        seed: the seed of the samples, at least 0, default 0.

    Raises:
        ValueError: an argument out of range, or another neuron.

    Source: this module's text.
    """
    leak = _leak("predict_spiking", neuron)
    depth = checks.integer(depth, "predict_spiking: depth")
    steps = checks.integer(steps, "predict_spiking: steps")
    samples = checks.integer(samples, "predict_spiking: samples", least=100)
    weights = _positive("predict_spiking", "weight_variance", weight_variance)
    rate = _rate("predict_spiking", "input_rate", input_rate)
    generator = np.random.default_rng(checks.integer(seed, "predict_spiking: seed", least=0))

    products = [_random_spikes(rate, steps)]
    rates = []
    layers = []
    for _ in range(depth):
        currents = _gaussian(weights * products[-1], samples, generator)
        potentials, spikes = _run(neuron, leak, currents)
        rates.append(spikes.mean())
        products.append(spikes.T @ spikes / samples)
        slopes = moments.slope(neuron.surrogate, potentials - neuron.threshold)
        layers.append((slopes, step_factor(neuron, potentials)))

    over_time = np.empty((depth, steps))
    of_kernels = np.empty(depth)
    upstream = np.eye(steps)
    for layer in reversed(range(depth)):
        slopes, factors = layers[layer]
        errors = _gaussian(upstream, samples, generator)
        deltas = _backwards(errors * slopes, factors)
        of_currents = deltas.T @ deltas / samples
        over_time[layer] = np.sqrt(np.diag(of_currents))
        of_kernels[layer] = np.sqrt(max(np.sum(of_currents * products[layer]), 0.0))
        upstream = weights * of_currents
    return SpikingPrediction(np.array(rates), over_time, of_kernels)


def step_factor(neuron: SpikingNeuron, potential: Any) -> np.ndarray:
    """The factor of one time step in the backward pass, dv[t+1] / dv[t].

    v is the potential at which the threshold is tested, b the leak, h the threshold and g the slope
    at v - h; the terms with g only where the reset is not detached:

        none         b
        subtract     b (1 - h g)        with reset_delay: b - h g
        zero         b (1 - s - v g)

    Args:
        neuron: a `layers.neurons.LIFNeuron` or `IFNeuron`.
        potential: v, of any shape.

    Returns:
        The factors, of the same shape.

    Raises:
        ValueError: another neuron.

    Source: the chain rule; Zenke and Vogels 2021, doi:10.1162/neco_a_01367, for the detached reset.
    """
    leak = _leak("step_factor", neuron)
    potential = np.asarray(potential, float)
    if neuron.reset == "none":
        return np.full(potential.shape, leak)
    excess = potential - neuron.threshold
    slope = np.zeros_like(potential)
    if not neuron.detach_reset:
        slope = moments.slope(neuron.surrogate, excess)
    if neuron.reset == "subtract":
        # With delay, v[t+1] = b v[t] + I - h s[t]; without, v[t+1] = b (v[t] - h s[t]) + I.
        reset = neuron.threshold * slope
        return leak - reset if neuron.reset_delay else leak * (1 - reset)
    return leak * (1 - moments.value(neuron.surrogate, excess) - potential * slope)


def white_noise_factor(
    neuron: SpikingNeuron, mean: float, deviation: float, weight_variance: float = 1.0
) -> float:
    """The factor of the gradient's mean square from a layer's output to its input.

        sw2 E[g(u - h)**2] / (1 - b**2)        u ~ N(mean / (1 - b), deviation**2 / (1 - b**2))

    For currents and gradients that are white noise, and after many steps. The potential without
    reset is an AR(1) process then, and u its stationary law. A detached reset by subtraction has
    the same factor per step, but lowers the potential. Behind the first layers neither is white:
    `predict_spiking` takes their covariance.

    Args:
        neuron: a `layers.neurons.LIFNeuron` with a leak below 1; its reset is left out.
        mean, deviation: of the currents, the deviation in (0, inf).
        weight_variance: sw2 = fan_in * Var(W), in (0, inf), default 1.

    Raises:
        ValueError: an argument out of range, another neuron, or a leak of 1.

    Source: Herranz-Celotti and Rouat 2022, arXiv:2202.00282, for the condition that it be 1.
    """
    leak = _leak("white_noise_factor", neuron)
    if leak == 1:
        raise ValueError("white_noise_factor: a leak of 1 has no stationary law; use one below 1.")
    mean = functions.real_number(mean, "white_noise_factor", "mean")
    deviation = _positive("white_noise_factor", "deviation", deviation)
    weights = _positive("white_noise_factor", "weight_variance", weight_variance)
    memory = 1 / (1 - leak**2)
    z, weight = moments.FINE
    potential = mean / (1 - leak) + deviation * np.sqrt(memory) * z
    slope = moments.slope(neuron.surrogate, potential - neuron.threshold)
    return float(weights * memory * (slope**2 @ weight))


@functools.lru_cache(maxsize=64)
def sustaining_weight_variance(neuron: SpikingNeuron, rate: float = 0.2, steps: int = 25) -> float:
    """The smallest fan_in * Var(W) with which many layers go on firing at some rate or above.

    The rate is the mean over the steps, in deep layers of a wide random network. Below a critical
    variance each layer fires less than the one before, until none fires. So low rates, below some
    5 to 10 %, are not sustained by any variance: the result for them is the critical one.

    Args:
        neuron: a `layers.neurons.LIFNeuron` or `IFNeuron`.
        rate: the firing rate, spikes a step, in (0, 0.5], default 0.2.
        steps: the number of time steps, at least 1, default 25. Few steps need a larger variance,
            because each layer begins to fire later.

    Raises:
        ValueError: an argument out of range, another neuron, or a rate that is not reached.

    Source: this package, by the map of `predict_spiking`; the aim is that of Micheli et al. 2024,
    arXiv:2410.00580.
    """
    leak = _leak("sustaining_weight_variance", neuron)
    rate = _rate("sustaining_weight_variance", "rate", rate)
    steps = checks.integer(steps, "sustaining_weight_variance: steps")
    # In units of the threshold, which scales potentials.
    low = 0.0
    high = 100.0 * neuron.threshold**2
    if _settled_rate(neuron, leak, high, rate, steps) < rate:
        raise ValueError(
            f"sustaining_weight_variance: no weights keep a firing rate of {rate:g} over {steps} "
            "steps. Ask for a lower rate, or use more steps."
        )
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _settled_rate(neuron, leak, middle, rate, steps) < rate:
            low = middle
        else:
            high = middle
    return high


def _settled_rate(
    neuron: SpikingNeuron, leak: float, weights: float, rate: float, steps: int
) -> float:
    """The firing rate of a deep layer, where the input fires at `rate`."""
    # The same samples for all weights, so that the rate is a smooth function of these.
    generator = np.random.default_rng(0)
    products = _random_spikes(rate, steps)
    for _ in range(_SETTLED):
        _, spikes = _run(neuron, leak, _gaussian(weights * products, 2048, generator))
        products = spikes.T @ spikes / len(spikes)
        if not spikes.any():
            return 0.0
    return float(spikes.mean())


def _random_spikes(rate: float, steps: int) -> np.ndarray:
    """The mean products of independent random spikes in two steps."""
    products = np.full((steps, steps), rate**2)
    np.fill_diagonal(products, rate)
    return products


def _gaussian(covariance: np.ndarray, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian vectors with mean 0 and a covariance, shape (samples, steps)."""
    values, vectors = np.linalg.eigh(covariance)
    # Rounding makes eigenvalues of 0 a little negative.
    root = vectors * np.sqrt(np.maximum(values, 0))
    return generator.standard_normal((samples, len(covariance))) @ root.T


def _run(neuron: SpikingNeuron, leak: float, currents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The potentials at which the threshold is tested, and the spikes, shape (samples, steps)."""
    potentials = np.empty_like(currents)
    spikes = np.empty_like(currents)
    # The potential carried on, and what a delayed reset subtracts from the next one.
    carried = np.zeros(len(currents))
    delayed = 0.0
    for step in range(currents.shape[1]):
        potential = leak * carried + currents[:, step] - delayed
        fired = (potential > neuron.threshold).astype(float)
        potentials[:, step] = potential
        spikes[:, step] = fired
        carried = potential
        if neuron.reset == "zero":
            # Also with delay, where the next step drops the potential.
            carried = potential * (1 - fired)
        if neuron.reset == "subtract":
            if neuron.reset_delay:
                delayed = neuron.threshold * fired
            else:
                carried = potential - neuron.threshold * fired
    return potentials, spikes


def _backwards(direct: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """d[t] = direct[t] + factors[t] d[t+1], from the last step to the first."""
    deltas = np.empty_like(direct)
    later = np.zeros(len(direct))
    for step in reversed(range(direct.shape[1])):
        later = direct[:, step] + factors[:, step] * later
        deltas[:, step] = later
    return deltas


def _leak(asking: str, neuron: SpikingNeuron) -> float:
    forward = getattr(getattr(neuron, "surrogate", None), "forward", None)
    if forward is not None and not isinstance(forward, functions.Step):
        raise ValueError(
            f"{asking}: the neuron must fire spikes of 1, by the forward function step, but it has "
            f"{forward!r}."
        )
    if type(neuron) is IFNeuron:
        return 1.0
    if type(neuron) is LIFNeuron:
        return neuron.leak
    raise ValueError(
        f"{asking}: the neuron must be a layers.neurons.LIFNeuron or IFNeuron, but is {neuron!r}."
    )


def _positive(asking: str, name: str, number: float) -> float:
    return functions.real_number(
        number, asking, name, "a positive number", lambda number: number > 0
    )


def _rate(asking: str, name: str, number: float) -> float:
    return functions.real_number(
        number, asking, name, "a number above 0 and at most 1", lambda number: 0 < number <= 1
    )
