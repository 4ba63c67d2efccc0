"""Lines of many layers on one axis, and their names, so that a hundred of them stay readable."""

import numpy as np

from keras_surrogate.plots.axes import colors

# Neighbouring layers whose values differ by more than this factor, up and down by turns, are not
# joined by lines.
_ZIGZAG = 2.0
# So many layers make the trend: full turns of what repeats every 2, 3, 4 or 6 layers, as kernels
# and scales do.
_WINDOW = 12


def layers(ax, x, values, names, logarithmic=True):
    """One line a layer (a column of `values`), from dark to light; at most ten of them are named."""
    values = np.asarray(values, float)
    shown = shortened(names)
    labelled = spread(len(names), 10)
    for number, color in enumerate(colors(len(names))):
        label = shown[number] if number in labelled else None
        line(ax, x, values[:, number], color, label, logarithmic)
    scale(ax, values, logarithmic)
    if len(names) and tuple(names) != ("global",):
        legend(ax, "layer")


def line(ax, x, y, color, label=None, logarithmic=True, marker=None, **style):
    """A line with gaps where y is not finite, and dots where a line of a single point would not show.

    On a logarithmic scale there are gaps where y is 0 as well, with triangles at the lower border.
    """
    x = np.asarray(x, float)
    y = np.asarray(y, float)
    drawn = np.isfinite(y) & ((y > 0) | (not logarithmic))
    style = {"lw": 1.5, **style}
    ax.plot(x, np.where(drawn, y, np.nan), color=color, label=label, marker=marker, **style)
    alone = drawn & ~np.append(drawn[1:], False) & ~np.insert(drawn[:-1], 0, False)
    ax.scatter(x[alone], y[alone], 12, color=[color])
    if len(x):
        # Also where there is nothing to be drawn but marks at the border, which matplotlib does not
        # count.
        ax.update_datalim(np.stack([x, np.ones(len(x))], axis=1), updatey=False)
        ax.autoscale_view(scaley=False)
    if logarithmic:
        _at_border(ax, x[y == 0], 0, "v", color)


def across(ax, places, values, color, label=None, marker=None, zigzag=None):
    """Values from layer to layer on a logarithmic scale: a line, or where it would zigzag dots and their trend.

    Args:
        places: those of the layers on the axis.
        values: a number for each.
        zigzag: whether to draw dots, and as a thin line their `trend`; default: if
            `zigzags(values)`.
    """
    if not (zigzags(values) if zigzag is None else zigzag):
        line(ax, places, values, color, label, marker=marker)
        return
    line(ax, places, values, color, label, marker=".", ls="", alpha=0.6)
    between = (places[1:] + places[:-1]) / 2
    line(ax, between, trend(values), color, lw=1)


def zigzags(values):
    """Whether half the layers or more differ by over a factor of 2 from the geometric mean of their two neighbours.

    Args:
        values: shape (layers,), or (lines, layers) for one answer for all lines.
    """
    logarithms = _log10(values)
    with np.errstate(invalid="ignore"):  # -inf less -inf, of zeros
        bends = np.abs(logarithms[..., 1:-1] - (logarithms[..., 2:] + logarithms[..., :-2]) / 2)
    bends = bends[np.isfinite(bends)]
    return len(bends) > 0 and bool(np.median(bends) > np.log10(_ZIGZAG))


def trend(values):
    """The geometric mean of the 12 values around the middle of each two neighbours, of fewer near the ends; NaN for 0.

    Where values of several kinds take turns, as kernels and scales do, a median would jump from
    kind to kind.
    """
    logarithms = _log10(values)
    means = []
    for after in range(1, len(logarithms)):
        reach = min(_WINDOW // 2, after, len(logarithms) - after)
        means.append(np.mean(logarithms[after - reach : after + reach]))
    return np.where(np.isneginf(means), np.nan, 10.0 ** np.array(means))


def _log10(values):
    """-inf for 0, NaN for what is not finite or negative."""
    values = np.asarray(values, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(values), np.log10(values), np.nan)


def scale(ax, values, logarithmic=True):
    """The y axis for such lines, also where there is nothing to be drawn on it."""
    ax.grid(alpha=0.25)
    if logarithmic:
        if not np.any(np.isfinite(values) & (np.asarray(values) > 0)):
            ax.set_ylim(0.1, 1)
        ax.set_yscale("log")


def share_scale(ax, shares):
    """The y axis for numbers from 0 to 1: a little beyond the largest, or all of it where none is above 0."""
    largest = np.nanmax(shares, initial=0.0)
    top = 1.1 * max(largest, 0.1) if largest > 0 else 1.02
    ax.set_ylim(-0.02 * top, top)


def crosses(ax, x):
    """Red crosses at the upper border, for what is not finite."""
    _at_border(ax, np.asarray(x, float), 1, "x", "tab:red")


def _at_border(ax, x, height, marker, color):
    if len(x):
        place = np.full(len(x), float(height))
        ax.scatter(
            x,
            place,
            16,
            color=[color],
            marker=marker,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )


def legend(ax, title):
    """Beside the axis, where it hides nothing."""
    ax.legend(
        title=title,
        fontsize="small",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        borderaxespad=0,
    )


def name_ticks(axis, names, most=20):
    """Names along an axis whose places are 0, 1, ...; so many of them at most."""
    places = spread(len(names), most)
    shown = shortened(list(map(str, names)))
    axis.set_ticks(places, [shown[place] for place in places], fontsize="small")


def spread(count, most):
    """At most so many of the numbers below `count`, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def shortened(names, length=24):
    """Names of this length at most, with an ellipsis in place of what the most of them do without.

    As much as possible is left of the end, which tells layers of one model apart better than the
    beginning; of the beginning what it takes so that different names stay different. Where that
    does not do, they are longer.
    """
    different = len(set(names))
    for longest in (length, 2 * length):
        for front in range(longest - 1):
            short = [_without_middle(name, longest, front) for name in names]
            if len(set(short)) == different:
                return short
    return list(names)


def _without_middle(name, length, front):
    if len(name) <= length:
        return name
    return name[:front] + "\u2026" + name[front + 1 - length :]
