"""Pictures of a prediction."""

import numpy as np

from keras_surrogate.plots.axes import axis


def prediction(predictions, ax=None, measured=None):
    """Draws the predicted gradient norm of each layer on a log scale, and the alignment on a second axis if given.

    Args:
        predictions: a `theory.Prediction`, or a dictionary from label to prediction, a colour each.
        ax: a matplotlib axis, on which norms are drawn; or a pair of axes, for norms and for
            alignments; default one new axis. Without a true gradient no alignment is defined, and
            the axis says so.
        measured: a dictionary from the same labels to measured gradient norms, arrays of shape
            (depth,), drawn as dots; default none.

    Returns:
        The axis, or the pair, that was given or made.
    """
    if isinstance(ax, tuple | list | np.ndarray):
        norms, alignments = ax
    else:
        ax = norms = axis(ax)
        alignments = None
    predictions = predictions if isinstance(predictions, dict) else {"predicted": predictions}
    for number, (label, item) in enumerate(predictions.items()):
        _draw(item, norms, alignments, label, f"C{number}", (measured or {}).get(label))
    norms.set(yscale="log", xlabel="layer", ylabel="gradient norm")
    if alignments is not None:
        alignments.set(xlabel="layer", ylabel="cosine with the true gradient", ylim=(-1.05, 1.05))
        alignments.set_xlim(norms.get_xlim())
        if all(item.alignment is None for item in predictions.values()):
            note = "undefined: the true gradient is 0"
            alignments.text(
                0.5,
                0.5,
                note,
                transform=alignments.transAxes,
                ha="center",
                va="center",
                color="0.3",
            )
    for each in filter(None, (norms, alignments)):
        each.grid(alpha=0.25)
        each.xaxis.get_major_locator().set_params(integer=True)
    norms.legend(title="dots: measured" if measured else None, frameon=False, fontsize="small")
    return ax


def _draw(item, norms, alignments, label, color, measured):
    layers = np.arange(1, item.depth + 1)
    norms.plot(
        layers,
        np.where(item.gradient_norm > 0, item.gradient_norm, np.nan),
        color=color,
        lw=1.8,
        label=label,
    )
    if measured is not None:
        norms.plot(layers, measured, "o", color=color, ms=4)
    if alignments is not None and item.alignment is not None:
        alignments.plot(layers, item.alignment, color=color, lw=1.8, label=label)
