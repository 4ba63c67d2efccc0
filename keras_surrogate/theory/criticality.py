"""The criticality of a pair: the fixed point, and the slope or weights that keep the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import functions, presets
from keras_surrogate.theory import moments, weights

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.surrogate import Surrogate
    from keras_surrogate.theory.weights import WeightsLike

# ln(q) is searched in steps of a quarter. The step with the solution is divided into 32 parts,
# three times.
_STEP = 0.25
_PARTS = 32
_ROUNDS = 3
_REACH = 240
# Relative changes of the signal below this are errors of the quadrature.
_TOLERANCE = 1e-6
# Replaces a variance of 0, which has no logarithm.
_ALMOST_0 = 1e-12
# The largest variance searched. For pre-activations of a thousand every rectifier looks like ReLU.
_LARGEST = 1e6
# chi this close to 1 changes a gradient by at most a tenth over a hundred layers.
_NEARLY_CRITICAL = 1e-3


def fixed_point(
    surrogate: SurrogateLike,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
) -> float:
    """The variance q at which the signal stays: q = sigma_w**2 E[f(sqrt(q) z)**2] + sigma_b**2.

    It is the first fixed point in the direction in which the signal leaves the first layer's
    variance. Where every q is a fixed point, as for ReLU at sigma_w**2 = 2, it is the first
    layer's variance. Where the signal dies out, it is 0.

    Args:
        surrogate, weight_variance, bias_variance, input_variance: as in `predict`.

    Raises:
        ValueError: the signal grows without bound.
    """
    surrogate = presets.get(surrogate)
    scale, _ = weights.variances(weight_variance)
    start = scale * input_variance + bias_variance

    def growth(log_variance: np.ndarray) -> np.ndarray:
        """ln(q_{l+1} / q_l)."""
        with np.errstate(over="ignore", divide="ignore"):
            power = moments.signal_power(surrogate, np.exp(log_variance))
            return np.log(scale * power + bias_variance) - log_variance

    origin = np.log(max(start, _ALMOST_0))
    trend = growth(np.array([origin]))[0]
    if abs(trend) < _TOLERANCE:
        return start
    places = origin + np.sign(trend) * _STEP * np.arange(_REACH + 1)
    place = _crossing(growth, places)
    if place is not None:
        return float(np.exp(place))
    if trend > 0:
        raise ValueError(
            f"With weight_variance={scale:.3g} the signal of {surrogate.forward.title} grows "
            "without bound, so that it has no fixed point. Lower weight_variance, or give "
            "signal_variance, the q to balance at."
        )
    return 0.0


def _crossing(function: Callable[[np.ndarray], np.ndarray], places: np.ndarray) -> float | None:
    """The first change of sign of a function along the places; None if there is none."""
    for _ in range(_ROUNDS + 1):
        signs = function(places) > 0
        changes = np.flatnonzero(signs[1:] != signs[:-1])
        if not len(changes):
            return None
        low = places[changes[0]]
        high = places[changes[0] + 1]
        places = np.linspace(low, high, _PARTS + 1)
    return (low + high) / 2


def gain(
    surrogate: SurrogateLike,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    *,
    signal_variance: float | None = None,
    fans: tuple[float, float] | None = None,
) -> float:
    """chi = sigma_w**2 E[g(sqrt(q) z)**2], the factor of the gradient's mean square in each layer.

    Args:
        surrogate, weight_variance, bias_variance, input_variance, fans: as in `predict`.
        signal_variance: q, at least 0; default None, the signal's fixed point.

    Raises:
        ValueError: an argument out of range, or a signal that grows without bound.
    """
    surrogate = presets.get(surrogate)
    forward, backward = weights.variances(weight_variance, fans)
    if signal_variance is None:
        signal_variance = fixed_point(surrogate, forward, bias_variance, input_variance)
    variance = _positive_variance(signal_variance)
    return float(backward * moments.slope_power(surrogate, variance))


def balance(
    surrogate: SurrogateLike,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    *,
    signal_variance: float | None = None,
    fans: tuple[float, float] | None = None,
) -> Surrogate:
    """The same surrogate with the `scale` that makes chi = 1, so that its gradient keeps its size.

        chi = sigma_w**2 E[(scale * g(sqrt(q) z))**2] = 1        at the signal's fixed point q

    This keeps the gradient's norm and not its direction; `predict` gives the direction. A negative
    scale stays negative.

    Args:
        surrogate, weight_variance, bias_variance, input_variance, fans: as in `predict`.
        signal_variance: q, at least 0; default None, the signal's fixed point.

    Returns:
        A `Surrogate`.

    Raises:
        ValueError: an argument out of range, a signal that grows without bound, or a slope that is
            0 at the signal.
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
            f"{surrogate.backward.title} has no slope to scale at the signal: its gradient is 0 "
            "there. Name a backward with a slope (a surrogate for a step), or change the weights."
        )
    # chi is proportional to scale**2.
    return surrogate.scaled(chi**-0.5)


