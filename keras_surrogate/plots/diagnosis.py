"""The picture of a diagnosis."""

import numpy as np

from keras_surrogate.plots import lines
from keras_surrogate.plots.axes import axis

_QUANTITIES = {
    "signal: standard deviation": lambda row: row.signal_variance**0.5,
    "gradient norm of the weights": lambda row: row.gradient_norm,
    "gradient norm of the output": lambda row: row.delta_norm,
    "spread between examples": lambda row: row.spread,
}
_COLORS = {3: "tab:red", 2: "tab:orange", 1: "tab:olive"}


def diagnosis(result, ax=None):
    """Draws signal, gradients and spread of every layer on a log scale, with a band for each layer of a finding.

    Red: cannot learn; orange: learns badly; olive: could be better. Below the lower border nothing
    is drawn: a triangle there stands for 0.

    Where the model has normalisation, or other layers with scales and biases only, these and all
    layers without weights are left out unless a finding names them. Where a quantity goes up and
    down by more than a factor of 2 from layer to layer, it is drawn as dots, and a thin line is the
    trend: the geometric mean over 12 layers.

    Args:
        result: a `diagnosis.Diagnosis`.
        ax: a matplotlib axis; default a new one.

    Returns:
        The axis.
    """
    ax = axis(ax)
    rows = _drawn(result)
    series = {label: _values(rows, value) for label, value in _QUANTITIES.items()}
    places = {row.layer: place for place, row in enumerate(rows)}
    for finding in reversed(result.findings):
        _bands(ax, finding, [places[layer] for layer in finding.layers if layer in places])
    for number, (label, values) in enumerate(series.items()):
        known = np.flatnonzero(~np.isnan(values))
        lines.across(ax, known, values[known], f"C{number if number < 3 else 4}", label, marker=".")
    lines.scale(ax, np.concatenate(list(series.values())))
    lines.name_ticks(ax.xaxis, [row.layer for row in rows])
    ax.tick_params("x", rotation=90)
    ax.set_xlim(-0.5, len(rows) - 0.5)
    lines.legend(ax, f"batch of {result.batch.size}")
    return ax


def _values(rows, value):
    return np.array([np.nan if value(row) is None else value(row) for row in rows], float)


def _drawn(result):
    """The rows with a signal; with a kernel only, or with a finding, where there are weights that are no kernels."""
    rows = [row for row in result.rows if row.signal_variance is not None]
    has_others = any(row.gradient_norm is not None and not row.has_kernel for row in rows)
    if not (has_others and any(row.has_kernel for row in rows)):
        return rows
    named = {layer for finding in result.findings for layer in finding.layers}
    return [row for row in rows if row.has_kernel or row.layer in named]


def _bands(ax, finding, places):
    """One colour for all layers of a finding; its kind is in the legend."""
    for number, place in enumerate(places):
        label = finding.kind.replace("_", " ") if number == 0 else None
        ax.axvspan(
            place - 0.5, place + 0.5, color=_COLORS[finding.severity], alpha=0.18, lw=0, label=label
        )
