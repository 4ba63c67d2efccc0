"""Lines of up to hundreds of layers on the same axes, and their names, kept readable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate.plots.axes import colors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Values that alternate by more than this factor from layer to layer are not joined by a line.
_ZIGZAG = 2.0
# Layers in the mean of a trend: whole periods of a pattern that repeats every 2, 3, 4 or 6 layers,
# such as that of kernels and normalisation scales.
_WINDOW = 12


def layers(
    ax: Axes, x: np.ndarray, values: np.ndarray, names: Sequence[str], logarithmic: bool = True
) -> None:
    """Draws a line for each layer, a column of `values`, from dark to light; names ten at most."""
    values = np.asarray(values, float)
    shown = shortened(names)
    labelled = spread(len(names), 10)
    for number, color in enumerate(colors(len(names))):
        label = shown[number] if number in labelled else None
        line(ax, x, values[:, number], color, label, logarithmic)
    scale(ax, values, logarithmic)
    if len(names) and tuple(names) != ("global",):
        legend(ax, "layer")


def line(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    color: object,
    label: str | None = None,
    logarithmic: bool = True,
    marker: str | None = None,
    **style: Any,
) -> None:
    """Draws a line with gaps where y is not finite, and a dot for each isolated point.

    On a logarithmic scale zeros are gaps too, with triangles at the lower border.
    """
    x = np.asarray(x, float)
    y = np.asarray(y, float)
    drawn = np.isfinite(y) & ((y > 0) | (not logarithmic))
    style = {"lw": 1.5, **style}
    ax.plot(x, np.where(drawn, y, np.nan), color=color, label=label, marker=marker, **style)

    alone = drawn & ~np.append(drawn[1:], False) & ~np.insert(drawn[:-1], 0, False)
    ax.scatter(x[alone], y[alone], 12, color=[color])
    if len(x):
        # matplotlib does not count marks at the border, so the range of x is given to it.
        ax.update_datalim(np.stack([x, np.ones(len(x))], axis=1), updatey=False)
        ax.autoscale_view(scaley=False)
    if logarithmic:
        _at_border(ax, x[y == 0], 0, "v", color)


def across(
    ax: Axes,
    places: np.ndarray,
    values: np.ndarray,
    color: object,
    label: str | None = None,
    marker: str | None = None,
    zigzag: bool | None = None,
) -> None:
    """Draws values from layer to layer on a logarithmic scale, as a line or as dots with a trend.

    Args:
        places: the places of the layers on the x axis.
        values: one number for each layer.
        zigzag: True for dots, with their `trend` as a thin line; default `zigzags(values)`.
    """
    if zigzag is None:
        zigzag = zigzags(values)
    if not zigzag:
        line(ax, places, values, color, label, marker=marker)
        return
    line(ax, places, values, color, label, marker=".", ls="", alpha=0.6)
    between = (places[1:] + places[:-1]) / 2
    line(ax, between, trend(values), color, lw=1)


def zigzags(values: np.ndarray) -> bool:
    """True if the values of neighbouring layers alternate by more than a factor of 2.

    The factor is the median over the layers: a value over the geometric mean of its two neighbours.

    Args:
        values: shape (layers,); or (lines, layers), for one answer for all lines.
    """
    logarithms = _log10(values)
    with np.errstate(invalid="ignore"):  # -inf - -inf, for zeros
        neighbours = (logarithms[..., 2:] + logarithms[..., :-2]) / 2
        bends = np.abs(logarithms[..., 1:-1] - neighbours)
    bends = bends[np.isfinite(bends)]
    return len(bends) > 0 and bool(np.median(bends) > np.log10(_ZIGZAG))


def trend(values: np.ndarray) -> np.ndarray:
    """The geometric mean of the 12 values around each gap between two layers, fewer at the ends.

    NaN where a value is 0. A median would jump between two kinds of values that alternate, such as
    those of kernels and of scales.

    Returns:
        Shape (layers - 1,).
    """
    logarithms = _log10(values)
    means = []
    for after in range(1, len(logarithms)):
        reach = min(_WINDOW // 2, after, len(logarithms) - after)
        means.append(np.mean(logarithms[after - reach : after + reach]))
    return np.where(np.isneginf(means), np.nan, 10.0 ** np.array(means))


def _log10(values: np.ndarray) -> np.ndarray:
    """The decimal logarithm; -inf for 0, NaN for negative and non-finite values."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(values), np.log10(values), np.nan)


def scale(ax: Axes, values: np.ndarray, logarithmic: bool = True) -> None:
    """Sets the scale of the y axis, also if no value can be drawn on it."""
    ax.grid(alpha=0.25)
    if logarithmic:
        if not np.any(np.isfinite(values) & (np.asarray(values) > 0)):
            ax.set_ylim(0.1, 1)
        ax.set_yscale("log")


def share_scale(ax: Axes, shares: np.ndarray) -> None:
    """Sets the y axis for shares: to 10 % above the largest, or to all of [0, 1] if all are 0."""
    largest = np.nanmax(shares, initial=0.0)
    top = 1.1 * max(largest, 0.1) if largest > 0 else 1.02
    ax.set_ylim(-0.02 * top, top)


def cosine_scale(ax: Axes, cosines: np.ndarray) -> None:
    """Sets the y axis for cosines: from 0, or below the lowest, to 1. A grey line is at 0."""
    ax.grid(alpha=0.25)
    ax.axhline(0, color="0.6", lw=1)
    lowest = np.nanmin(cosines, initial=0.0)
    ax.set_ylim(lowest - 0.05, 1.05)


def crosses(ax: Axes, x: Sequence[float] | np.ndarray) -> None:
    """Draws red crosses at the upper border, for values that are not finite."""
    _at_border(ax, np.asarray(x, float), 1, "x", "tab:red")


def _at_border(ax: Axes, x: np.ndarray, height: float, marker: str, color: object) -> None:
    if not len(x):
        return
    y = np.full(len(x), float(height))  # 0 is the lower border, 1 the upper one
    style = {"color": [color], "marker": marker, "clip_on": False}
    ax.scatter(x, y, 16, transform=ax.get_xaxis_transform(), **style)


def legend(ax: Axes, title: str | None = None) -> None:
    """Adds a legend to the right of the axes, where it covers no line."""
    ax.legend(
        title=title,
        fontsize="small",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
    )


def name_ticks(axis: Axis, names: Sequence[object] | np.ndarray, most: int = 20) -> None:
    """Names the places 0, 1, ... of an axis, at most `most` of them."""
    places = spread(len(names), most)
    shown = shortened(list(map(str, names)))
    axis.set_ticks(places, [shown[place] for place in places], fontsize="small")


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def shortened(names: Sequence[str], length: int = 24) -> list[str]:
    """Names of at most `length` characters, with an ellipsis in place of a part of the middle.

    Different names stay different. As much as possible of the end is kept, because layers of one
    model usually differ there. Names are up to twice as long, or complete, if that is necessary.
    """
    different = len(set(names))
    for longest in (length, 2 * length):
        for front in range(longest - 1):
            short = [_without_middle(name, longest, front) for name in names]
            if len(set(short)) == different:
                return short
    return list(names)


def _without_middle(name: str, length: int, front: int) -> str:
    if len(name) <= length:
        return name
    return name[:front] + "\u2026" + name[front + 1 - length :]
