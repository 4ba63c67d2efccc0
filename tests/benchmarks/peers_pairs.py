"""The pairs of value and slope that are compared, each as every contender spells it."""

import dataclasses
import math
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Pair:
    """A value and a slope.

    ours: the name by which `activations.surrogate_of` finds it.
    value: "relu", "sigmoid" or "step".
    slope: the slope as a formula of `x` and of a framework's module, for the stop-gradient trick in
    its direct form.
    primitive: a function with that slope, for the trick's indirect form; needed only where that is
        compared.
    snntorch, spikingjelly: from the library's module of surrogates to its activation; None where it
        has none.
    """

    ours: str
    value: str
    slope: Callable | None = None
    primitive: Callable | None = None
    snntorch: Callable | None = None
    spikingjelly: Callable | None = None


def _bsilu_slope(x, module):
    sigmoid = module.sigmoid(x)
    return sigmoid + (x + 1.67) * sigmoid * (1 - sigmoid)


def _flat_spot_slope(x, module):
    sigmoid = module.sigmoid(x)
    return sigmoid * (1 - sigmoid) + 0.1


def _scaled_sigmoid_slope(x, module):
    sigmoid = module.sigmoid(4 * x)
    return 4 * sigmoid * (1 - sigmoid)


PAIRS = {
    "ReLU, B-SiLU": Pair(
        "sugar_bsilu",
        "relu",
        _bsilu_slope,
        lambda x, module: (x + 1.67) * module.sigmoid(x) - 1.67 / 2,
    ),
    "ReLU, NeLU": Pair(
        "sugar_nelu", "relu", lambda x, module: module.where(x > 0, 1.0, 0.1 * x / (1 + x * x) ** 2)
    ),
    "ReLU, softplus": Pair("artificial_relu", "relu", lambda x, module: module.sigmoid(x)),
    "ReLU, leaky 0.1": Pair(
        "leaky_backward", "relu", lambda x, module: module.where(x > 0, 1.0, 0.1)
    ),
    "sigmoid, flat spot": Pair("flat_spot", "sigmoid", _flat_spot_slope),
    "step, fast sigmoid": Pair(
        "superspike",
        "step",
        lambda x, module: 1 / (1 + 25 * module.abs(x)) ** 2,
        snntorch=lambda surrogate: surrogate.fast_sigmoid(25),
        # Its SuperSpike has no sharpness inside the square, so that its SoftSign is the same
        # function.
        spikingjelly=lambda surrogate: surrogate.SoftSign(25.0),
    ),
    "step, arc tangent": Pair(
        "atan_spike",
        "step",
        lambda x, module: 1 / (1 + (math.pi * x) ** 2),
        snntorch=lambda surrogate: surrogate.atan(2.0),
        spikingjelly=lambda surrogate: surrogate.ATan(2.0),
    ),
    "step, sigmoid 4x": Pair(
        "step|scaled_sigmoid",
        "step",
        _scaled_sigmoid_slope,
        snntorch=lambda surrogate: surrogate.sigmoid(4),
        spikingjelly=lambda surrogate: surrogate.Sigmoid(4.0),
    ),
    "step, triangle": Pair(
        "step|piecewise_quadratic",
        "step",
        lambda x, module: module.where(module.abs(x) < 1, 1 - module.abs(x), 0.0),
        snntorch=lambda surrogate: surrogate.triangular(1),
        spikingjelly=lambda surrogate: surrogate.PiecewiseQuadratic(1.0),
    ),
    "step, straight-through": Pair(
        "step|linear",
        "step",
        primitive=lambda x, module: x,
        snntorch=lambda surrogate: surrogate.straight_through_estimator(),
        spikingjelly=lambda surrogate: surrogate.DeterministicPass(),
    ),
}


def trick(pair, kind, value, module, stop_gradient):
    """The stop-gradient trick of SUGAR as a function of x; the slope comes from the only term that is not stopped.

        direct:    m = x * stop_gradient(slope(x));  y = m - stop_gradient(m) + stop_gradient(value(x))
        indirect:  m = primitive(x);                 y = m - stop_gradient(m) + stop_gradient(value(x))

    Source: Horuz et al. 2025, arXiv:2505.22074, after forward gradient injection, Otte 2024,
    arXiv:2406.00177, whose published code (github.com/AdaptiveAILab/fgi) is the direct form.
    """
    direct = kind == "direct" and pair.slope is not None

    def activation(x):
        m = x * stop_gradient(pair.slope(x, module)) if direct else pair.primitive(x, module)
        return m - stop_gradient(m) + stop_gradient(value(x))

    return activation
