"""The picture of the tanh(nx) question: how far out may x be?"""

import numpy as np

from keras_surrogate.plots.axes import axis
from keras_surrogate.theory.tanh_nx import tanh_optimum, tanh_threshold


def tanh_thresholds(depth=2, ax=None, high=8.0):
    """Draws t1(n) and t2(n) = -t1(n), between which the slope of tanh(n x) is at least n**-(depth - 1), for real n.

    Marked are the n with the widest interval, and the integer n with the widest one.

    Args:
        depth: the number of slopes multiplied, an integer of at least 1; default 2.
        ax: a matplotlib axis; default a new one.
        high: the largest n drawn, above 1; default 8.

    Raises:
        ValueError: `depth` or `high` out of range.
    """
    if not high > 1:
        raise ValueError(f"high must be above 1, but is {high!r}.")
    n, best = np.linspace(1, high, 2001), tanh_optimum(depth)
    threshold, ax = tanh_threshold(n, depth), axis(ax)
    ax.fill_between(
        n,
        -threshold,
        threshold,
        color="tab:blue",
        alpha=0.12,
        label=f"slope at least {_power(depth)}",
    )
    ax.plot(n, threshold, color="tab:blue", lw=1.8, label="$t_1(n)$")
    ax.plot(n, -threshold, color="tab:blue", lw=1.8, ls="--", label="$t_2(n) = -t_1(n)$")
    for number, mark, name in (
        (best.n, "o", "widest, real n"),
        (_best_integer(depth), "s", "widest, integer n"),
    ):
        place = float(tanh_threshold(number, depth))
        ax.plot(
            [number] * 2,
            [place, -place],
            mark,
            color="tab:red",
            ms=5,
            label=f"{name}: {number:.4g}, +-{place:.3f}",
        )
    ax.set(
        xlabel="n", ylabel="x", xlim=(1, high), title=f"slope of tanh(nx) against {_power(depth)}"
    )
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _best_integer(depth):
    """The threshold has a single maximum, so the best integer is beside it."""
    below = int(tanh_optimum(depth).n)
    return max(below, below + 1, key=lambda n: tanh_threshold(n, depth))


def _power(depth):
    return "1" if depth == 1 else "1/n" if depth == 2 else f"$n^{{-{depth - 1}}}$"
