"""A prediction in words, and the bounds that the words stand for."""

import math

from keras_surrogate import thresholds

# Between these the gradient keeps its size; between them and `thresholds` it shrinks or grows.
_SHRINKING, _GROWING = 0.1, 10.0
# Adam's and its relatives' in Keras: gradients below it make no full step.
_EPSILON = 1e-7
# Last over first variance of the signal, either way.
_SIGNAL_BOUND = 1e6
# 1 - correlation: float32 can no longer tell two such inputs apart.
_INDISTINGUISHABLE = 1e-7


def in_words(prediction):
    sentences = [
        _signal(prediction),
        _correlation(prediction),
        gradient(prediction),
        direction(prediction),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def signal_is_lost(prediction):
    """Whether the weights must be mended first: the outputs do not tell inputs apart, or leave the range of floats."""
    return bool(_signal_trouble(prediction) or _correlation(prediction))


def _signal_trouble(prediction):
    first, last = prediction.signal_variance[[0, -1]]
    if last == 0 or last < first / _SIGNAL_BOUND:
        return "dies out"
    return "explodes" if last > first * _SIGNAL_BOUND else None


def _signal(prediction):
    trouble, (first, last) = _signal_trouble(prediction), prediction.signal_variance[[0, -1]]
    if trouble:
        return f"The signal {trouble} on its way forward: its variance goes from {first:.2g} to {last:.2g}."
    return f"The signal survives: its variance goes from {first:.2g} to {last:.2g}."


def _correlation(prediction):
    if prediction.correlation is None or not prediction.correlation[-1] > 1 - _INDISTINGUISHABLE:
        return None
    layer = int((prediction.correlation > 1 - _INDISTINGUISHABLE).argmax()) + 1
    told_apart = f"From layer {layer} on two inputs can no longer be told apart in float32"
    return f"{told_apart}, which other weights repair, and a backward pass hardly."


def gradient_is_off(prediction):
    """Whether the gradient vanishes or explodes."""
    return not thresholds.VANISHING_RESCALED <= prediction.gradient_ratio <= thresholds.EXPLODING


def gradient(prediction):
    """What becomes of the gradient's norm."""
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


def direction(prediction):
    """Where the gradient points."""
    if (
        prediction.surrogate.backward == prediction.surrogate.forward
        and prediction.surrogate.scale > 0
    ):
        return "Its direction is the true one."
    if prediction.alignment is None:
        return "Its alignment is undefined, because the true gradient is zero."
    cosine = float(prediction.alignment[0])
    measured = f"its cosine with the true gradient at the first layer is {cosine:.2f}"
    if cosine <= -thresholds.LOST:
        return f"It points uphill: {measured}."
    word = (
        "keeps its direction"
        if cosine >= thresholds.MISALIGNED
        else "loses some of its direction"
        if cosine >= thresholds.LOST
        else "loses its direction"
    )
    return f"It {word}: {measured}."


def effect(prediction, true, rescaled=False):
    """What an artificial derivative does to training, beside the true one: "helps", "hurts" or "none".

    A derivative trains if the signal reaches the output, and the gradient the first layer: its norm
    within a factor of 10 of the last layer's, its cosine with the true one at least 0.4. An
    optimizer that rescales each parameter's step makes up for norms, of the signal too, down to the
    epsilon that it adds, 1e-7. Where both or neither train, there is no effect.

    `examples/evidence` has what came true of it.

    Args:
        prediction: a `Prediction` for the artificial derivative.
        true: one for the true derivative in the same network; its `input_correlation`, if given, is
            looked at too.
        rescaled: whether the optimizer rescales each parameter's step, as all but plain SGD do;
            default False.

    Raises:
        ValueError: `prediction` or `true` is not a `Prediction`.
    """
    _check_prediction(prediction, "prediction")
    _check_prediction(true, "true")
    if _correlation(true) or _signal_trouble(true) in (
        ["explodes"] if rescaled else ["explodes", "dies out"]
    ):
        return "none"
    trains, true_trains = (_trains(item, rescaled) for item in (prediction, true))
    return "none" if trains == true_trains else "helps" if trains else "hurts"


def _check_prediction(prediction, name):
    if not hasattr(prediction, "gradient_ratio"):
        raise ValueError(
            f"effect: {name} must be a Prediction, as theory.predict('relu', depth=20, weight_variance='he_normal') is "
            f"one, but is {prediction!r}. diagnosis.diagnose(model, x, y) looks at a model."
        )


def _trains(prediction, rescaled):
    ratio = prediction.gradient_ratio
    norm_is_right = ratio >= _EPSILON if rescaled else _SHRINKING <= ratio <= _GROWING
    return norm_is_right and _cosine(prediction) >= thresholds.LOST


def _cosine(prediction):
    """At the first layer; 1 where no true gradient is there to differ from."""
    return 1.0 if prediction.alignment is None else float(prediction.alignment[0])


def worth(prediction):
    """A number to rank by: how close to 1 the norms' ratio stays, and how much of the direction.

    Norms count by decades, beyond the first as much as a lost direction does; of the cosine only
    what is positive counts.
    """
    ratio = prediction.gradient_ratio
    decades = abs(math.log10(ratio)) if ratio > 0 else math.inf
    return max(0.0, _cosine(prediction)) / max(1.0, decades)
