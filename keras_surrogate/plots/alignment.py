"""The picture of the alignment over the layers, of one batch or of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots import lines, runs
from keras_surrogate.plots.axes import axis, colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_surrogate.diagnosis import Alignment
    from keras_surrogate.plots.runs import RunLike


def alignment(source: Alignment | RunLike, ax: Axes | None = None) -> Axes:
    """Draws the cosine of each layer's gradient with its reference.

    Of a training run there is a line for each epoch with a sampled step, from dark to light: the
    means over the sampled steps. `over_time(run, "alignment")` draws them over the steps. Of a
    result of `diagnosis.alignment` there is one line, with a bar of two standard errors on both
    sides where the reference is an estimate. A layer without a cosine is a gap.

    Args:
        source: a `diagnosis.Alignment`, or a training run that was recorded with
            `GradientNormLogger(also="alignment")`.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: no alignment was recorded.
    """
    ax = axis(ax)
    if hasattr(source, "cosines"):
        names, values = _of_batch(ax, source)
    else:
        names, values = _of_run(ax, source)
    lines.cosine_scale(ax, values)
    lines.name_ticks(ax.xaxis, names)
    ax.tick_params("x", rotation=90)
    return ax


def _of_batch(ax: Axes, result: Alignment) -> tuple[list[str], np.ndarray]:
    # None becomes NaN.
    values = np.array([row.cosine for row in result.rows], float)
    errors = np.array([row.error for row in result.rows], float)
    places = np.arange(len(values))
    lines.line(ax, places, values, "C0", None, logarithmic=False, marker=".")
    if not np.isnan(errors).all():
        ax.errorbar(places, values, 2 * errors, color="C0", fmt="none", capsize=3)
    ax.set(ylabel=f"cosine with the reference {result.reference!r}")
    return [row.layer for row in result.rows], values


def _of_run(ax: Axes, run: RunLike) -> tuple[list[str], np.ndarray]:
    record = runs.recorded(run)
    runs.check_alignment(record)
    names = list(record.names("alignment"))
    epochs, values = runs.epoch_means(record, "alignment")
    has_samples = ~np.isnan(values).all(axis=1)
    epochs = epochs[has_samples]
    values = values[has_samples]
    places = np.arange(len(names))
    labelled = lines.spread(len(epochs), 10) if len(epochs) else []
    marker = "." if len(names) <= 30 else None
    for number, color in enumerate(colors(len(epochs))):
        label = str(epochs[number]) if number in labelled else None
        lines.line(ax, places, values[number], color, label, logarithmic=False, marker=marker)
    ax.set(ylabel="alignment, mean of the epoch")
    if len(epochs):
        lines.legend(ax, "epoch")
    return names, values
