"""A prediction in words, and the bounds of these words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from keras_surrogate import thresholds

if TYPE_CHECKING:
    from keras_surrogate.theory.prediction import Prediction

# The effects of an artificial derivative on training.
Effect: TypeAlias = Literal["helps", "hurts", "none", "cannot tell"]

# Between these the gradient keeps its size; between them and `thresholds` it shrinks or grows.
_SHRINKING = 0.1
_GROWING = 10.0

# The bounds of `rule`, chosen on the 486 comparisons of the first edition's grids. Ratios are those
# of the first layer's gradient to the last layer's.
# Adam and its relatives add an epsilon of 1e-7: a first gradient below it makes no full step.
_BELOW_EPSILON = 3e-7
_ABOVE_EPSILON = 3e-6
# A cosine below it points nowhere.
_DIRECTION_LOST = 0.1
# Where the true gradient falls so far, so does the signal, and plain SGD finds nothing.
_HOPELESS = 1e-5
# The product of learning rate and ratio below which a first layer does not move in some epochs.
_STANDSTILL = 1e-5
# A ratio over the true one that matters.
_LARGER = 1.6
# The last layer's signal over the first one's, from which on weights are too small: when they grow,
# a derivative that was balanced for small ones explodes.
_SHRINKING_SIGNAL = 0.01
# The learning rate from which on they grow within some epochs.
_RATE_OF_GROWTH = 0.01
# The product of learning rate and ratio from which on a larger step may be too large.
_LARGEST_STEP = 0.1
# The largest change of the signal's variance from the first to the last layer, either way.
_SIGNAL_BOUND = 1e6
# 1 - correlation: two inputs nearer to 1 are indistinguishable in float32.
_INDISTINGUISHABLE = 1e-7


def in_words(prediction: Prediction) -> str:
    """Sentences about signal, gradient and direction."""
    return f"{signal(prediction)} {gradient(prediction)} {direction(prediction)}"


def signal_is_lost(prediction: Prediction) -> bool:
    """True if the weights must change first: the outputs are alike, or out of range."""
    return _signal_trouble(prediction) is not None or _indistinguishable(prediction) is not None


def signal(prediction: Prediction) -> str:
    """The change of the signal's variance, and the layer from which on inputs are alike."""
    first, last = prediction.signal_variance[[0, -1]]
    trouble = _signal_trouble(prediction)
    sentence = f"The signal survives: its variance goes from {first:.2g} to {last:.2g}."
    if trouble is not None:
        sentence = (
            f"The signal {trouble} on its way forward: its variance goes from {first:.2g} to "
            f"{last:.2g}."
        )
    lost = _indistinguishable(prediction)
    return sentence if lost is None else f"{sentence} {lost}"


def _signal_trouble(prediction: Prediction) -> str | None:
    first, last = prediction.signal_variance[[0, -1]]
    if last == 0 or last < first / _SIGNAL_BOUND:
        return "dies out"
    return "explodes" if last > first * _SIGNAL_BOUND else None


def _indistinguishable(prediction: Prediction) -> str | None:
    """The layer from which on two inputs are the same in float32; None if there is none."""
    if prediction.correlation is None:
        return None
    alike = prediction.correlation > 1 - _INDISTINGUISHABLE
    if not alike[-1]:
        return None
    layer = int(alike.argmax()) + 1
    return (
        f"From layer {layer} on two inputs are indistinguishable in float32. Change the weight "
        "initialisation; another backward pass will not help."
    )


def gradient_is_off(prediction: Prediction) -> bool:
    """True if the gradient vanishes or explodes."""
    return not thresholds.VANISHING_RESCALED <= prediction.gradient_ratio <= thresholds.EXPLODING


def gradient(prediction: Prediction) -> str:
    """A sentence about the gradient's norm."""
    ratio = prediction.gradient_ratio
    if ratio == 0:
        return "No gradient reaches the first layer."
    bounds = {
        thresholds.VANISHING_RESCALED: "vanishes",
        _SHRINKING: "shrinks",
        _GROWING: "keeps its size",
        thresholds.EXPLODING: "grows",
    }
    word = next((word for bound, word in bounds.items() if ratio < bound), "explodes")
    return f"The gradient {word}: the first layer gets {ratio:.2g} times what the last one gets."


def direction(prediction: Prediction) -> str:
    """A sentence about the gradient's direction."""
    pair = prediction.surrogate
    if pair.backward == pair.forward and pair.scale > 0:
        return "Its direction is the true one."
    cosine = prediction.first_cosine
    if cosine is None:
        return "Its alignment is undefined, because the true gradient is zero."
    if cosine <= -thresholds.LOST:
        verb = "points uphill"
    elif cosine < thresholds.LOST:
        verb = "loses its direction"
    elif cosine < thresholds.MISALIGNED:
        verb = "loses some of its direction"
    else:
        verb = "keeps its direction"
    return f"It {verb}: its cosine with the true gradient at the first layer is {cosine:.2f}."


