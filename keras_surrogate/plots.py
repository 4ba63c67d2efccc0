"""Pictures. Every function takes data and an axis, or makes one, and returns the axis. Needs matplotlib."""

import numpy as np
import tensorflow as tf

from keras_surrogate import presets

try:
    import matplotlib.pyplot as plt
except ImportError as error:
    raise ImportError('Plots need matplotlib: python -m pip install "keras_surrogate[examples]".') from error


def _axis(ax):
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def surrogate(pair, ax=None, low=-4.0, high=4.0):
    """Draws value, true slope and surrogate slope of a pair over [low, high].

    Args:
        pair: a `Surrogate`, or whatever `keras_surrogate.get` takes.
        ax: a matplotlib axis; default a new one.
        low, high: the range of x; default -4 and 4.
    """
    ax, pair = _axis(ax), presets.get(pair)
    x = tf.constant(np.linspace(low, high, 2001))
    scale = "" if pair.scale == 1 else f"{pair.scale:g} times the "
    ax.plot(x, _without_jumps(pair.forward.value(x)), color="black", lw=2.5, label=f"value: {pair.forward.title}")
    ax.plot(x, _without_jumps(pair.forward.slope(x)), color="tab:blue", ls="--", lw=1.8, label="true slope")
    slope = _without_jumps(pair.scale * pair.backward.slope(x))
    ax.plot(x, slope, color="tab:red", lw=1.8, label=f"surrogate slope: {scale}slope of {pair.backward.title}")
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="x", xlim=(low, high))
    ax.legend(frameon=False, fontsize="small")
    return ax


def _without_jumps(values, threshold=0.02):
    """The curve with a gap wherever it jumps, so that a step is not drawn as a slope."""
    values = np.array(values)
    change = np.abs(np.diff(values))
    neighbours = np.maximum(np.append(change[1:], 0), np.insert(change[:-1], 0, 0))
    values[:-1][(change > threshold * np.ptp(values)) & (neighbours < change / 4)] = np.nan
    return values


def gradient_norms(record, ax=None, points=200):
    """Draws the gradient norm of each layer over training, on a log scale, from dark (first layer) to light (last).

    Args:
        record: a `GradientNormLogger`, or anything with its `layer_names`, `steps` and `norms`.
        ax: a matplotlib axis; default a new one.
        points: more recorded steps than this are drawn as medians over that many equal spans; default 200.
    """
    ax = _axis(ax)
    steps, norms = _medians(np.asarray(record.steps), np.asarray(record.norms), points)
    norms = np.where(norms > 0, norms, np.nan)
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, max(1, norms.shape[1])))
    labelled = set(np.linspace(0, norms.shape[1] - 1, min(10, norms.shape[1])).astype(int))
    for index, name in enumerate(record.layer_names):
        label = name if index in labelled else None
        ax.plot(steps, norms[:, index], color=colors[index], lw=1.8, label=label)
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
