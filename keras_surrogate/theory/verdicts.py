"""A prediction in words, and the bounds of these words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from keras_surrogate import thresholds

if TYPE_CHECKING:
    from keras_surrogate.theory.prediction import Prediction

# The effects of an artificial derivative on training.
Effect: TypeAlias = Literal["helps", "hurts", "none"]

# Between these the gradient keeps its size; between them and `thresholds` it shrinks or grows.
_SHRINKING = 0.1
_GROWING = 10.0
# The epsilon of Adam and its relatives in Keras: gradients below it make no full step.
_EPSILON = 1e-7
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


def effect(prediction: Prediction, true: Prediction, rescaled: bool = False) -> Effect:
    """The effect on training, beside the true derivative: "helps", "hurts" or "none".

    A derivative trains if the signal reaches the output and the gradient reaches the first layer:
    its norm within a factor of 10 of the last layer's, its cosine with the true one at least 0.4.
    An optimizer that rescales each parameter's step compensates for norms, also of the signal, down
    to the epsilon that it adds, 1e-7. Where both or neither train, there is no effect.

    `examples/evidence` compares these predictions with trainings.

    Args:
        prediction: a `Prediction` for the artificial derivative.
        true: one for the true derivative in the same network; its correlation, if it has one, is
            taken into account.
        rescaled: True if the optimizer rescales each parameter's step, as all but plain SGD do;
            default False.

    Raises:
        ValueError: `prediction` or `true` is not a `Prediction`.
    """
    _check_prediction(prediction, "prediction")
    _check_prediction(true, "true")
    fatal = ("explodes",) if rescaled else ("explodes", "dies out")
    if _indistinguishable(true) is not None or _signal_trouble(true) in fatal:
        return "none"
    trains = _trains(prediction, rescaled)
    true_trains = _trains(true, rescaled)
    if trains == true_trains:
        return "none"
    return "helps" if trains else "hurts"


def _check_prediction(prediction: Prediction, name: str) -> None:
    if not hasattr(prediction, "gradient_ratio"):
        raise ValueError(
            f"effect: {name} must be a Prediction, such as theory.predict('relu', depth=20, "
            f"weight_variance='he_normal'), but is {prediction!r}. For a model use "
            "diagnosis.diagnose(model, x, y)."
        )


def _trains(prediction: Prediction, rescaled: bool) -> bool:
    ratio = prediction.gradient_ratio
    norm_is_right = ratio >= _EPSILON if rescaled else _SHRINKING <= ratio <= _GROWING
    return norm_is_right and _cosine(prediction) >= thresholds.LOST


def _cosine(prediction: Prediction) -> float:
    """The cosine at the first layer; 1 where there is no true gradient to compare with."""
    cosine = prediction.first_cosine
    return 1.0 if cosine is None else cosine


def worth(prediction: Prediction) -> float:
    """A number from 0 to 1 to rank by: the cosine, divided by the decades that the norm is off.

    The first decade is free, and a negative cosine counts as 0.
    """
    ratio = prediction.gradient_ratio
    decades = abs(math.log10(ratio)) if ratio > 0 else math.inf
    return max(0.0, _cosine(prediction)) / max(1.0, decades)
