"""Lines of many layers on one axis, and their names, so that a hundred of them stay readable."""

import numpy as np

from keras_surrogate.plots.axes import colors
from keras_surrogate.records import shortened


def layers(ax, x, values, names, logarithmic=True):
    """One line a layer (a column of `values`), from dark to light; at most ten of them are named."""
    values, labelled = np.asarray(values, float), spread(len(names), 10)
    for number, color in enumerate(colors(len(names))):
        label = shortened(names[number]) if number in labelled else None
        line(ax, x, values[:, number], color, label, logarithmic)
    scale(ax, values, logarithmic)
    if len(names) and tuple(names) != ("global",):
        legend(ax, "layer")


def line(ax, x, y, color, label=None, logarithmic=True, marker=None):
    """A line with gaps where y is not finite, and dots where a line of a single point would not show.

    On a logarithmic scale there are gaps where y is 0 as well, with triangles at the lower border.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    drawn = np.isfinite(y) & ((y > 0) | (not logarithmic))
    ax.plot(x, np.where(drawn, y, np.nan), color=color, lw=1.5, label=label, marker=marker)
    alone = drawn & ~np.append(drawn[1:], False) & ~np.insert(drawn[:-1], 0, False)
    ax.scatter(x[alone], y[alone], 12, color=[color])
    if len(x):
        # Also where there is nothing to be drawn but marks at the border, which matplotlib does not count.
        ax.update_datalim(np.stack([x, np.ones(len(x))], axis=1), updatey=False)
        ax.autoscale_view(scaley=False)
    if logarithmic:
        _at_border(ax, x[y == 0], 0, "v", color)


def scale(ax, values, logarithmic=True):
    """The y axis for such lines, also where there is nothing to be drawn on it."""
    ax.grid(alpha=0.25)
    if logarithmic:
        if not np.any(np.isfinite(values) & (np.asarray(values) > 0)):
            ax.set_ylim(0.1, 1)
        ax.set_yscale("log")


def crosses(ax, x):
    """Red crosses at the upper border, for what is not finite."""
    _at_border(ax, np.asarray(x, float), 1, "x", "tab:red")


def _at_border(ax, x, height, marker, color):
    if len(x):
        place = np.full(len(x), float(height))
        ax.scatter(x, place, 16, color=[color], marker=marker, transform=ax.get_xaxis_transform(), clip_on=False)


def legend(ax, title):
    """Beside the axis, where it hides nothing."""
    ax.legend(title=title, fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)


def name_ticks(axis, names, most=20):
    """Names along an axis whose places are 0, 1, ...; so many of them at most."""
    places = spread(len(names), most)
    axis.set_ticks(places, [shortened(str(names[place])) for place in places], fontsize="small")


def spread(count, most):
    """At most so many of the numbers below `count`, evenly spread, with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
