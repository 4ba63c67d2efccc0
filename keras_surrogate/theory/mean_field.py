"""Infinitely wide networks: signal, gradient and alignment layer by layer, and the correlation of two inputs."""

import numpy as np

from keras_surrogate.theory import moments

# Beyond this a variance's square no longer fits float64, and has long ceased to fit float32.
_LARGEST = 1e150
# Half the range and the points of the uniform grid on which functions are smoothed for the
# correlation map.
_SPAN, _POINTS = 16.0, 4096


def signal(surrogate, depth, weights, bias, input_variance, stack="plain"):
    """The variance of every layer's pre-activations, shape (depth,), and the mean square of what enters it, likewise.

    Raises:
        ValueError: the signal grows out of bounds.
    """
    mean, power, variances, powers = 0.0, input_variance, [], []
    for layer in range(depth):
        variance = 1.0 if stack == "batch_norm" else weights * power + bias
        if not variance < _LARGEST:
            raise ValueError(_exploding(surrogate, layer, weights))
        variances.append(variance)
        powers.append(power)
        mean, power = _after(surrogate, variance, mean, power, stack)
    return np.array(variances), np.array(powers)


def _after(surrogate, variance, mean, power, stack):
    """Mean and mean square of a layer's output. In a residual layer they add to those of its input."""
    output = moments.value(surrogate, moments.pre_activations(np.float64(variance)))
    own_mean, own_power = output @ moments.FINE[1], output**2 @ moments.FINE[1]
    if stack == "residual":
        return mean + own_mean, power + own_power + 2 * mean * own_mean
    return own_mean, own_power


def _exploding(surrogate, layer, weights):
    return (
        f"The signal explodes: with weight_variance={weights:.3g} the values of "
        f"{surrogate.forward.title} pass {_LARGEST:g} after "
        f"layer {layer}, so that there is nothing to predict. Lower weight_variance, or take a forward that saturates."
    )


def overlaps(surrogate, variances, weights, stack="plain"):
    """E|d_a d_b| after each layer's slope, for a unit gradient at the top, as logarithms and cosines.

    Returns the natural logarithm of the gradient's norm, and its cosine with the true gradient;
    both of shape (depth,), the cosine NaN where either gradient is 0.
    """
    own, cross, true = moments.overlap_powers(surrogate, variances)
    if stack == "batch_norm":
        output = moments.value(surrogate, moments.pre_activations(variances))
        weights = 1 / (output**2 @ moments.FINE[1] - (output @ moments.FINE[1]) ** 2)
    bypass = 1.0 if stack == "residual" else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        log_norm = np.log(own) / 2 + _above(np.log(bypass + weights * own) / 2)
        cosine = cross / np.sqrt(own * true)
        along = (bypass + weights * cross) / np.sqrt(
            (bypass + weights * own) * (bypass + weights * true)
        )
        direction = cosine * np.exp(_above(np.log(np.abs(along)))) * _signs_above(along)
    return log_norm, direction


def _above(terms):
    """For every layer the sum of the terms of the layers after it."""
    return np.append(np.cumsum(terms[:0:-1])[::-1], 0.0)


def _signs_above(factors):
    return np.append(np.cumprod(np.sign(factors[:0:-1]))[::-1], 1.0)


def correlations(surrogate, variances, powers, weights, bias, input_correlation, stack="plain"):
    """The correlation of two inputs' pre-activations at every layer, shape (depth,); NaN where there is no signal.

    The mean E[f(u) f(v)] over a pair of correlation c > 0 is E[F(sqrt(q c) z)**2], where F is f
    smoothed by a Gaussian of variance q (1 - c): what the pair shares, and the average over what it
    does not.
    """
    product, mean, correlation = input_correlation * powers[0], 0.0, []
    for variance in variances:
        correlation.append(
            np.clip((weights * product + bias) / variance, -1, 1) if variance > 0 else np.nan
        )
        own_mean, own = _mean_product(surrogate, variance, correlation[-1])
        product = own if stack == "plain" else product + own + 2 * mean * own_mean
        mean += own_mean
    return np.array(correlation)


def _mean_product(surrogate, variance, correlation):
    """E[f(u)] and E[f(u) f(v)]; the latter exact at a correlation of 1, so that 1 stays a fixed point."""
    z, weight = moments.FINE
    output = moments.value(surrogate, np.sqrt(variance) * z)
    power = output**2 @ weight
    if not abs(correlation) <= 1 or power == 0:
        return output @ weight, power
    values = moments.value(surrogate, np.sqrt(variance) * _UNIFORM)
    return output @ weight, power * _smoothed_product(values, correlation) / _smoothed_product(
        values, 1.0
    )


_UNIFORM = (np.arange(_POINTS) + 0.5) * (2 * _SPAN / _POINTS) - _SPAN
_FREQUENCIES = 2 * np.pi * np.fft.rfftfreq(_POINTS, 2 * _SPAN / _POINTS)


def _smoothed_product(values, correlation):
    # A straight line is its own average; without it the ends meet, as a periodic transform wants
    # them to.
    line = np.interp(_UNIFORM, _UNIFORM[[0, -1]], values[[0, -1]])
    damping = np.exp(-(_FREQUENCIES**2) * (1 - abs(correlation)) / 2)
    smooth = line + np.fft.irfft(damping * np.fft.rfft(values - line), _POINTS)
    z, weight = moments.COARSE
    shared = np.sqrt(abs(correlation)) * z
    here, there = (
        np.interp(shared, _UNIFORM, smooth),
        np.interp(np.sign(correlation) * shared, _UNIFORM, smooth),
    )
    return (here * there) @ weight
