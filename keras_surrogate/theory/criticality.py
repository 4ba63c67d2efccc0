"""The criticality of a pair: where its signal comes to rest, and the slope or the weights that keep the gradient
there."""

import numpy as np

from keras_surrogate import functions, presets
from keras_surrogate.theory import moments, weights

# ln(q) is searched in steps of a quarter, and then in 32 parts of a step, thrice.
_STEP, _PARTS, _ROUNDS = 0.25, 32, 3
_REACH = 240
# Relative changes of the signal below this are quadrature.
_TOLERANCE = 1e-6
# Stands for a variance of 0, of which no logarithm can be taken.
_ALMOST_0 = 1e-12
# Pre-activations of a thousand standard deviations are nobody's: there every rectifier looks like
# ReLU.
_LARGEST = 1e6


def fixed_point(surrogate, weight_variance, bias_variance=0.0, input_variance=1.0):
    """The variance q at which the signal comes to rest: q = sigma_w**2 E[f(sqrt(q) z)**2] + sigma_b**2.

    It is the first one in the direction in which the signal sets out from the first layer's
    variance. Where every q is a fixed point, as for ReLU at sigma_w**2 = 2, it is the first
    layer's; where the signal dies out, 0.

    Args:
        surrogate, weight_variance, bias_variance, input_variance: as in `predict`.

    Raises:
        ValueError: the signal grows without bound.
    """
    surrogate, (scale, _) = presets.get(surrogate), weights.variances(weight_variance)
    start = scale * input_variance + bias_variance

    def growth(log_variance):
        variance = np.exp(log_variance)
        with np.errstate(over="ignore", divide="ignore"):
            return (
                np.log(scale * moments.signal_power(surrogate, variance) + bias_variance)
                - log_variance
            )

    origin = np.log(max(start, _ALMOST_0))
    trend = growth(np.array([origin]))[0]
    if abs(trend) < _TOLERANCE:
        return start
    places = origin + np.sign(trend) * _STEP * np.arange(_REACH + 1)
    return _rest(growth, places, surrogate, scale, rising=trend > 0)


def _rest(growth, places, surrogate, scale, rising):
    place = _crossing(growth, places)
    if place is not None:
        return float(np.exp(place))
    if rising:
        raise ValueError(
            f"With weight_variance={scale:.3g} the signal of {surrogate.forward.title} grows without "
            f"bound, so that it has no fixed "
            "point. Lower weight_variance, or give signal_variance, the q to balance at."
        )
    return 0.0


def _crossing(function, places):
    """Where a function of an array first changes its sign along the places; None if it does not."""
    for _ in range(_ROUNDS + 1):
        signs = function(places) > 0
        changes = np.flatnonzero(signs[1:] != signs[:-1])
        if not len(changes):
            return None
        low, high = places[changes[0]], places[changes[0] + 1]
        places = np.linspace(low, high, _PARTS + 1)
    return (low + high) / 2


def gain(
    surrogate,
    weight_variance,
    bias_variance=0.0,
    input_variance=1.0,
    *,
    signal_variance=None,
    fans=None,
):
    """chi = sigma_w**2 E[g(sqrt(q) z)**2], by which the gradient's mean square is multiplied in a layer.

    Args:
        surrogate, weight_variance, bias_variance, input_variance, fans: as in `predict`.
        signal_variance: q, a positive number; default None, the signal's fixed point.

    Raises:
        ValueError: an argument out of range, or a signal that grows without bound.
    """
    surrogate = presets.get(surrogate)
    if signal_variance is None:
        signal_variance = fixed_point(
            surrogate, weights.variances(weight_variance, fans)[0], bias_variance, input_variance
        )
    variance = max(_at_least(0, signal_variance, "signal_variance"), _ALMOST_0)
    return float(
        weights.variances(weight_variance, fans)[1] * moments.slope_power(surrogate, variance)
    )


def balance(
    surrogate,
    weight_variance,
    bias_variance=0.0,
    input_variance=1.0,
    *,
    signal_variance=None,
    fans=None,
):
    """The same surrogate with the `scale` that makes chi = 1: its gradient neither vanishes nor explodes with depth.

        chi = sigma_w**2 E[(scale * g(sqrt(q) z))**2] = 1        at the variance q where the signal comes to rest

    This keeps the gradient's norm, not its direction, which `predict` tells. A negative scale stays
    negative.

    Args:
        surrogate, weight_variance, bias_variance, input_variance, fans: as in `predict`.
        signal_variance: q, a positive number; default None, the signal's fixed point.

    Returns:
        A `Surrogate`.

    Raises:
        ValueError: an argument out of range, a signal that grows without bound, or a slope that is
            0 there.
    """
    surrogate = presets.get(surrogate)
    chi = gain(
        surrogate,
        weight_variance,
        bias_variance,
        input_variance,
        signal_variance=signal_variance,
        fans=fans,
    )
    if chi == 0:
        raise ValueError(
            f"{surrogate.backward.title} has no slope to scale where the signal is: its gradient is 0 "
            f"there. Name a backward with a "
            "slope (a surrogate for a step), or other weights."
        )
    return surrogate.scaled(chi**-0.5)