def effect(
    prediction: Prediction, true: Prediction, rescaled: bool = False, rate: float = 0.01
) -> Effect:
    """The effect on training, beside the true derivative.

    See `rule` for the rule. A signal that explodes, or inputs that are indistinguishable at the
    output, must be repaired first: then no derivative has an effect. `examples/evidence` compares
    these predictions with trainings.

    Args:
        prediction: a `Prediction` for the artificial derivative.
        true: one for the true derivative in the same network; its correlation, if it has one, is
            taken into account.
        rescaled: True if the optimizer rescales each parameter's step, as all but plain SGD do;
            default False.
        rate: the learning rate of plain SGD, a positive number; default 0.01, as Keras's.

    Returns:
        "helps", "hurts", "none" or "cannot tell".

    Raises:
        ValueError: `prediction` or `true` is not a `Prediction`, or `rate` is not positive.
    """
    _check_prediction(prediction, "prediction")
    _check_prediction(true, "true")
    if not 0 < rate < math.inf:
        raise ValueError(f"effect: rate must be a positive number, but is {rate!r}.")
    if _indistinguishable(true) is not None or _signal_trouble(true) == "explodes":
        return "none"
    first, last = true.signal_variance[[0, -1]]
    return rule(
        ratio=prediction.gradient_ratio,
        true_ratio=true.gradient_ratio,
        cosine=_cosine(prediction),
        rescaled=rescaled,
        rate=rate,
        weights_too_small=bool(last < _SHRINKING_SIGNAL * first),
    )


def rule(
    ratio: float,
    true_ratio: float,
    cosine: float,
    rescaled: bool,
    rate: float,
    weights_too_small: bool = False,
) -> Effect:
    """The effect of an artificial derivative, from numbers of the network before training.

    Optimizers that rescale steps forgive every norm above their epsilon, so that only a lost
    direction matters. Under plain SGD a larger gradient in the first layers is a larger step there:
    it helps if it is neither too large nor outgrown by the weights.

    Args:
        ratio: the norm of the first layer's gradient over the last layer's.
        true_ratio: the same with the true derivative.
        cosine: that of the first layer's gradient with the true one; 1 where that is zero.
        rescaled: True if the optimizer rescales each parameter's step.
        rate: the learning rate of plain SGD.
        weights_too_small: True if the signal falls to less than a hundredth on its way.
    """
    if rescaled:
        if true_ratio < _BELOW_EPSILON:
            return "helps" if ratio > _ABOVE_EPSILON else "none"
        return "hurts" if cosine < _DIRECTION_LOST else "none"
    if 0 < true_ratio < _HOPELESS or rate * max(ratio, true_ratio) < _STANDSTILL:
        return "none"
    if cosine < _DIRECTION_LOST:
        return "hurts"
    if ratio < _LARGER * true_ratio:
        return "none"
    if weights_too_small:
        return "hurts" if rate >= _RATE_OF_GROWTH else "cannot tell"
    return "helps" if rate * ratio < _LARGEST_STEP else "cannot tell"


def measured_effect(
    ratio: float | None,
    true_ratio: float | None,
    cosine: float | None,
    rescaled: bool,
    rate: float,
    weights_too_small: bool = False,
) -> Effect | None:
    """The effect by `rule` from measured numbers, of which some may be undefined.

    Args:
        ratio: as in `rule`; None where it was not measured, and then there is no effect.
        true_ratio: as in `rule`; None where the true gradient is 0 in both layers.
        cosine: as in `rule`; None where there is nothing to compare with.
        rescaled, rate, weights_too_small: as in `rule`.
    """
    if ratio is None:
        return None
    return rule(
        ratio=ratio,
        true_ratio=true_ratio or 0.0,
        cosine=1.0 if cosine is None else cosine,
        rescaled=rescaled,
        rate=rate,
        weights_too_small=weights_too_small,
    )


def _check_prediction(prediction: Prediction, name: str) -> None:
    if not hasattr(prediction, "gradient_ratio"):
        raise ValueError(
            f"effect: {name} must be a Prediction, such as theory.predict('relu', depth=20, "
            f"weight_variance='he_normal'), but is {prediction!r}. For a model use "
            "diagnosis.diagnose(model, x, y)."
        )


def _cosine(prediction: Prediction) -> float:
    """The cosine at the first layer; 1 where there is no true gradient to compare with."""
    cosine = prediction.first_cosine
    return 1.0 if cosine is None else cosine


def worth(prediction: Prediction) -> float:
    """A number from 0 to 1 to rank by: the cosine, divided by the decades that the norm is off.

    The first decade is free, and a negative cosine counts as 0.
    """
    return max(0.0, _cosine(prediction)) / decades_off(prediction.gradient_ratio)


def decades_off(ratio: float) -> float:
    """The decades between a ratio of norms and 1, at least 1; infinite for a ratio of 0."""
    if not 0 < ratio < math.inf:
        return math.inf
    return max(1.0, abs(math.log10(ratio)))
