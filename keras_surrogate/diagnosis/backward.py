"""Rules about gradients and the step that the optimizer makes of them. Each gives a `Finding`, or None."""

import math

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases
from keras_surrogate.theory import verdicts


def nonfinite_gradient(case):
    rows = [row for row in case.weighted if not math.isfinite(row.gradient_norm)]
    return rows and cases.finding(
        "nonfinite_gradient",
        3,
        rows[-1:],
        rows[-1].gradient_norm,
        math.inf,
        f"The gradient of {rows[-1].layer} is the first, on the way back, that is not finite; the signal is.",
        ("Look for square roots, logarithms and divisions at 0 between it and the output; lower the loss scale.",),
    )


def disconnected(case):
    rows = [row for row in case.rows if not row.is_connected and row.gradient_norm is None]
    return rows and cases.finding(
        "disconnected",
        2,
        rows,
        0.0,
        0.0,
        f"No gradient is defined for {cases.names(rows)}: the output does not depend on it by operations that have "
        "one.",
        (
            "Look for argmax, casts to integers, stop_gradient or NumPy between it and the output; or take it out of "
            "the model, or freeze it, if that is meant.",
        ),
    )


def zero_gradient(case):
    weighted = case.weighted
    rows = [row for row in case.kernels if row.gradient_norm == 0]
    if not rows or not any(row.gradient_norm for row in weighted):
        return None
    blocker = _blocker(case, rows[-1])
    return cases.finding(
        "zero_gradient",
        3,
        [blocker],
        0.0,
        0.0,
        f"The gradient ends at {blocker.layer}: behind it, all gradients are exactly 0, those of {cases.names(rows)}.",
        advice.for_zero_slope(blocker),
    )


def _blocker(case, last):
    """The layer whose output gets a gradient and whose weights or inputs do not."""
    if last.delta_norm:
        return last
    after = case.rows[case.rows.index(last) + 1 :]
    return next((row for row in after if row.delta_norm), last)


def vanishing_gradient(case):
    ratio, bound = case.first_over_last, thresholds.VANISHING
    if ratio is None or not ratio < bound:
        return None
    first, last = case.kernels[0], case.kernels[-1]
    rows = [row for row in case.kernels if row.gradient_ratio is not None and row.gradient_ratio < bound] or [first]
    optimizer = (
        "An optimizer that rescales gradients hides much of it"
        if case.adaptive
        else "Plain SGD hardly moves its weights"
    )
    return cases.finding(
        "vanishing_gradient",
        1 if case.adaptive and ratio >= thresholds.VANISHING_RESCALED else 2,
        [first, *[row for row in rows if row is not first]],
        ratio,
        bound,
        f"The gradient vanishes: at {first.layer}, the first layer, it is {ratio:.2g} times that at {last.layer}, the "
        f"last. {optimizer}.",
        advice.against_vanishing(case),
        case.predicted_gradient,
    )


def exploding_gradient(case):
    bound = thresholds.EXPLODING_NORMALISED if case.is_normalised else thresholds.EXPLODING
    ratios = [ratio for ratio in case.ratios if ratio > bound]
    if not ratios:
        return None
    first, last, ratio = case.kernels[0], case.kernels[-1], max(ratios)
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
    rows = [row for row in case.kernels if row.cosine is not None and _REVERSED < row.cosine < thresholds.MISALIGNED]
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
        case.stack and case.stack.prediction and verdicts.direction(case.stack.prediction),
    )


def uncentred(case):
    fed = [row for number, row in enumerate(case.kernels) if number == 0 or _before(case, row) == "sigmoid"]
    rows = [
        row
        for row in fed
        if (row.input_centredness or 0) > thresholds.UNCENTRED and (row.sign_agreement or 0) > thresholds.SIGNS_AGREE
    ]
    if not rows:
        return None
    first = rows[0]
    source = "The model's inputs are" if first is case.kernels[0] else "The outputs of sigmoid are"
    remedies = [advice.CENTRE_DATA] if first is case.kernels[0] else []
    remedies += [] if rows[-1] is case.kernels[0] else [advice.CENTRE_ACTIVATIONS, advice.NORMALISE]
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
    rows = sorted((row for row in case.kernels if row.update_ratio is not None), key=lambda row: row.update_ratio)
    if not rows or not case.has_loss:
        return None
    # What is normalised bears large steps, since its gradient falls as its weights grow; there the median layer counts.
    large, largest = rows[len(rows) // 2 if case.is_normalised else -1], rows[-1]
    if large.update_ratio > thresholds.UPDATE_TOO_LARGE:
        remedies = (advice.SMALLER_RATE, advice.CLIP)
        return _update("large_update", large, thresholds.UPDATE_TOO_LARGE, "more than", remedies)
    if largest.update_ratio < thresholds.UPDATE_TOO_SMALL:
        remedies = ("Raise the learning rate.",)
        return _update(
            "small_update", largest, thresholds.UPDATE_TOO_SMALL, "as that of all layers less than", remedies
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
