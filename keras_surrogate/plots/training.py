"""Pictures of a training run."""

import numpy as np

from keras_surrogate.plots.axes import axis, colors


def gradient_norms(record, ax=None, points=200):
    """Draws the gradient norm of each layer over training, on a log scale, from dark (first layer) to light (last).

    Args:
        record: a `GradientNormLogger`, or anything with its `layer_names`, `steps` and `norms`.
        ax: a matplotlib axis; default a new one.
        points: more recorded steps than this are drawn as medians over that many equal spans; default 200.
    """
    ax = axis(ax)
    steps, norms = _medians(np.asarray(record.steps), np.asarray(record.norms), points)
    norms = np.where(norms > 0, norms, np.nan)
    shades = colors(norms.shape[1])
    labelled = set(np.linspace(0, norms.shape[1] - 1, min(10, norms.shape[1])).astype(int))
    for index, name in enumerate(record.layer_names):
        label = name if index in labelled else None
        ax.plot(steps, norms[:, index], color=shades[index], lw=1.8, label=label)
    ax.set(yscale="log", xlabel="training step", ylabel="gradient norm")
    ax.grid(alpha=0.25)
    if len(record.layer_names):
        ax.legend(title="layer", fontsize="small", frameon=False)
    return ax


def _medians(steps, norms, points):
    if len(steps) <= points:
        return steps, norms
    spans = np.array_split(np.arange(len(steps)), points)
    return np.array([steps[span].mean() for span in spans]), np.array(
        [np.median(norms[span], axis=0) for span in spans]
    )
