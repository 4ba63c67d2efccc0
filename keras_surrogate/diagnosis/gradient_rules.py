"""Rules about gradients and the optimizer's next step. Each returns a `Finding`, or None."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases, endings

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import Finding, RuleInput
    from keras_surrogate.diagnosis.layer_table import Row

# A gradient that is exactly reversed is meant to be (Ganin and Lempitsky 2015, arXiv:1409.7495).
_REVERSED = -0.999


def nonfinite_gradient(case: RuleInput) -> Finding | None:
    rows = [row for row in case.weighted if not math.isfinite(row.gradient_norm)]
    if not rows:
        return None
    last = rows[-1]
    return cases.finding(
        "nonfinite_gradient",
        3,
        [last],
        last.gradient_norm,
        math.inf,
        f"The gradient of {last.layer} is NaN or infinite, although all outputs are finite. On the "
        "way back from the loss it is the first.",
        (
            "Look between this layer and the output for square roots, logarithms and divisions at "
            "0. Lower the loss scale.",
        ),
    )


def unused_layer(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.UNUSED)
    if not rows:
        return None
    is_called = rows[0].signal_mean is not None
    reason = "no output of the model depends on it" if is_called else "it is never called"
    return cases.finding(
        endings.UNUSED,
        2,
        rows,
        0.0,
        0.0,
        f"{cases.names(rows)} gets no gradient and cannot learn: {reason}.",
        (
            "Use its output, or remove it from the model. If it is meant to be unused, freeze it: "
            "layer.trainable = False.",
        ),
    )


def stopped_gradient(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.STOPPED)
    if not rows:
        return None
    return cases.finding(
        endings.STOPPED,
        2,
        rows,
        0.0,
        0.0,
        f"The gradient ends {_where(rows)}, where no derivative is defined (stop_gradient, or "
        f"NumPy code): {cases.names(rows)} gets none and cannot learn.",
        (
            "Remove the operation if it is not meant. If it is, freeze the layers before it, "
            "layer.trainable = False, to show that they are not trained.",
        ),
    )


def zero_gradient(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.ZERO_SLOPE)
    if not rows:
        return None
    ending = rows[-1].ending
    blocker = None if ending.is_before else _row(case, ending.layer)
    is_saturated = blocker and (blocker.saturated or 0) > thresholds.ALL_SATURATED
    return cases.finding(
        endings.ZERO_SLOPE,
        3,
        [blocker] if blocker else rows,
        0.0,
        0.0,
        f"The gradient ends {_where(rows)}, where the slope is 0 or not defined: "
        f"{cases.names(rows)} gets none and cannot learn.",
        (advice.UNSATURATE,) if is_saturated else advice.for_zero_slope(blocker),
    )


def zero_input(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.ZERO_INPUT)
    if not rows:
        return None
    first = rows[0]
    makers = [name for name in first.reads if name is not None]
    source = f" (from {', '.join(makers)})" if makers else ""
    return cases.finding(
        endings.ZERO_INPUT,
        3,
        rows,
        0.0,
        0.0,
        f"All inputs of {first.layer}{source} are 0: the gradient of its kernel is 0 too"
        f"{cases.also(rows, first)}.",
        (
            "Look at the layers and data before it for units that are all dead, a Dropout of rate "
            "1, a mask of zeros, or numbers rounded to 0, such as images divided by 255 as "
            "integers.",
        ),
    )


def zero_kernel(case: RuleInput) -> Finding | None:
    rows = [row for row in case.rows if row.ignores_input]
    if not rows:
        return None
    return cases.finding(
        endings.ZERO_KERNEL,
        3,
        rows,
        0.0,
        0.0,
        f"The outputs of {cases.names(rows)} are the same for all examples, although its inputs "
        "differ: it computes as if all its weights were 0, and passes no gradient. The weights "
        "themselves are not 0.",
        (
            "If the weights are quantised, a threshold or a step that is too large makes all of "
            "them 0. Lower it, or make it a share of their size, such as 0.7 * mean(abs(weights)) "
            "for ternary weights (Li and Liu 2016, arXiv:1605.04711).",
            "Otherwise look for a mask or a factor that is 0.",
        ),
    )


def zero_weight_slope(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.ZERO_WEIGHT_SLOPE)
    if not rows:
        return None
    return cases.finding(
        endings.ZERO_WEIGHT_SLOPE,
        3,
        rows,
        0.0,
        0.0,
        f"The kernel of {cases.names(rows)} gets no gradient, although the layer does: the layer "
        "applies an operation with slope 0 to the kernel, such as rounding or a sign.",
        (
            'Give the operation a slope in the backward pass: ks.get("ste_sign")(kernel) for '
            'signs, ks.Surrogate("round", "linear")(kernel) for rounding (the straight-through '
            "estimator: Courbariaux et al. 2015, arXiv:1511.00363).",
        ),
    )


def dead_output(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.DEAD_OUTPUT)
    if not rows:
        return None
    blocker = _row(case, rows[-1].ending.layer)
    return cases.finding(
        endings.DEAD_OUTPUT,
        3,
        [blocker],
        0.0,
        0.0,
        f"All outputs of the model are 0, where {blocker.activation} ({blocker.layer}) has slope "
        f"0: {cases.names(rows)} gets no gradient and cannot learn.",
        (
            "Use no activation at the output (linear), or softplus if the outputs must be "
            "positive: ReLU has no slope for answers that are too small.",
        ),
    )


def no_loss_gradient(case: RuleInput) -> Finding | None:
    rows = _ended(case, endings.NO_LOSS_GRADIENT)
    if not rows:
        return None
    layer = rows[-1].ending.layer
    output = layer if layer == endings.OUTPUT else f"the output {layer}"
    has_other_gradients = any(row.gradient_norm for row in case.weighted)
    return cases.finding(
        endings.NO_LOSS_GRADIENT,
        2 if has_other_gradients else 3,
        [rows[-1], *rows[:-1]],
        0.0,
        0.0,
        f"The loss has no gradient at {output}: {cases.names(rows)} gets none and cannot learn.",
        (
            "The output may be saturated (a sigmoid or softmax that is exactly 0 or 1): use no "
            "activation at the output and from_logits=True in the loss, and standardise the "
            "inputs.",
            "Or the loss does not use this output, clips or rounds it, or is 0 already.",
        ),
    )


def _ended(case: RuleInput, cause: str) -> list[Row]:
    """The rows without a gradient for one cause."""
    return [row for row in case.rows if row.ending and row.ending.cause == cause]


def _where(rows: list[Row]) -> str:
    """The place where the gradient of the last of some rows ends, in words."""
    ending = rows[-1].ending
    if not ending.is_before:
        return f"at {ending.layer}"
    return f"between {rows[-1].layer} and {ending.layer}"


def _row(case: RuleInput, layer: str) -> Row | None:
    return next((row for row in case.rows if row.layer == layer), None)


def vanishing_gradient(case: RuleInput) -> Finding | None:
    ratio = case.first_over_last
    bound = thresholds.VANISHING
    if ratio is None or not ratio < bound:
        return None
    first = case.compared[0]
    last = case.compared[-1]
    small = [
        row
        for row in case.compared
        if row.gradient_ratio is not None and row.gradient_ratio < bound and row is not first
    ]
    is_mild = case.adaptive and ratio >= thresholds.VANISHING_RESCALED
    if is_mild:
        consequence = "The optimizer rescales gradients and corrects most of this."
    elif case.adaptive:
        consequence = "The optimizer rescales gradients, but cannot correct so much."
    else:
        consequence = "Plain SGD hardly changes its weights."
    return cases.finding(
        "vanishing_gradient",
        1 if is_mild else 2,
        [first, *small],
        ratio,
        bound,
        f"The gradient vanishes: at {first.layer}, the first layer, it is {ratio:.2g} times that "
        f"at {last.layer}, the last. {consequence}",
        advice.against_vanishing(case),
        case.predicted_gradient,
    )


def exploding_gradient(case: RuleInput) -> Finding | None:
    bound = thresholds.EXPLODING_NORMALISED if case.is_normalised else thresholds.EXPLODING
    ratio = max((ratio for ratio in case.ratios if ratio > bound), default=None)
    if ratio is None:
        return None
    first = case.compared[0]
    last = case.compared[-1]
    return cases.finding(
        "exploding_gradient",
        2,
        [first],
        ratio,
        bound,
        f"The gradient explodes: at {first.layer}, the first layer, it is {ratio:.2g} times that "
        f"at {last.layer}, the last.",
        advice.against_exploding(case),
        case.predicted_gradient,
    )


def misaligned(case: RuleInput) -> Finding | None:
    rows = [
        row
        for row in case.kernels
        if row.cosine is not None and _REVERSED < row.cosine < thresholds.MISALIGNED
    ]
    if not rows:
        return None
    worst = min(rows, key=lambda row: row.cosine)
    others = [row for row in rows if row is not worst]
    if worst.cosine < -thresholds.LOST:
        direction = "points uphill (unless it is reversed on purpose)"
    elif worst.cosine < thresholds.LOST:
        direction = "has lost its direction"
    else:
        direction = "has partly lost its direction"
    return cases.finding(
        "misaligned",
        2 if worst.cosine < thresholds.LOST else 1,
        [worst, *others],
        worst.cosine,
        thresholds.MISALIGNED,
        f"With the surrogates, the gradient of {worst.layer} {direction}: its cosine with the true "
        f"gradient is {worst.cosine:.2f}{cases.also(rows, worst)}.",
        advice.against_misalignment(case),
        case.predicted_direction,
    )


def uncentred(case: RuleInput) -> Finding | None:
    has_features = case.batch.zero_centredness is not None
    inputs = [row for row in case.kernels if row.is_first and has_features]
    fed = [row for row in case.kernels if row in inputs or _before(case, row) == "sigmoid"]
    rows = [
        row
        for row in fed
        if (row.input_centredness or 0) > thresholds.UNCENTRED
        and (row.sign_agreement or 0) > thresholds.SIGNS_AGREE
    ]
    if not rows:
        return None
    first = rows[0]
    source = "The model's inputs are" if first in inputs else "The outputs of sigmoid are"
    remedies = [advice.CENTRE_DATA] if first in inputs else []
    if rows[-1] not in inputs:
        remedies += [advice.CENTRE_ACTIVATIONS, advice.NORMALISE]
    return cases.finding(
        "uncentred",
        1,
        rows,
        first.sign_agreement,
        thresholds.SIGNS_AGREE,
        f"{source} not centred (abs(mean) / rms = {first.input_centredness:.2f}, above "
        f"{thresholds.UNCENTRED:.2f}). Therefore {first.sign_agreement:.0%} of the weight "
        f"gradients of a unit of {first.layer} have the same sign, and its weights approach their "
        f"optimum in a zig-zag{cases.also(rows, first)}.",
        tuple(remedies),
    )


def _before(case: RuleInput, row: Row) -> str | None:
    """The activation of the layer that was called before."""
    place = case.rows.index(row)
    return case.rows[place - 1].activation if place else None


def update_size(case: RuleInput) -> Finding | None:
    rows = [row for row in case.kernels if row.update_ratio is not None]
    if not rows or not case.has_loss:
        return None
    rows.sort(key=lambda row: row.update_ratio)
    largest = rows[-1]
    # Normalised layers tolerate large steps, since their gradient falls as their weights grow:
    # there the median layer counts.
    large = rows[len(rows) // 2] if case.is_normalised else largest
    if large.update_ratio > thresholds.UPDATE_TOO_LARGE:
        return cases.finding(
            "large_update",
            2,
            [large],
            large.update_ratio,
            thresholds.UPDATE_TOO_LARGE,
            f"The next step changes the weights of {large.layer} by {large.update_ratio:.2g} times "
            f"their norm, which is above {thresholds.UPDATE_TOO_LARGE:.2g}. 1e-3 is usual.",
            (advice.SMALLER_RATE, advice.CLIP),
        )
    if largest.update_ratio < thresholds.UPDATE_TOO_SMALL:
        return cases.finding(
            "small_update",
            2,
            [largest],
            largest.update_ratio,
            thresholds.UPDATE_TOO_SMALL,
            f"The next step changes the weights of {largest.layer} by {largest.update_ratio:.2g} "
            "times their norm, and those of all other layers by less. This is below "
            f"{thresholds.UPDATE_TOO_SMALL:.2g}, the precision of float32. 1e-3 is usual.",
            (advice.LARGER_RATE,),
        )
    return None
