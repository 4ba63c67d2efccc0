"""What to expect of a deep network before it is trained: `predict`."""

import dataclasses
import math

import numpy as np

from keras_surrogate import functions, presets
from keras_surrogate.reprs import Shown
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import finite_width, mean_field, moments, verdicts, weights

STACKS = ("plain", "residual", "batch_norm")
# Below this variance of the pre-activations nothing is left of the signal, in any dtype.
_NO_SIGNAL = 1e-200


@dataclasses.dataclass(frozen=True)
class DepthScales:
    """In how many layers each quantity changes by a factor e, on average over the network; inf if it does not.

    Of the correlation it is the distance to its limit that shrinks by e, at the last layers. None
    is undefined.
    """

    signal: float | None
    gradient: float | None
    alignment: float | None
    correlation: float | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Prediction(Shown):
    """What `predict` returns: arrays of shape (depth,), first layer first.

    signal_variance: the variance of the pre-activations.
    gradient_norm: the norm of the gradient of the pre-activations, for a gradient of norm 1 at the
        last layer's output.
    alignment: its cosine with the true gradient; None where that is 0 in some layer, so that it has
        no direction.
    correlation: of the pre-activations of two inputs; None unless `input_correlation` was given.
    depth_scales: a `DepthScales`.
    verdict: sentences about signal, gradient and direction.
    """

    surrogate: Surrogate
    depth: int
    width: int | None
    signal_variance: np.ndarray
    gradient_norm: np.ndarray
    alignment: np.ndarray | None
    correlation: np.ndarray | None

    _more = "print(prediction), prediction.gradient_norm, prediction.alignment, plots.prediction(prediction)"

    def _facts(self):
        return {
            "": self.surrogate.title,
            "depth": self.depth,
            "width": "infinite" if self.width is None else self.width,
            "gradient of the first layer over the last": self.gradient_ratio,
            "cosine with the true one": None
            if self.alignment is None
            else float(self.alignment[0]),
            "last signal variance": float(self.signal_variance[-1]),
        }

    def _table(self):
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
    def gradient_ratio(self):
        """The gradient's norm at the first layer over that at the last."""
        return (
            float(self.gradient_norm[0] / self.gradient_norm[-1]) if self.gradient_norm[-1] else 0.0
        )

    @property
    def depth_scales(self):
        return DepthScales(
            _layers_per_e(self.signal_variance),
            _layers_per_e(self.gradient_norm),
            None if self.alignment is None else _layers_per_e(np.abs(self.alignment)),
            None if self.correlation is None else _layers_of_convergence(self.correlation),
        )

    @property
    def verdict(self):
        return verdicts.in_words(self)

    def __str__(self):
        return self.verdict


@np.errstate(over="ignore")
def predict(
    surrogate,
    depth,
    weight_variance,
    bias_variance=0.0,
    input_variance=1.0,
    width=None,
    input_correlation=None,
    *,
    fans=None,
    stack="plain",
    draws=None,
    seed=0,
):
    """Signal, gradient and alignment in every layer of an untrained network of `depth` layers f(W x + b).

    `keras_surrogate.theory` has the formulas. Without a width they are those of the limit of wide
    layers. With one, the result is the typical network of that width (the mean of the middle half
    of `draws` sampled ones: of norms as logarithms, of cosines as inverse hyperbolic tangents). The
    correlation is that of the limit.

    Args:
        surrogate: the activation; whatever `keras_surrogate.get` takes.
        depth: the number of layers, at least 1.
        weight_variance: sigma_w**2 = fan_in * Var(W), in [0, inf), or a Keras initializer or its
            name ("he_normal" is 2, "glorot_uniform" 1 where the fans are equal).
        bias_variance: sigma_b**2, the variance of the biases, in [0, inf), default 0.
        input_variance: the mean square of the input's numbers, in [0, inf), default 1.
        width: units of every layer, at least 2; default None, infinitely many.
        input_correlation: cosine of two inputs, from -1 to 1; default None, no correlations.
        fans: (fan_in, fan_out) of a layer; default both the width. Only without `width` may they
            differ.
        stack: "plain"; "residual", of layers x + f(W x + b); or "batch_norm", of layers
            f(BatchNorm(W x)) for large batches of unlike inputs. The last two for infinite width
            only, and "batch_norm" without correlations.
        draws: how many networks of finite width to sample, at least 8; default None: 200, and down
            to 32 where few units carry the gradient, so that more of these are needed (0.2 s and
            more).
        seed: an integer that fixes them, default 0.

    A convolution is treated as a dense layer whose fans include the kernel's size, as Keras counts
    them: leave out `width` and give `fans`. This holds for many channels and away from the border
    of the image; padding, strides, pooling and the likeness of neighbouring pixels are left out
    (Xiao et al. 2018, arXiv:1806.05393).

    Returns:
        A `Prediction`.

    Raises:
        ValueError: an argument out of range, a combination that the theory does not cover, or a
            signal that explodes.
    """
    surrogate, depth = presets.get(surrogate), _integer(depth, "depth", 1)
    width = None if width is None else _integer(width, "width", 2)
    forward, backward = weights.variances(weight_variance, fans, width)
    bias, power = (
        _at_least_0(bias_variance, "bias_variance"),
        _at_least_0(input_variance, "input_variance"),
    )
    _check_stack(stack, width, input_correlation, forward, backward)
    variances, powers = mean_field.signal(surrogate, depth, forward, bias, power, stack)
    correlation = None
    if input_correlation is not None:
        cosine = _number(
            input_correlation, "input_correlation", "a number from -1 to 1", lambda c: -1 <= c <= 1
        )
        correlation = mean_field.correlations(
            surrogate, variances, powers, forward, bias, cosine, stack
        )
    if width is None or not _has_gradient(surrogate, variances):
        log_norm, alignment = mean_field.overlaps(surrogate, variances, backward, stack)
    else:
        units = finite_width.units_for(surrogate, variances, width)
        network = finite_width.Network(
            surrogate, forward, bias, power, width, _is_decoupled(surrogate, variances), units
        )
        draws = finite_width.draws_for(units) if draws is None else _integer(draws, "draws", 8)
        seed = _integer(seed, "seed", 0)
        variances, log_norm, alignment = network.typical_of(variances, draws, seed)
        alignment = alignment if network.with_true else _alignment_of_one(surrogate, depth)
    alignment = None if np.isnan(alignment).any() else alignment
    return Prediction(
        surrogate, depth, width, variances, _exponential(log_norm), alignment, correlation
    )


