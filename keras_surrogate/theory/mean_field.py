"""Infinitely wide networks: signal, gradient, alignment and correlation in every layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.theory import interpolation, moments, staircases

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate
    from keras_surrogate.theory.stacks import Stack

# The square of a larger variance exceeds float64; the variance itself exceeds float32 long before.
_LARGEST = 1e150
# Half the range and the points of the uniform grid on which functions are smoothed for the
# correlation map.
_SPAN = 16.0
_POINTS = 4096
# The layers whose averages are remembered. From a fixed point or a short cycle on, all layers have
# the averages of one before.
_REMEMBERED = 64


def signal(
    surrogate: Surrogate,
    depth: int,
    weights: float,
    bias: float,
    input_variance: float,
    stack: Stack,
) -> tuple[np.ndarray, np.ndarray]:
    """The variance of each layer's pre-activations and the mean square of its input.

    Raises:
        ValueError: the signal grows without bound.
    """
    mean = 0.0
    power = input_variance
    variances = np.empty(depth)
    powers = np.empty(depth)
    own = _mean_and_power(surrogate)
    for layer in range(depth):
        variance = stack.variance(weights, bias, power)
        if not variance < _LARGEST:
            raise ValueError(_exploding(surrogate, layer, weights))
        variances[layer] = variance
        powers[layer] = power
        mean, power = stack.output(mean, power, *own(variance))
    return variances, powers


def _mean_and_power(surrogate: Surrogate) -> Callable[[float], tuple[float, float]]:
    """The function from a variance q to E[f(h)] and E[f(h)**2]."""
    if not moments.is_homogeneous(surrogate):
        return functools.lru_cache(_REMEMBERED)(
            functools.partial(moments.mean_and_power, surrogate)
        )
    mean, power = map(float, moments.mean_and_power(surrogate, 1.0))
    return lambda variance: (variance**0.5 * mean, variance * power)


def _exploding(surrogate: Surrogate, layer: int, weights: float) -> str:
    return (
        f"The signal explodes: with weight_variance={weights:.3g} the values of "
        f"{surrogate.forward.title} exceed {_LARGEST:g} after layer {layer}, so that no prediction "
        "is possible. Lower weight_variance, or choose a forward that saturates."
    )


def overlaps(
    surrogate: Surrogate, variances: np.ndarray, weights: float, stack: Stack
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of every layer's pre-activations, for a gradient of norm 1 at the last output.

    Returns:
        The natural logarithm of its norm, and its cosine with the true gradient, which is NaN where
        either gradient is 0; both of shape (depth,).
    """
    own, cross, true = interpolation.at(
        functools.partial(moments.overlap_powers, surrogate), variances
    )
    factor = stack.backward_weights(weights, surrogate, variances)
    # The products of a layer's input gradients over those of its output: chi for `own`.
    own_ratio = stack.bypass + factor * own
    cross_ratio = stack.bypass + factor * cross
    true_ratio = stack.bypass + factor * true
    with np.errstate(divide="ignore", invalid="ignore"):
        log_norm = np.log(own) / 2 + _above(np.log(own_ratio) / 2)
        cosine = cross / np.sqrt(own * true)
        along = cross_ratio / np.sqrt(own_ratio * true_ratio)
        direction = cosine * np.exp(_above(np.log(np.abs(along)))) * _signs_above(along)
    return log_norm, direction


def _above(terms: np.ndarray) -> np.ndarray:
    """For every layer the sum of the terms of the layers after it."""
    return np.append(np.cumsum(terms[:0:-1])[::-1], 0.0)


def _signs_above(factors: np.ndarray) -> np.ndarray:
    """For every layer the sign of the product of the factors of the layers after it."""
    return np.append(np.cumprod(np.sign(factors[:0:-1]))[::-1], 1.0)


