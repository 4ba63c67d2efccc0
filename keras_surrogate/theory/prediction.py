"""The prediction of signal, gradient and alignment in a deep network before training: `predict`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import checks, functions, presets
from keras_surrogate.reprs import Shown
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import (
    finite_width,
    interpolation,
    mean_field,
    moments,
    stacks,
    verdicts,
    weights,
)

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.functions.base import Function
    from keras_surrogate.theory.stacks import Stack
    from keras_surrogate.theory.weights import WeightsLike

# The deepest network. Signal and correlation go from layer to layer, some 0.3 ms for each.
DEEPEST = 100_000
# Below this variance of the pre-activations nothing is left of the signal, in any dtype.
_NO_SIGNAL = 1e-200
# The exponential of a larger number comes close to the largest float64, 10**308.
_LARGEST_LOG = 700
# A smaller change of a logarithm over the whole network is rounding.
_NO_CHANGE = 1e-9
# Steps of the correlation smaller than this are rounding.
_LEAST_STEP = 1e-9


@dataclasses.dataclass(frozen=True)
class DepthScales:
    """The number of layers in which each quantity changes by a factor e, a mean over the network.

    inf: the quantity does not change. None: it is undefined.

    Attributes:
        signal: of the signal's variance.
        gradient: of the gradient's norm.
        alignment: of the cosine with the true gradient.
        correlation: of the correlation's distance from its limit, at the last layers.
    """

    signal: float | None
    gradient: float | None
    alignment: float | None
    correlation: float | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction(Shown):
    """The result of `predict`; arrays of shape (depth,), first layer first.

    Attributes:
        surrogate, depth, width: as given to `predict`.
        signal_variance: the variance of the pre-activations.
        gradient_norm: the norm of the gradient of the pre-activations, for a gradient of norm 1 at
            the last layer's output.
        alignment: its cosine with the true gradient; None where the true gradient is 0 in some
            layer and has no direction.
        correlation: that of the pre-activations of two inputs; None unless `input_correlation` was
            given.
    """

    surrogate: Surrogate
    depth: int
    width: int | None
    signal_variance: np.ndarray
    gradient_norm: np.ndarray
    alignment: np.ndarray | None
    correlation: np.ndarray | None

    _more = (
        "print(prediction), prediction.gradient_norm, prediction.alignment, "
        "plots.prediction(prediction)"
    )

    def _facts(self) -> dict[str, object]:
        return {
            "": self.surrogate.title,
            "depth": self.depth,
            "width": "infinite" if self.width is None else self.width,
            "gradient of the first layer over the last": self.gradient_ratio,
            "cosine with the true one": self.first_cosine,
            "last signal variance": float(self.signal_variance[-1]),
        }

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
        columns = {
            "signal variance": self.signal_variance,
            "gradient norm": self.gradient_norm,
            "cosine": self.alignment,
            "correlation": self.correlation,
        }
        known = {name: column for name, column in columns.items() if column is not None}
        some = sorted({*range(0, self.depth, max(1, self.depth // 8)), self.depth - 1})
        rows = [[layer + 1, *(column[layer] for column in known.values())] for layer in some]
        return ["layer", *known], rows

    @property
    def gradient_ratio(self) -> float:
        """The gradient's norm at the first layer over that at the last."""
        last = self.gradient_norm[-1]
        return float(self.gradient_norm[0] / last) if last else 0.0

    @property
    def first_cosine(self) -> float | None:
        """The cosine with the true gradient at the first layer; None where it is undefined."""
        return None if self.alignment is None else float(self.alignment[0])

    @property
    def depth_scales(self) -> DepthScales:
        """The `DepthScales` of signal, gradient, alignment and correlation."""
        alignment = None
        if self.alignment is not None:
            alignment = _layers_per_e(np.abs(self.alignment))
        correlation = None
        if self.correlation is not None:
            correlation = _layers_of_convergence(self.correlation)
        return DepthScales(
            signal=_layers_per_e(self.signal_variance),
            gradient=_layers_per_e(self.gradient_norm),
            alignment=alignment,
            correlation=correlation,
        )

    @property
    def verdict(self) -> str:
        """Sentences about signal, gradient and direction."""
        return verdicts.in_words(self)

    def __str__(self) -> str:
        return self.verdict


