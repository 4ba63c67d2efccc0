"""Rules about gradients and the step that the optimizer makes of them. Each gives a `Finding`, or None."""

import math

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases, endings


def nonfinite_gradient(case):
    rows = [row for row in case.weighted if not math.isfinite(row.gradient_norm)]
    return rows and cases.finding(
        "nonfinite_gradient",
        3,
        rows[-1:],
        rows[-1].gradient_norm,
        math.inf,
        f"The gradient of {rows[-1].layer} is the first, on the way back, that is not finite; the signal is.",
        (
            "Look for square roots, logarithms and divisions at 0 between it and the output; lower the loss scale.",
        ),
    )


def unused_layer(case):
    rows, _ = _ended(case, endings.UNUSED)
    is_called = bool(rows) and rows[0].signal_mean is not None
    why = (
        "what comes out of it reaches no output of the model" if is_called else "it is never called"
    )
    return rows and cases.finding(
        endings.UNUSED,
        2,
        rows,
        0.0,
        0.0,
        f"{cases.names(rows)} cannot learn: {why}.",
        (
            "Use its output, or take it out of the model. If it is to be idle, freeze it: layer.trainable = False.",
        ),
    )


def stopped_gradient(case):
    rows, where = _ended(case, endings.STOPPED)
    return rows and cases.finding(
        endings.STOPPED,
        2,
        rows,
        0.0,
        0.0,
        f"A stop_gradient (or NumPy code) {where} keeps the gradient from {cases.names(rows)}: the values go through "
        "and no derivative is defined.",
        (
            "Take it out if it is not meant. If it is, freeze the layers before it (layer.trainable = False), so that "
            "it can be seen that they do not learn.",
        ),
    )


def zero_gradient(case):
    rows, where = _ended(case, endings.ZERO_SLOPE)
    blocker = rows and _row(case, rows[-1].ending.layer)
    is_inside = rows and not rows[-1].ending.is_before
    is_saturated = blocker and is_inside and (blocker.saturated or 0) > thresholds.ALL_SATURATED
    return rows and cases.finding(
        endings.ZERO_SLOPE,
        3,
        [blocker] if blocker and is_inside else rows,
        0.0,
        0.0,
        f"The gradient ends {where}, where the slope is 0 or not defined: no gradient comes to {cases.names(rows)}.",
        (advice.UNSATURATE,)
        if is_saturated
        else advice.for_zero_slope(blocker if is_inside else None),
    )


def zero_input(case):
    rows, _ = _ended(case, endings.ZERO_INPUT)
    return rows and cases.finding(
        endings.ZERO_INPUT,
        3,
        rows,
        0.0,
        0.0,
        f"All that goes into {rows[0].layer} is 0{_from(rows[0])}, so that its kernel gets a gradient of 0"
        f"{cases.among(rows, rows[0])}.",
        (
            "Look at what comes before: units that are all off, a Dropout of rate 1, a mask of zeros, or numbers that "
            "are rounded to 0, such as images that were divided by 255 as integers.",
        ),
    )


def _from(row):
    layers = [name for name in row.reads if name is not None]
    return f" (it comes from {', '.join(layers)})" if layers else ""


def zero_kernel(case):
    rows = [row for row in case.rows if row.ignores_input]
    return rows and cases.finding(
        endings.ZERO_KERNEL,
        3,
        rows,
        0.0,
        0.0,
        f"What {cases.names(rows)} gives is the same for all examples although its inputs differ, and no gradient goes "
        "through it: its weights act as if all were 0, and they are not.",
        (
            "If the weights are quantised, too large a threshold or step makes all of them 0: lower it, or make it a "
            "share of their size, as 0.7 * mean(abs(weights)) for ternary weights (Li and Liu 2016, arXiv:1605.04711).",
            "Otherwise look for a mask or a factor that is 0.",
        ),
    )


def zero_weight_slope(case):
    rows, _ = _ended(case, endings.ZERO_WEIGHT_SLOPE)
    return rows and cases.finding(
        endings.ZERO_WEIGHT_SLOPE,
        3,
        rows,
        0.0,
        0.0,
        f"The kernel of {cases.names(rows)} gets no gradient, although one comes to the layer: something whose slope "
        "is 0 is done to the weights themselves, as rounding or their sign.",
        (
            'Give it a slope: ks.get("ste_sign")(kernel) for signs, ks.Surrogate("round", "linear")(kernel) for '
            "rounding (the straight-through estimator: Courbariaux et al. 2015, arXiv:1511.00363).",
        ),
    )


def dead_output(case):
    rows, _ = _ended(case, endings.DEAD_OUTPUT)
    blocker = rows and _row(case, rows[-1].ending.layer)
    return rows and cases.finding(
        endings.DEAD_OUTPUT,
        3,
        [blocker],
        0.0,
        0.0,
        f"All outputs of the model are 0, where the slope of {blocker.activation} ({blocker.layer}) is 0: no gradient "
        f"comes to {cases.names(rows)}.",
        (
            "Take no activation at the output (linear), or softplus if the outputs must be positive: ReLU has no "
            "slope for answers that are too small.",
        ),
    )


def no_loss_gradient(case):
    rows, _ = _ended(case, endings.NO_LOSS_GRADIENT)
    output = rows and rows[-1].ending.layer
    return rows and cases.finding(
        endings.NO_LOSS_GRADIENT,
        2 if any(row.gradient_norm for row in case.weighted) else 3,
        rows[-1:] + rows[:-1],
        0.0,
        0.0,
        f"The loss gives {output if output == endings.OUTPUT else f'the output {output}'} no gradient: none comes to "
        f"{cases.names(rows)}.",
        (
            "The output may be saturated (a sigmoid or softmax that is exactly 0 or 1): use no activation at the "
            "output and from_logits=True in the loss, and standardise the inputs.",
            "Or the loss does not use this output, clips or rounds it, or is 0 already.",
        ),
    )


