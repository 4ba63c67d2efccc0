"""Rules about weights, inputs and the signal on its way forward. Each gives a `Finding`, or None."""

import math

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases


def nonfinite_weights(case):
    rows = [row for row in case.rows if not row.is_finite]
    return rows and cases.finding(
        "nonfinite_weights",
        3,
        rows,
        math.nan,
        math.inf,
        f"{cases.names(rows)} {'has' if len(rows) == 1 else 'have'} weights that are NaN or infinite, so that "
        "nothing after can be right.",
        (
            "Go back to a checkpoint from before, with a lower learning rate or with clipnorm=1.0; "
            'callbacks.GradientAlerts(logger, action="stop") says in which layer and step it begins.',
        ),
    )


def nonfinite_signal(case):
    rows = [
        row
        for row in case.rows
        if row.signal_mean is not None and not math.isfinite(row.signal_power)
    ]
    return rows and cases.finding(
        "nonfinite_signal",
        3,
        rows[:1],
        rows[0].signal_power,
        math.inf,
        f"The output of {rows[0].layer} is the first that overflows or is no number, although its weights are finite.",
        (
            advice.initialise(case),
            advice.NORMALISE,
            "Look for divisions by 0 and logarithms of 0 in it.",
        ),
    )


def constant_weights(case):
    rows = [row for row in case.kernels if row.is_constant]
    return rows and cases.finding(
        "constant_weights",
        3,
        rows,
        0.0,
        0.0,
        f"All weights in the kernel of {cases.names(rows)} are equal (their variance is 0), so that its units are "
        "all the same and stay so.",
        ("Start them at random: he_normal before ReLU, glorot_uniform otherwise.",),
    )


def dead_units(case):
    rows = [
        row for row in case.rows if (row.dead_units or 0) > thresholds.DEAD and not row.is_output
    ]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row.dead_units)
    gradient_passes = worst.gradient_norm is not None and worst.gradient_norm > 0
    what = f"{worst.dead_units:.0%} of the units of {worst.layer} are 0 for every example"
    dead = worst.dead_units == 1
    end = "; no gradient comes past it" if dead and not gradient_passes else ""
    also = (
        f" (also {cases.names([row for row in rows if row is not worst])})" if len(rows) > 1 else ""
    )
    remedies = advice.REVIVE if not gradient_passes or not dead else (_REVIVED, *advice.REVIVE)
    is_relu = worst.activation == "relu" and not (dead and gradient_passes)
    return cases.finding(
        "dead_units",
        3 if dead else 2,
        [worst, *[row for row in rows if row is not worst]],
        worst.dead_units,
        thresholds.DEAD,
        f"{what}{also}{end}.",
        (*remedies, advice.LEAKY_BACKWARD) if is_relu else remedies,
    )


_REVIVED = "Its backward pass has a slope there, so that it may revive by itself: look again after some steps."


def collapsed_signal(case):
    outputs = [row for row in case.rows if row.is_output and row.spread is not None]
    if not outputs or max(row.spread for row in outputs) >= thresholds.COLLAPSED:
        return None
    rows = [row for row in case.rows if row.spread is not None]
    last_good = max(
        [number for number, row in enumerate(rows) if row.spread >= thresholds.COLLAPSED],
        default=-1,
    )
    row, ratio = rows[last_good + 1], case.first_over_last
    if row.is_output:
        return None  # A softmax of small numbers is nearly constant, although they differ.
    back = (
        ""
        if ratio is None
        else f" Gradients of the first layer are {ratio:.2g} times those of the last."
    )
    return cases.finding(
        "collapsed_signal",
        3,
        rows[last_good + 1 :],
        row.spread,
        thresholds.COLLAPSED,
        f"From {row.layer} on, the outputs no longer depend on the input: {row.spread:.2g} of their mean square "
        f"differs between examples (effective rank {row.effective_rank:.3g}).{back}",
        (
            advice.NO_BACKWARD_TRICK,
            advice.initialise(case),
            advice.NORMALISE,
            advice.RECTIFIER,
            advice.RESIDUAL,
        ),
        case.predicted_signal,
    )


def saturated(case):
    rows = [
        row
        for row in case.rows
        if (row.saturated or 0) > thresholds.SATURATED and not row.is_output
    ]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row.saturated)
    return cases.finding(
        "saturated",
        2,
        rows,
        worst.saturated,
        thresholds.SATURATED,
        f"{worst.saturated:.0%} of the outputs of {worst.layer} are in the flat ends of {worst.activation}, where its "
        f"slope is below 1 % of its largest{cases.among(rows, worst)}.",
        (advice.initialise(case), advice.NORMALISE, advice.RECTIFIER),
    )


def exploding_signal(case):
    growths = _growths(case)
    worst = max(growths, key=lambda item: item[1], default=(None, 0))
    if not worst[1] > thresholds.SIGNAL_EXPLODES:
        return None
    rows = _to_blame([row for row, _ in growths], worst[0])
    gain = rows[0].signal_power / rows[0].input_power
    return cases.finding(
        "exploding_signal",
        2,
        rows,
        worst[1],
        thresholds.SIGNAL_EXPLODES,
        f"The signal explodes: its mean square is {worst[1]:.2g} times the input's after {worst[0].layer}; "
        f"{rows[0].layer} multiplies it by {gain:.2g} (sigma_w**2 = fan_in * Var(W) = {rows[0].weight_variance:.3g})"
        f"{cases.among(rows, rows[0], 'as much do')}.",
        (advice.initialise(case), advice.NORMALISE),
        case.predicted_growth,
    )


def _growths(case):
    """Of each layer with a kernel, how much larger the signal's mean square is than after the last normalisation."""
    reference, growths = None, []
    for row in case.rows:
        if row.normalises:
            reference = row.signal_power
        elif row.has_kernel and row.input_power:
            reference = reference or row.input_power
            # The bias of an output may well be as far from 0 as the targets are.
            power = row.signal_variance if row.is_output else row.signal_power
            growths.append((row, power / reference))
    return growths


def _to_blame(rows, last):
    """The layers up to the last one that multiply the signal by more than the root of the most that one does."""
    rows = rows[: rows.index(last) + 1]
    most = max(row.signal_power / row.input_power for row in rows)
    return [row for row in rows if row.signal_power / row.input_power > max(1.0, most**0.5)] or [
        last
    ]
