"""The picture of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots import lines
from keras_surrogate.plots.axes import axis

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from keras_surrogate.diagnosis import Diagnosis, Finding
    from keras_surrogate.diagnosis.layer_table import Row

# The quantities that are drawn. A value may be None.
_QUANTITIES = {
    "signal: standard deviation": lambda row: row.signal_variance**0.5,
    "gradient norm of the weights": lambda row: row.gradient_norm,
    "gradient norm of the output": lambda row: row.delta_norm,
    "spread between examples": lambda row: row.spread,
}
# C3 is red, which is the colour of a severity.
_LINE_COLORS = ("C0", "C1", "C2", "C4")
_SEVERITY_COLORS = {3: "tab:red", 2: "tab:orange", 1: "tab:olive"}


def diagnosis(result: Diagnosis, ax: Axes | None = None) -> Axes:
    """Draws signal, gradients and spread of each layer on a log scale, and marks the findings.

    The layers of a finding are shaded. Red: cannot learn. Orange: learns badly. Olive: could be
    better. A triangle at the lower border is a 0.

    If some layers have weights but no kernel, as normalisation layers do, only layers with a kernel
    and layers with a finding are drawn. Where a quantity alternates by more than a factor of 2
    between neighbouring layers, it is drawn as dots, and a thin line is the trend: the geometric
    mean over 12 layers.

    Args:
        result: a `diagnosis.Diagnosis`.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.
    """
    ax = axis(ax)
    rows = _drawn(result)
    places = {row.layer: place for place, row in enumerate(rows)}
    for finding in reversed(result.findings):
        _shade(ax, finding, [places[layer] for layer in finding.layers if layer in places])
    series = {label: _values(rows, value) for label, value in _QUANTITIES.items()}
    for (label, values), color in zip(series.items(), _LINE_COLORS, strict=True):
        known = np.flatnonzero(~np.isnan(values))
        lines.across(ax, known, values[known], color, label, marker=".")
    lines.scale(ax, np.concatenate(list(series.values())))
    lines.name_ticks(ax.xaxis, [row.layer for row in rows])
    ax.tick_params("x", rotation=90)
    ax.set_xlim(-0.5, len(rows) - 0.5)
    lines.legend(ax, f"batch of {result.batch.size}")
    return ax


def _values(rows: list[Row], value: Callable[[Row], float | None]) -> np.ndarray:
    # None becomes NaN.
    return np.array([value(row) for row in rows], dtype=float)


def _drawn(result: Diagnosis) -> list[Row]:
    rows = [row for row in result.rows if row.signal_variance is not None]
    has_kernels = any(row.has_kernel for row in rows)
    has_others = any(row.gradient_norm is not None and not row.has_kernel for row in rows)
    if not (has_kernels and has_others):
        return rows
    named = {layer for finding in result.findings for layer in finding.layers}
    return [row for row in rows if row.has_kernel or row.layer in named]


def _shade(ax: Axes, finding: Finding, places: list[int]) -> None:
    style = {"color": _SEVERITY_COLORS[finding.severity], "alpha": 0.18, "lw": 0}
    for number, place in enumerate(places):
        # One entry in the legend for all layers of the finding.
        label = finding.kind.replace("_", " ") if number == 0 else None
        ax.axvspan(place - 0.5, place + 0.5, label=label, **style)
