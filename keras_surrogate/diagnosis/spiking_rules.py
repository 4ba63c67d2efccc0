"""Rules about the firing of spiking layers. Each returns a `Finding`, or None."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import Finding, RuleInput


def silent_layer(case: RuleInput) -> Finding | None:
    rows = [row for row in case.rows if row.fires and (row.dead_units or 0) > thresholds.SILENT]
    if not rows:
        return None
    # Behind a silent layer all others are silent because of it.
    first = rows[0]
    is_silent = any(row.dead_units == 1 for row in rows)
    consequence = ""
    if is_silent:
        silent = next(row for row in rows if row.dead_units == 1)
        consequence = f"; no spike leaves {silent.layer}"
    return cases.finding(
        "silent_layer",
        3 if is_silent else 2,
        rows,
        first.dead_units,
        thresholds.SILENT,
        f"{first.dead_units:.0%} of the units of {first.layer} never fire{consequence}"
        f"{cases.also(rows, first)}.",
        (advice.SUSTAINED, advice.LOWER_THRESHOLD, advice.WIDER_SLOPE),
    )


def always_firing(case: RuleInput) -> Finding | None:
    rows = [row for row in case.rows if row.fires and (row.saturated or 0) > thresholds.FIRING]
    if not rows:
        return None
    worst = max(rows, key=lambda row: row.saturated)
    return cases.finding(
        "always_firing",
        2,
        rows,
        worst.saturated,
        thresholds.FIRING,
        f"{worst.saturated:.0%} of the units of {worst.layer} fire in every time step of every "
        f"example{cases.also(rows, worst)}: their spikes tell nothing about the input.",
        (advice.SUSTAINED, advice.HIGHER_THRESHOLD),
    )