def _has_gradient(surrogate, variances):
    """Whether there are signal and slope in every layer; otherwise the first layer's gradient is 0 at any width."""
    return (
        variances.min() > _NO_SIGNAL
        and moments.slope_power(surrogate, variances, moments.COARSE).min() > 0
    )


def _is_decoupled(surrogate, variances):
    """Whether there is a true gradient besides the artificial one, and in every layer."""
    is_other = surrogate.forward != surrogate.backward
    return bool(
        is_other and moments.true_slope_power(surrogate, variances, moments.COARSE).min() > 0
    )


def _alignment_of_one(surrogate, depth):
    """1 of an activation with its own slope, -1 by turns if that is reversed; NaN where there is no true slope."""
    if surrogate.forward != surrogate.backward:
        return np.full(depth, np.nan)
    return np.sign(surrogate.scale) ** np.arange(depth, 0, -1)


def _exponential(log_norm):
    if log_norm.max() > 700:
        raise ValueError(
            "The gradient explodes: its norm passes 10**304. Lower weight_variance, or take "
            "theory.balance(surrogate, ...)."
        )
    return np.exp(log_norm)


def _check_stack(stack, width, input_correlation, forward, backward):
    if stack not in STACKS:
        raise ValueError(f"predict: stack must be one of {STACKS}, but is {stack!r}.")
    if stack != "plain" and width is not None:
        raise ValueError(
            f"predict: of a {stack!r} stack only the limit of infinite width is known; leave out width=."
        )
    if stack == "batch_norm" and input_correlation is not None:
        raise ValueError(
            "predict: batch normalisation makes unlike inputs uncorrelated; leave out input_correlation=."
        )
    if width is not None and not math.isclose(forward, backward):
        raise ValueError("predict: layers of one width have equal fans; leave out fans= or width=.")


def _number(number, name, meaning, accepts):
    return functions.real_number(number, "predict", name, meaning, accepts)


def _at_least_0(number, name):
    return _number(number, name, "a number of at least 0", lambda number: number >= 0)


def _integer(number, name, least):
    meaning = f"an integer of at least {least}"
    return int(
        _number(number, name, meaning, lambda number: number >= least and number == int(number))
    )


def _layers_per_e(numbers):
    if not (numbers > 0).all():
        return None
    change = abs(math.log(numbers[-1]) - math.log(numbers[0]))
    return (len(numbers) - 1) / change if change > 1e-9 else math.inf


# Steps of the correlation smaller than this are rounding.
_LEAST_STEP = 1e-9


def _layers_of_convergence(correlation):
    steps = np.abs(np.diff(correlation))
    steps = steps[: int(np.argmin(steps > _LEAST_STEP))] if (steps <= _LEAST_STEP).any() else steps
    if len(steps) < 2 or not steps[-1] < steps[-2]:
        return math.inf
    return 1 / math.log(steps[-2] / steps[-1])
