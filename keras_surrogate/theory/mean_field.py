"""Infinitely wide networks: signal, gradient, alignment and correlation in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.theory import moments, staircases

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate
    from keras_surrogate.theory.stacks import Stack

# The square of a larger variance exceeds float64; the variance itself exceeds float32 long before.
_LARGEST = 1e150
# Half the range and the points of the uniform grid on which functions are smoothed for the
# correlation map.
_SPAN = 16.0
_POINTS = 4096


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
    variances = []
    powers = []
    for layer in range(depth):
        variance = stack.variance(weights, bias, power)
        if not variance < _LARGEST:
            raise ValueError(_exploding(surrogate, layer, weights))
        variances.append(variance)
        powers.append(power)
        own_mean, own_power = moments.mean_and_power(surrogate, variance)
        mean, power = stack.output(mean, power, own_mean, own_power)
    return np.array(variances), np.array(powers)


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
    own, cross, true = moments.overlap_powers(surrogate, variances)
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
    found = []
    for variance in variances:
        correlation = np.nan
        if variance > 0:
            correlation = np.clip(stack.variance(weights, bias, product) / variance, -1, 1)
        found.append(correlation)
        own_mean, own_product = _mean_product(surrogate, variance, correlation)
        mean, product = stack.output(mean, product, own_mean, own_product)
    return np.array(found)


def _mean_product(surrogate: Surrogate, variance: float, correlation: float) -> tuple[float, float]:
    """E[f(u)] and E[f(u) f(v)]; the second is exact at a correlation of 1, a fixed point."""
    steps = staircases.steps_of(surrogate.forward, variance)
    if steps is not None and abs(correlation) <= 1:
        mean, _ = staircases.mean_and_power(steps, variance)
        return mean, staircases.mean_product(steps, variance, correlation)
    z, weight = moments.FINE
    output = moments.value(surrogate, np.sqrt(variance) * z)
    power = output**2 @ weight
    if not abs(correlation) <= 1 or power == 0:
        return output @ weight, power
    values = moments.value(surrogate, np.sqrt(variance) * _UNIFORM)
    # The division removes the error of the smoothing at a correlation of 1.
    smoothed = _smoothed_product(values, correlation)
    return output @ weight, power * smoothed / _smoothed_product(values, 1.0)


_UNIFORM = (np.arange(_POINTS) + 0.5) * (2 * _SPAN / _POINTS) - _SPAN
_FREQUENCIES = 2 * np.pi * np.fft.rfftfreq(_POINTS, 2 * _SPAN / _POINTS)


def _smoothed_product(values: np.ndarray, correlation: float) -> float:
    # Smoothing does not change a straight line. Without it the function is periodic, as the
    # Fourier transform requires.
    line = np.interp(_UNIFORM, _UNIFORM[[0, -1]], values[[0, -1]])
    # The Fourier transform of a Gaussian of variance 1 - |c|.
    damping = np.exp(-(_FREQUENCIES**2) * (1 - abs(correlation)) / 2)
    smooth = line + np.fft.irfft(damping * np.fft.rfft(values - line), _POINTS)
    z, weight = moments.COARSE
    shared = np.sqrt(abs(correlation)) * z
    here = np.interp(shared, _UNIFORM, smooth)
    there = np.interp(np.sign(correlation) * shared, _UNIFORM, smooth)
    return (here * there) @ weight
