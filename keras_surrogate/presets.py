"""Published pairs under their published names, and `get`, which finds a surrogate by name.

A preset is a function that returns a `Surrogate`, marked by `@preset`. To add one, edit nothing
else. The first line and `Source:` of its docstring are its row in the documentation; the optional
`scale:` is the factor of the slope.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import keras

from keras_surrogate import functions
from keras_surrogate.functions.lookup import PAIRS
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike

_Make = TypeVar("_Make", bound=Callable[..., Surrogate])


def preset(make: _Make) -> _Make:
    """Add a function that makes a `Surrogate` to the presets, under its own name."""
    PAIRS[make.__name__] = make
    return make


@preset
def artificial_relu() -> Surrogate:
    """ReLU with the sigmoid for its derivative, so that every unit receives a gradient.

    Source: Hu, Zhang and Ge 2021, IEEE Access 9, doi:10.1109/ACCESS.2021.3054915.
    """
    return Surrogate("relu", "softplus")


@preset
def flat_spot(constant: float = 0.1) -> Surrogate:
    """The sigmoid with a constant added to its derivative, which is then never 0.

    Args:
        constant: the added slope, in [0, inf), default 0.1.

    Source: Fahlman 1988, CMU-CS-88-162; Roodschild et al. 2020, doi:10.1007/s13748-020-00218-y.
    """
    return Surrogate("sigmoid", functions.FlatSpotSigmoid(constant))


@preset
def sugar_bsilu(alpha: float = 1.67) -> Surrogate:
    """ReLU with the slope of B-SiLU, above 1 around x = 1.5 and slightly negative far below 0.

    Args:
        alpha: B-SiLU's shift, in (0, inf), default 1.67.

    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074.
    """
    return Surrogate("relu", functions.Bsilu(alpha))


@preset
def sugar_nelu(alpha: float = 0.05) -> Surrogate:
    """ReLU with the slope of NeLU, which is negative for x < 0.

    Args:
        alpha: NeLU's strength, in (0, inf), default 0.05.

    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074.
    """
    return Surrogate("relu", functions.Nelu(alpha))


@preset
def leaky_backward(negative_slope: float = 0.1) -> Surrogate:
    """ReLU with the slope of leaky ReLU: inactive units receive a part of their gradient.

    Args:
        negative_slope: that part, in [0, 1], default 0.1, with which the gradient keeps nearly its
            true direction.

    Source: ProxyGrad, 2024, arXiv:2410.16958.
    """
    return Surrogate("relu", functions.LeakyRelu(negative_slope))


@preset
def ste_sign() -> Surrogate:
    """The sign, 1 at 0, with slope 1 on [-1, 1]: the clipped straight-through estimator.

    It is the usual one of binarised networks.

    Source: Courbariaux et al. 2016, arXiv:1602.02830.
    """
    return Surrogate(functions.Sign(at_zero=1.0), "hard_tanh")


@preset
def approx_sign() -> Surrogate:
    """The sign, 1 at 0, with a triangle for its derivative: 2 (1 - |x|) on [-1, 1].

    scale: 2

    Source: Bi-Real Net, Liu et al. 2018, arXiv:1808.00278.
    """
    return Surrogate(functions.Sign(at_zero=1.0), functions.PiecewiseQuadratic(1.0), scale=2.0)


@preset
def swish_sign(beta: float = 5.0) -> Surrogate:
    """The sign, 1 at 0, with the slope of the function `swish_sign`.

    The slope is negative beyond |x| = 2.4 / beta, 0.48 for the default. Inputs further out are
    moved towards 0, where the sign can change. `get` gives this pair; the function alone is
    `functions.get("swish_sign")`.

    Args:
        beta: the sharpness, in (0, inf), default 5.0.

    Source: BNN+, Darabi et al. 2018, arXiv:1812.11800.
    """
    return Surrogate(functions.Sign(at_zero=1.0), functions.SwishSign(beta))


@preset
def ste_tern(threshold: float = 0.05) -> Surrogate:
    """The ternary sign, 0 up to the threshold, with slope 1 on [-1, 1].

    Args:
        threshold: inputs up to this size become 0, in [0, inf), default 0.05.

    Source: ternary weight networks, Li et al. 2016, arXiv:1605.04711; as larq's ste_tern.
    """
    return Surrogate(functions.Ternary(threshold), "hard_tanh")


@preset
def twn(threshold: float = 0.7) -> Surrogate:
    """The ternary sign of ternary weight networks, for weights divided by their mean size.

    The rule's threshold is 0.7 times the mean of abs(w) over a tensor. So apply it to
    w / mean(abs(w)). The slope is 1 everywhere. `layers.SurrogateWeights` does not divide by the
    mean. With `scale="max_abs"` it divides by the maximum, which is twice the mean of uniform
    weights, as from Keras's default initializer: pass twn(0.35) there. Without it, and with
    "mean_abs", small weights all become 0.

    Args:
        threshold: in units of the mean size, in [0, inf), default 0.7.

    Source: ternary weight networks, Li et al. 2016, arXiv:1605.04711.
    """
    return Surrogate(functions.Ternary(threshold), "linear")


@preset
def dorefa(bits: int = 2) -> Surrogate:
    """DoReFa's activation: levels from 0 to 1, with slope 1 on [0, 1].

    Args:
        bits: the number of bits, a whole number from 1 to 15, default 2.

    Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160.
    """
    return Surrogate(functions.Dorefa(bits), "clip")


@preset
def dorefa_weight(bits: int = 2, largest: float = 1.0) -> Surrogate:
    """DoReFa's weight: levels of tanh(x) / largest from -1 to 1, with the slope of that quotient.

    Args:
        bits: the number of bits, a whole number from 1 to 15, default 2.
        largest: the value of abs(tanh(x)) with the outer levels, in (0, inf), default 1.0; the
            paper takes the largest of the tensor.

    scale: 1 / largest

    Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160.
    """
    forward = functions.DorefaWeight(bits, largest)
    return Surrogate(forward, "tanh", scale=1 / forward.largest)


@preset
def dge_fp4(k: float = 5.0, limit: float = 3.0) -> Surrogate:
    """Floating-point numbers of four bits (E2M1), with a slope that is steep between them.

    The numbers reach from -6 to 6, and what is smaller than 0.25 becomes 0. So weights must be
    scaled up: `layers.SurrogateWeights` with `scale="learned"` does so, the other scales do not.

    Args:
        k: the sharpness, in (1, inf), default 5.0.
        limit: the largest slope, in (0, inf), default 3.0.

    Source: differentiable gradient estimator, Wang et al. 2025, arXiv:2501.17116.
    """
    return Surrogate("fp4", functions.Dge(k, limit))


@preset
def reste_sign(o: float = 3.0, t: float = 1.5, m: float = 0.1) -> Surrogate:
    """The sign, 1 at 0, with the slope of a root of x.

    Args:
        o: the order of the root, in (0, inf), default 3.0; 1 is a clipped straight-through
            estimator, from which the paper rises to 3 during the training.
        t: the size beyond which the slope is 0, in (0, inf), default 1.5.
        m: the size below which the slope is constant, in (0, inf), default 0.1.

    Source: rectified straight-through estimator, Wu et al. 2023, arXiv:2308.06689.
    """
    return Surrogate(functions.Sign(at_zero=1.0), functions.Reste(o, t, m))


@preset
def superspike(sharpness: float = 25.0) -> Surrogate:
    """The step with the slope of the fast sigmoid, which is 1 at 0 and decreases as 1 / x**2.

    Args:
        sharpness: the k of the formula, in (0, inf), default 25.0, as in snnTorch.

    Source: SuperSpike, Zenke and Ganguli 2018, arXiv:1705.11146.
    """
    return Surrogate("step", functions.FastSigmoid(sharpness))


@preset
def atan_spike(alpha: float = 2.0) -> Surrogate:
    """The step with the slope of the arc tangent, alpha / 2 at 0.

    Args:
        alpha: the sharpness, in (0, inf), default 2.0.

    Source: Fang et al. 2021, arXiv:2007.05785, in SpikingJelly's parametrisation.
    """
    return Surrogate("step", functions.Atan(alpha))


@preset
def dspike(b: float = 3.0) -> Surrogate:
    """The step with a part of the hyperbolic tangent's slope, 0 beyond |x| = 1/2.

    Args:
        b: the sharpness, in (0, inf), default 3.0.

    Source: Li et al. 2021, NeurIPS, "Differentiable Spike".
    """
    return Surrogate("step", functions.Dspike(b))


@preset
def gradient_reversal(weight: float = 1.0) -> Surrogate:
    """The identity with a reversed gradient: the layers before it learn to increase the loss.

    Args:
        weight: the factor of the reversed gradient, any finite number, default 1.0.

    scale: -weight

    Source: Ganin and Lempitsky 2015, arXiv:1409.7495.
    """
    weight = functions.real_number(weight, "gradient_reversal", "weight")
    return Surrogate("linear", scale=-weight)


def names() -> list[str]:
    """The names of the presets, sorted."""
    return sorted(PAIRS)


def get(identifier: SurrogateLike, **parameters: float | bool) -> Surrogate:
    """The `Surrogate` for a name, a configuration, a callable or a function.

    Keras finds only its own activations by name: `Dense(8, activation="sugar_bsilu")` is an error.
    Pass

        Dense(8, activation=get("sugar_bsilu"))

    or, where JSON is needed, as in a file of settings, the dictionary of
    `keras.saving.serialize_keras_object`:

        Dense(8, activation=keras.saving.serialize_keras_object(get("sugar_bsilu")))

    KerasHub's backbones take both for their `activation=`.

    Args:
        identifier: the name of a preset ("sugar_bsilu"); the name of a function ("tanh"), which
            gives the ordinary activation; a configuration, from `Surrogate.get_config()` or from
            Keras's serialization; a callable or a `Function`; or a `Surrogate`.
        parameters: the parameters of a preset or function: `get("leaky_backward",
            negative_slope=0.3)`. Only with a name.

    Raises:
        ValueError: an unknown name, an unknown parameter, or a parameter out of range.
    """
    if isinstance(identifier, str) and identifier in PAIRS:
        return _make(identifier, parameters)
    if isinstance(identifier, str) and not functions.is_known(identifier):
        raise functions.unknown_name(
            "surrogate or function", identifier, names() + functions.names()
        )
    if isinstance(identifier, dict) and "class_name" in identifier:
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, dict) and "forward" in identifier:
        identifier = Surrogate.from_config(identifier)
    if isinstance(identifier, Surrogate) and not parameters:
        return identifier
    return Surrogate(functions.get(identifier, **parameters))


def _make(name: str, parameters: Mapping[str, Any]) -> Surrogate:
    accepted = list(inspect.signature(PAIRS[name]).parameters)
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise ValueError(f"{name} has no parameter {unknown}; it has {accepted or 'none'}.")
    return PAIRS[name](**parameters)