def predict(
    surrogate: SurrogateLike,
    depth: int,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    width: int | None = None,
    input_correlation: float | None = None,
    *,
    fans: tuple[float, float] | None = None,
    stack: str = "plain",
    draws: int | None = None,
    seed: int = 0,
) -> Prediction:
    """Predict signal, gradient and alignment in every layer of an untrained network.

    The network has `depth` layers f(W x + b). `keras_surrogate.theory` has the formulas. Without a
    width they are those of the limit of wide layers. With a width, the result is the typical
    network of that width: the mean of the middle half of `draws` sampled networks, of norms as
    logarithms, of cosines as inverse hyperbolic tangents. The correlation is that of the limit.

    Args:
        surrogate: the activation; any argument of `keras_surrogate.get`.
        depth: the number of layers, from 1 to 100 000.
        weight_variance: sigma_w**2 = fan_in * Var(W), in [0, inf), or a Keras initializer or its
            name ("he_normal" is 2, "glorot_uniform" 1 where the fans are equal).
        bias_variance: sigma_b**2, the variance of the biases, in [0, inf), default 0.
        input_variance: the mean square of the input's numbers, in [0, inf), default 1.
        width: units of every layer, at least 2; default None, infinitely many.
        input_correlation: cosine of two inputs, from -1 to 1; default None, no correlations.
        fans: (fan_in, fan_out) of a layer; default both the width. They may differ only without
            `width`.
        stack: "plain", the default; "residual", of layers x + f(W x + b); or "batch_norm", of
            layers f(BatchNorm(W x)) for large batches of unlike inputs. The last two for infinite
            width only, and "batch_norm" without correlations.
        draws: the number of sampled networks of finite width, at least 8. Default None: 200, and
            down to 32 where few units carry the gradient and more units are drawn (0.2 s and more).
        seed: an integer of at least 0 that fixes the samples, default 0.

    A convolution is treated as a dense layer whose fans include the kernel's size, as Keras counts
    them: leave out `width` and give `fans`. This holds for many channels and away from the border
    of the image. Padding, strides, pooling and the similarity of neighbouring pixels are left out
    (Xiao et al. 2018, arXiv:1806.05393).

    Returns:
        A `Prediction`.

    Raises:
        ValueError: an argument out of range, a combination that the theory does not cover, or a
            signal that explodes.
    """
    surrogate = presets.get(surrogate)
    network = prepared(
        surrogate.forward,
        depth,
        weight_variance,
        bias_variance,
        input_variance,
        width,
        input_correlation,
        fans=fans,
        stack=stack,
    )
    return network.predict(surrogate, draws, seed)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The forward pass, which is the same for every slope of the backward pass.

    Attributes:
        depth, width: as given to `predict`.
        weights: sigma_w**2 of the backward pass.
        bias, power: sigma_b**2, and the mean square of the input.
        stack: how the layers are put together.
        variances: those of the pre-activations in the limit of infinite width, (depth,).
        correlation: that of two inputs, (depth,), or None.
    """

    depth: int
    width: int | None
    weights: float
    bias: float
    power: float
    stack: Stack
    variances: np.ndarray
    correlation: np.ndarray | None

    @np.errstate(over="ignore")
    def predict(self, surrogate: Surrogate, draws: int | None = None, seed: int = 0) -> Prediction:
        """The prediction for a pair with this forward; arguments and errors as in `predict`."""
        if self.width is None or not _has_gradient(surrogate, self.variances):
            signal = self.variances
            log_norm, alignment = mean_field.overlaps(surrogate, signal, self.weights, self.stack)
        else:
            signal, log_norm, alignment = self._sampled(surrogate, draws, seed)
        return Prediction(
            surrogate=surrogate,
            depth=self.depth,
            width=self.width,
            signal_variance=signal,
            gradient_norm=_exponential(log_norm),
            alignment=None if np.isnan(alignment).any() else alignment,
            correlation=self.correlation,
        )

    def _sampled(
        self, surrogate: Surrogate, draws: int | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signal, logarithm of the gradient's norm and alignment of the typical network."""
        units = finite_width.units_for(surrogate, self.variances, self.width)
        with_true = _is_decoupled(surrogate, self.variances)
        network = finite_width.Network(
            surrogate, self.weights, self.bias, self.power, self.width, with_true, units
        )
        if draws is None:
            draws = finite_width.draws_for(units)
        draws = checks.integer(draws, "predict: draws", least=8)
        seed = checks.integer(seed, "predict: seed", least=0)
        signal, log_norm, alignment = network.typical_of(self.variances, draws, seed)
        if not with_true:
            alignment = _alignment_of_one(surrogate, self.depth)
        return signal, log_norm, alignment


