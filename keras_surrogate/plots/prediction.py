"""The picture of a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots.axes import axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from keras_surrogate.theory import Prediction


def prediction(
    predictions: Prediction | dict[str, Prediction],
    ax: Axes | Sequence[Axes] | np.ndarray | None = None,
    measured: dict[str, np.ndarray] | None = None,
) -> Axes | Sequence[Axes] | np.ndarray:
    """Draws the predicted gradient norm of each layer on a log scale, and optionally the alignment.

    Args:
        predictions: a `theory.Prediction`, or a dictionary from labels to predictions. Each has its
            own colour.
        ax: the matplotlib axes for the norms; or a pair of axes, for the norms and for the
            alignments; default new axes for the norms. Where the true gradient is zero the
            alignment is undefined, and a note on the axes says so.
        measured: a dictionary from the same labels to measured gradient norms, arrays of shape
            (depth,). They are drawn as dots; default none.

    Returns:
        The axes, or the pair of axes.
    """
    alignments = None
    if isinstance(ax, tuple | list | np.ndarray):
        norms, alignments = ax
    else:
        ax = norms = axis(ax)
    if not isinstance(predictions, dict):
        predictions = {"predicted": predictions}
    measured = measured or {}

    for number, (label, item) in enumerate(predictions.items()):
        color = f"C{number}"
        _draw_norms(norms, item, label, color, measured.get(label))
        if alignments is not None and item.alignment is not None:
            alignments.plot(_layers(item), item.alignment, color=color, lw=1.8, label=label)
    norms.set(yscale="log")
    _finish(norms, "gradient norm")
    norms.legend(title="dots: measured" if measured else None, frameon=False, fontsize="small")

    if alignments is not None:
        alignments.set(ylim=(-1.05, 1.05), xlim=norms.get_xlim())
        _finish(alignments, "cosine with the true gradient")
        if all(item.alignment is None for item in predictions.values()):
            note = "undefined: the true gradient is 0"
            middle = {"transform": alignments.transAxes, "ha": "center", "va": "center"}
            alignments.text(0.5, 0.5, note, color="0.3", **middle)
    return ax


def _layers(item: Prediction) -> np.ndarray:
    return np.arange(1, item.depth + 1)


def _draw_norms(
    ax: Axes, item: Prediction, label: str, color: str, measured: np.ndarray | None
) -> None:
    positive = np.where(item.gradient_norm > 0, item.gradient_norm, np.nan)
    ax.plot(_layers(item), positive, color=color, lw=1.8, label=label)
    if measured is not None:
        ax.plot(_layers(item), measured, "o", color=color, ms=4)


def _finish(ax: Axes, quantity: str) -> None:
    ax.set(xlabel="layer", ylabel=quantity)
    ax.grid(alpha=0.25)
    ax.xaxis.get_major_locator().set_params(integer=True)