def correlations(
    surrogate: Surrogate,
    variances: np.ndarray,
    powers: np.ndarray,
    weights: float,
    bias: float,
    input_correlation: float,
    stack: Stack,
) -> np.ndarray:
    """The correlation of two inputs' pre-activations in every layer; NaN without a signal.

    The mean E[f(u) f(v)] over a pair of correlation c > 0 is E[F(sqrt(q c) z)**2]. F is f smoothed
    by a Gaussian of variance q (1 - c): z is the part that u and v share, and the smoothing
    averages over the part that they do not share.
    """
    product = input_correlation * powers[0]
    mean = 0.0
    found = np.empty(len(variances))
    own = _mean_and_product(surrogate)
    for layer, variance in enumerate(variances.tolist()):
        correlation = np.nan
        if variance > 0:
            correlation = min(1.0, max(-1.0, stack.variance(weights, bias, product) / variance))
        found[layer] = correlation
        mean, product = stack.output(mean, product, *own(variance, correlation))
    return found


def _mean_and_product(surrogate: Surrogate) -> Callable[[float, float], tuple[float, float]]:
    """The function from a variance q and a correlation to E[f(u)] and E[f(u) f(v)]."""
    # Where the variance stays, only the correlation differs between layers.
    smoothed = functools.lru_cache(1)(functools.partial(Smoothed, surrogate))

    @functools.lru_cache(_REMEMBERED)
    def own(variance: float, correlation: float) -> tuple[float, float]:
        steps = staircases.steps_of(surrogate.forward, variance)
        if steps is not None and abs(correlation) <= 1:
            mean, _ = staircases.mean_and_power(steps, variance)
            return mean, staircases.mean_product(steps, variance, correlation)
        return smoothed(variance).mean_and_product(correlation)

    if not moments.is_homogeneous(surrogate):
        return own

    def scaled(variance: float, correlation: float) -> tuple[float, float]:
        mean, product = own(1.0, correlation)
        return variance**0.5 * mean, variance * product

    return scaled


_UNIFORM = (np.arange(_POINTS) + 0.5) * (2 * _SPAN / _POINTS) - _SPAN
_FREQUENCIES = 2 * np.pi * np.fft.rfftfreq(_POINTS, 2 * _SPAN / _POINTS)


class Smoothed:
    """A forward at a variance q, to be smoothed for any correlation of two inputs."""

    def __init__(self, surrogate: Surrogate, variance: float) -> None:
        mean, power = moments.mean_and_power(surrogate, variance)
        self._mean = float(mean)
        self._power = float(power)
        values = moments.value(surrogate, np.sqrt(variance) * _UNIFORM)
        # Smoothing does not change a straight line. Without it the function is periodic, as the
        # Fourier transform requires.
        self._line = np.interp(_UNIFORM, _UNIFORM[[0, -1]], values[[0, -1]])
        self._spectrum = np.fft.rfft(values - self._line)
        self._product_of_equals = self._product(1.0)

    def mean_and_product(self, correlation: float) -> tuple[float, float]:
        """E[f(u)] and E[f(u) f(v)]; the second is exact at a correlation of 1, a fixed point."""
        if not abs(correlation) <= 1 or self._power == 0:
            return self._mean, self._power
        # The division removes the error of the smoothing at a correlation of 1.
        return self._mean, self._power * self._product(correlation) / self._product_of_equals

    def _product(self, correlation: float) -> float:
        # The Fourier transform of a Gaussian of variance 1 - |c|.
        damping = np.exp(-(_FREQUENCIES**2) * (1 - abs(correlation)) / 2)
        smooth = self._line + np.fft.irfft(damping * self._spectrum, _POINTS)
        z, weight = moments.COARSE
        shared = np.sqrt(abs(correlation)) * z
        here = np.interp(shared, _UNIFORM, smooth)
        # The other input's share has the sign of the correlation.
        there = here if correlation >= 0 else np.interp(-shared, _UNIFORM, smooth)
        return float((here * there) @ weight)
