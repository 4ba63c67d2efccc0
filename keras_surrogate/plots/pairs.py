"""Pictures of a pair of functions."""

import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.plots.axes import axis


def surrogate(pair, ax=None, low=-4.0, high=4.0):
    """Draws value, true slope and surrogate slope of a pair over [low, high].

    Args:
        pair: a `Surrogate`, or whatever `keras_surrogate.get` takes.
        ax: a matplotlib axis; default a new one.
        low, high: the range of x; default -4 and 4.
    """
    ax, pair = axis(ax), presets.get(pair)
    x = tf.constant(np.linspace(low, high, 2001))
    scale = "" if pair.scale == 1 else f"{pair.scale:g} times the "
    ax.plot(
        x,
        _without_jumps(pair.forward.value(x)),
        color="black",
        lw=2.5,
        label=f"value: {pair.forward.title}",
    )
    ax.plot(
        x,
        _without_jumps(pair.forward.slope(x)),
        color="tab:blue",
        ls="--",
        lw=1.8,
        label="true slope",
    )
    slope = _without_jumps(pair.scale * pair.backward.slope(x))
    ax.plot(
        x,
        slope,
        color="tab:red",
        lw=1.8,
        label=f"surrogate slope: {scale}slope of {pair.backward.title}",
    )
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
