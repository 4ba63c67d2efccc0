"""The picture of a surrogate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.plots.axes import axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_surrogate._types import SurrogateLike


def surrogate(
    pair: SurrogateLike, ax: Axes | None = None, low: float = -4.0, high: float = 4.0
) -> Axes:
    """Draws value, true slope and surrogate slope over [low, high].

    Args:
        pair: a `Surrogate`, or any argument of `keras_surrogate.get`.
        ax: the matplotlib axes to draw on; default new ones.
        low, high: the range of x; default -4 and 4.

    Returns:
        The axes.
    """
    ax = axis(ax)
    pair = presets.get(pair)
    x = tf.constant(np.linspace(low, high, 2001))
    value = _without_jumps(pair.forward.value(x))
    true_slope = _without_jumps(pair.forward.slope(x))
    slope = _without_jumps(pair.scale * pair.backward.slope(x))
    factor = "" if pair.scale == 1 else f"{pair.scale:g} times the "
    slope_label = f"surrogate slope: {factor}slope of {pair.backward.title}"

    ax.plot(x, value, color="black", lw=2.5, label=f"value: {pair.forward.title}")
    ax.plot(x, true_slope, color="tab:blue", ls="--", lw=1.8, label="true slope")
    ax.plot(x, slope, color="tab:red", lw=1.8, label=slope_label)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="x", xlim=(low, high))
    ax.legend(frameon=False, fontsize="small")
    return ax


def _without_jumps(values: tf.Tensor, threshold: float = 0.02) -> np.ndarray:
    """The curve with a gap at each jump, so that a step is not drawn as a steep line."""
    curve = np.array(values)
    change = np.abs(np.diff(curve))
    # A jump is a large change whose two neighbours are small.
    neighbours = np.maximum(np.append(change[1:], 0), np.insert(change[:-1], 0, 0))
    jumps = (change > threshold * np.ptp(curve)) & (neighbours < change / 4)
    curve[:-1][jumps] = np.nan
    return curve
