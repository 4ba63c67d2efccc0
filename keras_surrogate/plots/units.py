"""The picture of the sizes of a layer's units over an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots import lines, runs
from keras_surrogate.plots.axes import axis, colors
from keras_surrogate.recording.unit_quantities import UnitScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_surrogate.plots.runs import RunLike

# Colours of the bins of dead and dormant units; the others go from dark to light.
_SICK = ("tab:red", "tab:orange")


def unit_scores(
    run: RunLike, ax: Axes | None = None, layer: str | None = None, epoch: int | None = None
) -> Axes:
    """Draws the shares of units by their size over an epoch, as one bar for each layer.

    The size of a unit is the mean of abs(output), divided by the mean over the layer's units. Units
    of size 0 are dead, those of at most 0.025 are dormant.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="dormant")`.
        ax: the matplotlib axes to draw on; default new ones.
        layer: the name of a layer, for a bar for each epoch; default None, for a bar for each
            layer.
        epoch: the number of the epoch, if the bars are layers; default None, the last.

    Returns:
        The axes.

    Raises:
        ValueError: the quantity was not recorded; no such layer or epoch; both are given.
    """
    record = runs.recorded(run)
    names, shares = runs.unit_score_rows(record, layer, epoch)
    ax = axis(ax, height=max(2.4, min(1.6 + 0.22 * len(names), 9.0)))
    places = np.arange(len(names))
    start = np.zeros(len(names))
    palette = [*_SICK, *colors(shares.shape[1] - len(_SICK))]
    for label, color, share in zip(UnitScores.labels, palette, shares.T, strict=True):
        ax.barh(places, share, left=start, color=color, label=label, height=0.9)
        start = start + np.nan_to_num(share)
    lines.name_ticks(ax.yaxis, names)
    ax.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    if layer is not None:
        (subject,) = lines.shortened([layer])
        ax.set(ylabel="epoch")
    else:
        subject = f"epoch {record.epochs[-1] if epoch is None else epoch}"
    ax.set(xlabel=f"share of units, {subject}")
    lines.legend(ax, "mean of abs(output)\nover that of the layer")
    return ax
