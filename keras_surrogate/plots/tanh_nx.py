"""The picture of the tanh(nx) question: the inputs at which the slope is large enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots.axes import axis
from keras_surrogate.theory.tanh_nx import tanh_optimum, tanh_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tanh_thresholds(depth: int = 2, ax: Axes | None = None, high: float = 8.0) -> Axes:
    """Draws the thresholds t1(n) and t2(n) = -t1(n) of tanh(n x) for real n.

    Between them the slope of tanh(n x) is at least n**-(depth - 1). Markers show the real n and the
    integer n with the widest interval.

    Args:
        depth: the number of slopes that are multiplied, an integer of at least 1; default 2.
        ax: the matplotlib axes to draw on; default new ones.
        high: the largest n, above 1; default 8.

    Returns:
        The axes.

    Raises:
        ValueError: `depth` or `high` is out of range.
    """
    if not high > 1:
        raise ValueError(f"plots.tanh_thresholds: high must be above 1, but is {high!r}.")
    n = np.linspace(1, high, 2001)
    threshold = tanh_threshold(n, depth)
    power = _power(depth)
    marks = (
        (tanh_optimum(depth).n, "o", "widest, real n"),
        (_best_integer(depth), "s", "widest, integer n"),
    )

    ax = axis(ax)
    area = {"color": "tab:blue", "alpha": 0.12}
    ax.fill_between(n, -threshold, threshold, label=f"slope at least {power}", **area)
    ax.plot(n, threshold, color="tab:blue", lw=1.8, label="$t_1(n)$")
    ax.plot(n, -threshold, color="tab:blue", lw=1.8, ls="--", label="$t_2(n) = -t_1(n)$")
    for number, marker, name in marks:
        place = float(tanh_threshold(number, depth))
        label = f"{name}: {number:.4g}, +-{place:.3f}"
        ax.plot([number] * 2, [place, -place], marker, color="tab:red", ms=5, label=label)
    ax.set(xlabel="n", ylabel="x", xlim=(1, high), title=f"slope of tanh(nx) against {power}")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _best_integer(depth: int) -> int:
    # The threshold has one maximum over n, so the best integer is next to it.
    below = int(tanh_optimum(depth).n)
    return max(below, below + 1, key=lambda n: tanh_threshold(n, depth))


def _power(depth: int) -> str:
    """The bound n**-(depth - 1) as text."""
    if depth == 1:
        return "1"
    if depth == 2:
        return "1/n"
    return f"$n^{{-{depth - 1}}}$"