def _ended(case, cause):
    """The layers that get no gradient for a cause, of those that end at one place, the last; and that in words."""
    rows = [row for row in case.rows if row.ending and row.ending.cause == cause]
    if not rows:
        return [], ""
    ending = rows[-1].ending
    if not ending.is_before:
        return rows, f"at {ending.layer}"
    return rows, f"between {rows[-1].layer} and {ending.layer}"


def _row(case, layer):
    return next((row for row in case.rows if row.layer == layer), None)


def vanishing_gradient(case):
    ratio, bound = case.first_over_last, thresholds.VANISHING
    if ratio is None or not ratio < bound:
        return None
    first, last = case.compared[0], case.compared[-1]
    rows = [
        row
        for row in case.compared
        if row.gradient_ratio is not None and row.gradient_ratio < bound
    ] or [first]
    is_mild = case.adaptive and ratio >= thresholds.VANISHING_RESCALED
    consequence = "Plain SGD hardly moves its weights"
    if case.adaptive:
        consequence = "An optimizer that rescales gradients, as this one, makes up for "
        consequence += "much of it" if is_mild else "some of it, and not for so much"
    return cases.finding(
        "vanishing_gradient",
        1 if is_mild else 2,
        [first, *[row for row in rows if row is not first]],
        ratio,
        bound,
        f"The gradient vanishes: at {first.layer}, the first layer, it is {ratio:.2g} times that at {last.layer}, the "
        f"last. {consequence}.",
        advice.against_vanishing(case),
        case.predicted_gradient,
    )


def exploding_gradient(case):
    bound = thresholds.EXPLODING_NORMALISED if case.is_normalised else thresholds.EXPLODING
    ratios = [ratio for ratio in case.ratios if ratio > bound]
    if not ratios:
        return None
    first, last, ratio = case.compared[0], case.compared[-1], max(ratios)
    return cases.finding(
        "exploding_gradient",
        2,
        [first],
        ratio,
        bound,
        f"The gradient explodes on its way back: at {first.layer}, the first layer, it is {ratio:.2g} times that at "
        f"{last.layer}, the last.",
        advice.against_exploding(case),
        case.predicted_gradient,
    )


# A gradient that is exactly reversed is meant to be (Ganin and Lempitsky 2015, arXiv:1409.7495).
_REVERSED = -0.999


def misaligned(case):
    rows = [
        row
        for row in case.kernels
        if row.cosine is not None and _REVERSED < row.cosine < thresholds.MISALIGNED
    ]
    if not rows:
        return None
    worst = min(rows, key=lambda row: row.cosine)
    points = (
        "uphill (as meant, if gradients are reversed on purpose)"
        if worst.cosine < -thresholds.LOST
        else "elsewhere"
        if worst.cosine < thresholds.LOST
        else "partly elsewhere"
    )
    return cases.finding(
        "misaligned",
        2 if worst.cosine < thresholds.LOST else 1,
        [worst, *[row for row in rows if row is not worst]],
        worst.cosine,
        thresholds.MISALIGNED,
        f"With its surrogates the gradient of {worst.layer} points {points}: its cosine with the true gradient is "
        f"{worst.cosine:.2f}{cases.among(rows, worst)}.",
        advice.against_misalignment(case),
        case.predicted_direction,
    )


def uncentred(case):
    inputs = [
        row for row in case.kernels if row.is_first and case.batch.zero_centredness is not None
    ]
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
    remedies += [] if rows[-1] in inputs else [advice.CENTRE_ACTIVATIONS, advice.NORMALISE]
    return cases.finding(
        "uncentred",
        1,
        rows,
        first.sign_agreement,
        thresholds.SIGNS_AGREE,
        f"{source} not centred (abs(mean) / rms = {first.input_centredness:.2f}, above "
        f"{thresholds.UNCENTRED:.2f}), so that {first.sign_agreement:.0%} of the weight gradients of a unit of "
        f"{first.layer} have the same sign: they can only grow or shrink together, in a "
        f"zig-zag{cases.among(rows, first)}.",
        tuple(remedies),
    )


def _before(case, row):
    """The activation of the layer that was called before."""
    place = case.rows.index(row)
    return case.rows[place - 1].activation if place else None


def update_size(case):
    rows = sorted(
        (row for row in case.kernels if row.update_ratio is not None),
        key=lambda row: row.update_ratio,
    )
    if not rows or not case.has_loss:
        return None
    # What is normalised bears large steps, since its gradient falls as its weights grow; there the
    # median layer counts.
    large, largest = rows[len(rows) // 2 if case.is_normalised else -1], rows[-1]
    if large.update_ratio > thresholds.UPDATE_TOO_LARGE:
        remedies = (advice.SMALLER_RATE, advice.CLIP)
        return _update("large_update", large, thresholds.UPDATE_TOO_LARGE, "more than", remedies)
    if largest.update_ratio < thresholds.UPDATE_TOO_SMALL:
        remedies = ("Raise the learning rate.",)
        return _update(
            "small_update",
            largest,
            thresholds.UPDATE_TOO_SMALL,
            "as that of all layers less than",
            remedies,
        )
    return None


def _update(kind, row, bound, compared, remedies):
    return cases.finding(
        kind,
        2,
        [row],
        row.update_ratio,
        bound,
        f"The next step changes the weights of {row.layer} by {row.update_ratio:.2g} times their size, {compared} "
        f"{bound:.2g}; 1e-3 is usual.",
        remedies,
    )