def critical_weight_variance(
    surrogate, bias_variance=0.0, input_variance=1.0, *, signal_variance=None
):
    """sigma_w**2 = fan_in * Var(W) at which both hold: the signal rests at a variance q, and chi = 1 there.

        q = sigma_w**2 E[f(sqrt(q) z)**2] + sigma_b**2        sigma_w**2 E[g(sqrt(q) z)**2] = 1

    For an ordinary activation this is the edge of chaos: 2 for ReLU, 1 for tanh.

    Args:
        surrogate: whatever `keras_surrogate.get` takes.
        bias_variance, input_variance: as in `predict`. The latter sets q where the forward is
            homogeneous (ReLU).
        signal_variance: q, a positive number, which then need not be where the signal rests;
            default None.

    Raises:
        ValueError: an argument out of range, or a pair for which no weights do both, as ReLU with
            most other slopes. `balance` it first, or give `signal_variance`.

    Source: Schoenholz et al. 2017, arXiv:1611.01232; Hayou et al. 2019, arXiv:1902.06853; for
    pairs, this package.
    """
    surrogate, bias = presets.get(surrogate), _at_least(0, bias_variance, "bias_variance")
    input_variance = _at_least(0, input_variance, "input_variance")
    if signal_variance is not None:
        variance = max(_at_least(0, signal_variance, "signal_variance"), _ALMOST_0)
        return _inverse(moments.slope_power(surrogate, variance), surrogate)
    if bias == 0 and _is_homogeneous(surrogate):
        return _critical_homogeneous(surrogate, input_variance)
    return _critical_fixed_point(surrogate, bias)


def _inverse(power, surrogate):
    if power == 0:
        raise ValueError(
            f"{surrogate.backward.title} has slope 0 there, so that no weights keep its gradient."
        )
    return float(1 / power)


def _is_homogeneous(surrogate):
    """Whether E[f**2] is proportional to q, so that every q is a fixed point at one weight variance, and none at
    others."""
    variances = np.array([1e-3, 1.0, 1e3])
    ratios = moments.signal_power(surrogate, variances) / variances
    return bool(np.ptp(ratios) <= _TOLERANCE * ratios.max())


# How far from 1 chi may be and still keep a gradient over a hundred layers, up to a tenth.
_NEARLY_CRITICAL = 1e-3


def _critical_homogeneous(surrogate, input_variance):
    scale = _inverse(moments.signal_power(surrogate, 1.0), surrogate)
    chi = gain(surrogate, scale, signal_variance=scale * input_variance)
    if abs(chi - 1) > _NEARLY_CRITICAL:
        raise ValueError(
            f"No weight variance keeps both signal and gradient of this pair: {scale:.4g} keeps the signal of "
            f"{surrogate.forward.title}, but the slope of {surrogate.backward.title} has chi = "
            f"{chi:.4g} there. Balance it first, "
            f"theory.balance(surrogate, {scale:.4g}), or give signal_variance, the q at which only "
            f"the gradient is kept."
        )
    return scale


def _critical_fixed_point(surrogate, bias):
    """Searches q and not sigma_w**2, which follows from it: (q - sigma_b**2) / E[f**2]."""

    def scale(log_excess):
        with np.errstate(divide="ignore"):
            return np.exp(log_excess) / moments.signal_power(surrogate, np.exp(log_excess) + bias)

    def excess_gain(log_excess):
        return scale(log_excess) * moments.slope_power(surrogate, np.exp(log_excess) + bias) - 1

    places = np.arange(np.log(_ALMOST_0), np.log(_LARGEST), _STEP)
    if (
        bias == 0
        and abs(excess_gain(places[:1])[0]) < _TOLERANCE
        and scale(np.zeros(1))[0] > scale(places[:1])[0]
    ):
        return float(scale(places[:1])[0])
    place = _crossing(excess_gain, places[1:])
    if place is None or not _attracts(scale, place):
        raise ValueError(
            f"No weight variance puts {surrogate.forward.title} with the slope of {surrogate.backward.title} (times "
            f"{surrogate.scale:.3g}) at a stable fixed point with chi = 1. Take "
            f"theory.balance(surrogate, weight_variance), or give "
            "signal_variance, the q at which only the gradient is kept."
        )
    return float(scale(np.array([place]))[0])


def _attracts(scale, place):
    """Whether the signal returns to the fixed point: stronger weights must be what holds it further out."""
    near, far = scale(place + np.array([-0.01, 0.01]))
    return far > near


def _at_least(low, number, name):
    return functions.real_number(
        number, "theory", name, f"a number of at least {low}", lambda number: number >= low
    )