@np.errstate(over="ignore")
def prepared(
    forward: Function,
    depth: int,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    width: int | None = None,
    input_correlation: float | None = None,
    *,
    fans: tuple[float, float] | None = None,
    stack: str = "plain",
) -> Network:
    """The forward pass of a network; arguments and errors as in `predict`."""
    depth = checks.integer(depth, "predict: depth")
    if depth > DEEPEST:
        raise ValueError(f"predict: depth must be an integer from 1 to {DEEPEST}, but is {depth}.")
    if width is not None:
        width = checks.integer(width, "predict: width", least=2)
    forward_weights, backward_weights = weights.variances(weight_variance, fans, width)
    bias = _at_least_0(bias_variance, "bias_variance")
    power = _at_least_0(input_variance, "input_variance")
    layers = stacks.get(stack, "predict: stack")
    _check_combination(layers, width, input_correlation, forward_weights, backward_weights)

    true = Surrogate(forward)
    variances, powers = mean_field.signal(true, depth, forward_weights, bias, power, layers)
    correlation = None
    if input_correlation is not None:
        cosine = _number(
            input_correlation, "input_correlation", "a number from -1 to 1", lambda c: -1 <= c <= 1
        )
        correlation = mean_field.correlations(
            true, variances, powers, forward_weights, bias, cosine, layers
        )
    return Network(
        depth=depth,
        width=width,
        weights=backward_weights,
        bias=bias,
        power=power,
        stack=layers,
        variances=variances,
        correlation=correlation,
    )


def _has_gradient(surrogate: Surrogate, variances: np.ndarray) -> bool:
    """True if every layer has signal and slope; otherwise the first layer's gradient is 0."""
    if variances.min() <= _NO_SIGNAL:
        return False
    return _is_positive(moments.slope_power, surrogate, variances)


def _is_decoupled(surrogate: Surrogate, variances: np.ndarray) -> bool:
    """True if every layer has a true gradient besides the artificial one."""
    if surrogate.forward == surrogate.backward:
        return False
    return _is_positive(moments.true_slope_power, surrogate, variances)


def _is_positive(
    power: Callable[..., np.ndarray], surrogate: Surrogate, variances: np.ndarray
) -> bool:
    """True if an average is positive at every variance."""

    def compute(some: np.ndarray) -> tuple[np.ndarray]:
        return (power(surrogate, some, moments.COARSE),)

    return bool(interpolation.at(compute, variances).min() > 0)


def _alignment_of_one(surrogate: Surrogate, depth: int) -> np.ndarray:
    """The alignment of a gradient that is alone: +-1, or NaN where there is no true slope.

    An activation with its own slope has 1. A reversed slope has the sign -1 once for each layer.
    """
    if surrogate.forward != surrogate.backward:
        return np.full(depth, np.nan)
    return np.sign(surrogate.scale) ** np.arange(depth, 0, -1)


def _exponential(log_norm: np.ndarray) -> np.ndarray:
    if log_norm.max() > _LARGEST_LOG:
        raise ValueError(
            "The gradient explodes: its norm exceeds 10**304. Lower weight_variance, or use "
            "theory.balance(surrogate, ...)."
        )
    return np.exp(log_norm)


def _check_combination(
    stack: Stack,
    width: int | None,
    input_correlation: float | None,
    forward: float,
    backward: float,
) -> None:
    if width is not None and not stack.has_finite_width:
        raise ValueError(
            f"predict: for stack={stack.name!r} only the limit of infinite width is known; leave "
            "out width=."
        )
    if input_correlation is not None and not stack.has_correlations:
        raise ValueError(
            "predict: batch normalisation makes unlike inputs uncorrelated; leave out "
            "input_correlation=."
        )
    if width is not None and not math.isclose(forward, backward):
        raise ValueError("predict: layers of one width have equal fans; leave out fans= or width=.")


def _number(number: float, name: str, meaning: str, accepts: Callable[[float], bool]) -> float:
    return functions.real_number(number, "predict", name, meaning, accepts)


def _at_least_0(number: float, name: str) -> float:
    return _number(number, name, "a number of at least 0", lambda number: number >= 0)


def _layers_per_e(numbers: np.ndarray) -> float | None:
    if not (numbers > 0).all():
        return None
    change = abs(math.log(numbers[-1]) - math.log(numbers[0]))
    return (len(numbers) - 1) / change if change > _NO_CHANGE else math.inf


def _layers_of_convergence(correlation: np.ndarray) -> float:
    steps = np.abs(np.diff(correlation))
    if (steps <= _LEAST_STEP).any():
        steps = steps[: int(np.argmin(steps > _LEAST_STEP))]
    if len(steps) < 2 or not steps[-1] < steps[-2]:
        return math.inf
    # The distance from the limit shrinks by the same factor in each layer, and so do the steps.
    return 1 / math.log(steps[-2] / steps[-1])
