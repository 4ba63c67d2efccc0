"""Rules about weights and the signal on its way forward. Each returns a `Finding`, or None."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import Finding, RuleInput
    from keras_surrogate.diagnosis.layer_table import Row

_REVIVED = (
    "The activation has a slope in the backward pass, so that the units may recover. Diagnose the "
    "model again after some steps."
)


def nonfinite_weights(case: RuleInput) -> Finding | None:
    rows = [row for row in case.rows if not row.is_finite]
    if not rows:
        return None
    return cases.finding(
        "nonfinite_weights",
        3,
        rows,
        math.nan,
        math.inf,
        f"NaN or infinite weights in {cases.names(rows)}: the outputs of all later layers are "
        "wrong.",
        (
            "Go back to an earlier checkpoint, with a lower learning rate or clipnorm=1.0. "
            'callbacks.GradientAlerts(logger, action="stop") names the layer and the step where '
            "it begins.",
        ),
    )


def nonfinite_signal(case: RuleInput) -> Finding | None:
    rows = [
        row
        for row in case.rows
        if row.signal_mean is not None and not math.isfinite(row.signal_power)
    ]
    if not rows:
        return None
    return cases.finding(
        "nonfinite_signal",
        3,
        rows[:1],
        rows[0].signal_power,
        math.inf,
        f"The outputs of {rows[0].layer} overflow or contain NaN, although all weights are finite. "
        "It is the first such layer.",
        (
            advice.initialise(case),
            advice.NORMALISE,
            "Look in this layer for divisions by 0 and logarithms of 0.",
        ),
    )


def constant_weights(case: RuleInput) -> Finding | None:
    rows = [row for row in case.kernels if row.is_constant]
    if not rows:
        return None
    return cases.finding(
        "constant_weights",
        3,
        rows,
        0.0,
        0.0,
        f"All weights in the kernel of {cases.names(rows)} are equal (variance 0): its units "
        "compute the same, get the same gradient and stay equal.",
        ("Use random initial weights: he_normal before ReLU, glorot_uniform otherwise.",),
    )


def dead_units(case: RuleInput) -> Finding | None:
    rows = [
        row
        for row in case.rows
        if (row.dead_units or 0) > thresholds.DEAD and not row.is_output and not row.fires
    ]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row.dead_units)
    others = [row for row in rows if row is not worst]
    is_dead = worst.dead_units == 1
    passes_gradient = worst.gradient_norm is not None and worst.gradient_norm > 0
    may_recover = is_dead and passes_gradient

    consequence = "; no gradient passes this layer" if is_dead and not passes_gradient else ""
    remedies = (_REVIVED, *advice.REVIVE) if may_recover else advice.REVIVE
    if worst.activation == "relu" and not may_recover:
        remedies = (*remedies, advice.KEEP_RELU)
    return cases.finding(
        "dead_units",
        3 if is_dead else 2,
        [worst, *others],
        worst.dead_units,
        thresholds.DEAD,
        f"{worst.dead_units:.0%} of the units of {worst.layer} are 0 for every example"
        f"{cases.also(rows, worst)}{consequence}.",
        remedies,
    )


def collapsed_signal(case: RuleInput) -> Finding | None:
    outputs = [row for row in case.rows if row.is_output and row.spread is not None]
    if not outputs or max(row.spread for row in outputs) >= thresholds.COLLAPSED:
        return None
    rows = [row for row in case.rows if row.spread is not None]
    good = [place for place, row in enumerate(rows) if row.spread >= thresholds.COLLAPSED]
    first_bad = max(good, default=-1) + 1
    row = rows[first_bad]
    if row.is_output:
        # A softmax of small numbers is nearly constant, although the numbers differ.
        return None
    ratio = case.first_over_last
    back = (
        ""
        if ratio is None
        else f" The gradient of the first layer is {ratio:.2g} times that of the last."
    )
    return cases.finding(
        "collapsed_signal",
        3,
        rows[first_bad:],
        row.spread,
        thresholds.COLLAPSED,
        f"From {row.layer} on, the outputs no longer depend on the input: {row.spread:.2g} of "
        f"their mean square differs between examples (effective rank {row.effective_rank:.3g})."
        f"{back}",
        (
            advice.NO_BACKWARD_TRICK,
            advice.initialise(case),
            advice.NORMALISE,
            advice.RECTIFIER,
            advice.RESIDUAL,
        ),
        case.predicted_signal,
    )


def saturated(case: RuleInput) -> Finding | None:
    rows = [
        row
        for row in case.rows
        if (row.saturated or 0) > thresholds.SATURATED and not row.is_output and not row.fires
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
        f"{worst.saturated:.0%} of the outputs of {worst.layer} are in the flat ends of "
        f"{worst.activation}{cases.also(rows, worst)}: their slope is below 1 % of the largest, "
        "and they pass next to no gradient.",
        (advice.initialise(case), advice.NORMALISE, advice.RECTIFIER),
    )


def exploding_signal(case: RuleInput) -> Finding | None:
    growths = _growths(case)
    if not growths:
        return None
    last, growth = max(growths, key=lambda item: item[1])
    if not growth > thresholds.SIGNAL_EXPLODES:
        return None
    rows = _causes([row for row, _ in growths], last)
    first = rows[0]
    gain = first.signal_power / first.input_power
    return cases.finding(
        "exploding_signal",
        2,
        rows,
        growth,
        thresholds.SIGNAL_EXPLODES,
        f"The signal explodes: after {last.layer} its mean square is {growth:.2g} times that of "
        f"the input. {first.layer} alone multiplies it by {gain:.2g} (sigma_w**2 = fan_in * Var(W) "
        f"= {first.weight_variance:.3g}){cases.also(rows, first)}.",
        (advice.initialise(case), advice.NORMALISE),
        case.predicted_growth,
    )


def _growths(case: RuleInput) -> list[tuple[Row, float]]:
    """Each layer with a kernel, and its mean square over that after the last normalisation."""
    reference = None
    growths = []
    for row in case.rows:
        if row.normalises:
            reference = row.signal_power
        elif row.has_kernel and row.input_power:
            reference = reference or row.input_power
            # The bias of an output may be as far from 0 as the targets are.
            power = row.signal_variance if row.is_output else row.signal_power
            growths.append((row, power / reference))
    return growths


def _causes(rows: list[Row], last: Row) -> list[Row]:
    """The layers up to `last` whose gain is above 1 and above the root of the largest gain."""
    rows = rows[: rows.index(last) + 1]
    gains = [row.signal_power / row.input_power for row in rows]
    bound = max(1.0, max(gains) ** 0.5)
    causes = [row for row, gain in zip(rows, gains, strict=True) if gain > bound]
    return causes or [last]