def critical_weight_variance(
    surrogate: SurrogateLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    *,
    signal_variance: float | None = None,
) -> float:
    """sigma_w**2 = fan_in * Var(W) at which the signal has a fixed point q, with chi = 1 there.

        q = sigma_w**2 E[f(sqrt(q) z)**2] + sigma_b**2        sigma_w**2 E[g(sqrt(q) z)**2] = 1

    For an ordinary activation this is the edge of chaos: 2 for ReLU, 1 for tanh.

    Args:
        surrogate: any argument of `keras_surrogate.get`.
        bias_variance, input_variance: as in `predict`. The latter sets q where the forward is
            homogeneous (ReLU).
        signal_variance: q, at least 0, which then need not be a fixed point of the signal; default
            None.

    Raises:
        ValueError: an argument out of range, or a pair for which no weights satisfy both, such as
            ReLU with most other slopes. `balance` it first, or give `signal_variance`.

    Source: Schoenholz et al. 2017, arXiv:1611.01232; Hayou et al. 2019, arXiv:1902.06853; for
    pairs, this package.
    """
    surrogate = presets.get(surrogate)
    bias = _at_least_0(bias_variance, "bias_variance")
    input_variance = _at_least_0(input_variance, "input_variance")
    if signal_variance is not None:
        variance = _positive_variance(signal_variance)
        return _inverse(moments.slope_power(surrogate, variance), surrogate)
    if bias == 0 and _is_homogeneous(surrogate):
        return _critical_homogeneous(surrogate, input_variance)
    return _critical_fixed_point(surrogate, bias)


def _inverse(power: float, surrogate: Surrogate) -> float:
    if power == 0:
        raise ValueError(
            f"The slope of {surrogate.backward.title} is 0 there, so that no weights keep its "
            "gradient."
        )
    return float(1 / power)


def _is_homogeneous(surrogate: Surrogate) -> bool:
    """True if E[f**2] is proportional to q: at one weight variance every q is a fixed point."""
    variances = np.array([1e-3, 1.0, 1e3])
    ratios = moments.signal_power(surrogate, variances) / variances
    return bool(np.ptp(ratios) <= _TOLERANCE * ratios.max())


def _critical_homogeneous(surrogate: Surrogate, input_variance: float) -> float:
    scale = _inverse(moments.signal_power(surrogate, 1.0), surrogate)
    chi = gain(surrogate, scale, signal_variance=scale * input_variance)
    if abs(chi - 1) > _NEARLY_CRITICAL:
        raise ValueError(
            "No weight variance keeps both signal and gradient of this pair: "
            f"{scale:.4g} keeps the signal of {surrogate.forward.title}, but the slope of "
            f"{surrogate.backward.title} has chi = {chi:.4g} there. Balance it first, "
            f"theory.balance(surrogate, {scale:.4g}), or give signal_variance, the q at which only "
            "the gradient is kept."
        )
    return scale


def _critical_fixed_point(surrogate: Surrogate, bias: float) -> float:
    """Search over q; sigma_w**2 follows from it: (q - sigma_b**2) / E[f**2]."""

    def scale(log_excess: np.ndarray | float) -> np.ndarray:
        """sigma_w**2 that makes q = exp(log_excess) + sigma_b**2 a fixed point."""
        with np.errstate(divide="ignore"):
            return np.exp(log_excess) / moments.signal_power(surrogate, np.exp(log_excess) + bias)

    def excess_gain(log_excess: np.ndarray) -> np.ndarray:
        """chi - 1 at this fixed point."""
        return scale(log_excess) * moments.slope_power(surrogate, np.exp(log_excess) + bias) - 1

    places = np.arange(np.log(_ALMOST_0), np.log(_LARGEST), _STEP)
    if bias == 0 and abs(excess_gain(places[:1])[0]) < _TOLERANCE:
        # A critical point at q = 0, as of tanh; it is stable if larger q need larger weights.
        at_0 = float(scale(places[:1])[0])
        if scale(np.zeros(1))[0] > at_0:
            return at_0
    place = _crossing(excess_gain, places[1:])
    if place is None or not _attracts(scale, place):
        raise ValueError(
            f"No weight variance puts {surrogate.forward.title} with the slope of "
            f"{surrogate.backward.title} (times {surrogate.scale:.3g}) at a stable fixed point "
            "with chi = 1. Use theory.balance(surrogate, weight_variance), or give "
            "signal_variance, the q at which only the gradient is kept."
        )
    return float(scale(np.array([place]))[0])


def _attracts(scale: Callable[[np.ndarray], np.ndarray], place: float) -> bool:
    """True if the signal returns to the fixed point: a larger q then needs larger weights."""
    near, far = scale(place + np.array([-0.01, 0.01]))
    return far > near


def _positive_variance(signal_variance: float) -> float:
    return max(_at_least_0(signal_variance, "signal_variance"), _ALMOST_0)


def _at_least_0(number: float, name: str) -> float:
    return functions.real_number(
        number, "theory", name, "a number of at least 0", lambda number: number >= 0
    )
