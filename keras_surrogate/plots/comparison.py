"""Pictures of a comparison: accuracies with their intervals, and predicted against measured gradients."""

import textwrap

import numpy as np

from keras_surrogate.plots.axes import axis, panels


def accuracies(rows, ax=None, labels=None):
    """Draws, for each row, the mean accuracy with its 95 % interval, and each seed as a small dot.

    The dashed line is the mean of the first row whose slope is the true one; a red cross is a run
    that diverged.

    Args:
        rows: `comparison.Row`s, drawn from top to bottom.
        ax: a matplotlib axis; default a new one.
        labels: a name for each row; default its slope, and the learning rate if one was chosen.

    Returns:
        The axis.
    """
    ax = axis(ax)
    labels = [_label(row) for row in rows] if labels is None else labels
    for place, row in enumerate(rows):
        _draw(ax, place, row, _is_true(row))
    reference = next((row.accuracy.mean for row in rows if _is_true(row)), None)
    if reference is not None:
        ax.axvline(100 * reference, color="0.5", lw=0.8, ls="--", zorder=0)
    ax.set_yticks(range(len(rows)), labels, fontsize="small")
    low, high = ax.get_xlim()
    ax.set(
        xlabel="test accuracy in %",
        xlim=(max(low, -2), min(high, 102)),
        ylim=(len(rows) - 0.4, -0.6),
    )
    ax.grid(alpha=0.25, axis="x")
    return ax


def _label(row):
    """The slope, with the learning rate where one was chosen."""
    return (
        variant(row.case) if row.at_edge is None else f"{variant(row.case)}, {row.case.optimizer}"
    )


def _is_true(row):
    return row.case == row.case.baseline


def _draw(ax, place, row, is_true):
    color = "0.3" if is_true else "C0"
    low, mean, high = (row.accuracy.mean if end is None else end for end in _ends(row.accuracy))
    ax.errorbar(
        100 * mean,
        place,
        xerr=[[100 * (mean - low)], [100 * (high - mean)]],
        fmt="o",
        color=color,
        ms=5,
        capsize=3,
    )
    for is_diverged, marker, seed_color in ((False, "o", color), (True, "x", "tab:red")):
        scores = [100 * run.accuracy for run in row.runs if run.diverged == is_diverged]
        ax.scatter(
            scores, np.full(len(scores), place + 0.25), 12, color=seed_color, marker=marker, lw=1
        )


def _ends(interval):
    return interval.low, interval.mean, interval.high


def comparison(rows):
    """Draws `accuracies` in a panel for each setting, which is all that a case says but its slope.

    Args:
        rows: `comparison.Row`s; at least one.

    Returns:
        The array of axes, shape (settings,).
    """
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row.setting.items()), []).append(row)
    names = [name for name in rows[0].setting if len({row.setting[name] for row in rows}) > 1]
    axes = panels(len(groups), columns=min(2, len(groups)))
    for ax, group in zip(axes, groups.values(), strict=True):
        accuracies(group, ax)
        ax.set_title("\n".join(textwrap.wrap(_title(group[0], names), 80)), fontsize="small")
    return axes


def _title(row, names):
    """What sets a panel apart from the others."""
    words = row.case.in_words([name for name in names if name != "optimizer"])
    parts = [words, row.setting["optimizer"] if "optimizer" in names else ""]
    return ", ".join(filter(None, parts)) or ("plain" if names else "")


def variant(case):
    """The slope of a case in words: "softplus, balanced"."""
    rate = f"layer rate {case.layer_rate:g}" if case.layer_rate != 1 else ""
    annealed = f"annealed over {case.annealing:.0%}" if case.annealing else ""
    return ", ".join(
        filter(None, [case.backward, "balanced" if case.balanced else "", annealed, rate])
    )


def predicted_against_measured(rows, ax=None):
    """Draws, for each row, the gradient ratio and the cosine at initialisation as predicted and as measured.

    On the dashed diagonal they agree. Ratios are first over last layer, on a log scale.

    Args:
        rows: `comparison.Row`s. Those without a prediction, or without a measurement, are left out.
        ax: a pair of matplotlib axes, for ratios and for cosines; default new ones.

    Returns:
        The pair of axes.
    """
    if ax is None:
        ax = panels(2)
    ratios, cosines = ax
    slopes = list(dict.fromkeys(variant(row.case) for row in rows))
    for number, slope in enumerate(slopes):
        group = [row for row in rows if variant(row.case) == slope]
        style = {
            "color": f"C{number % 10}",
            "marker": "os^vD*"[number // 10 % 6],
            "ls": "",
            "ms": 5,
            "alpha": 0.8,
        }
        _points(
            ratios,
            [(row.predicted_gradient_ratio, row.gradient_ratio) for row in group],
            style,
            True,
            slope,
        )
        _points(cosines, [(row.predicted_cosine, row.cosine) for row in group], style, False, slope)
    ratios.set(xscale="log", yscale="log")
    for each, what in (
        (ratios, "gradient ratio, first / last layer"),
        (cosines, "cosine with the true gradient"),
    ):
        each.axline((0.5, 0.5), (1, 1), color="0.5", lw=0.8, ls="--", zorder=0)
        each.set(xlabel=f"{what}: predicted", ylabel="measured")
        each.grid(alpha=0.25)
    cosines.set(
        xlim=(min(-0.1, *cosines.get_xlim()), 1.05), ylim=(min(-0.1, *cosines.get_ylim()), 1.05)
    )
    cosines.legend(
        fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0
    )
    return ax


def _points(ax, pairs, style, logarithmic, label):
    known = [pair for pair in pairs if None not in pair and (not logarithmic or min(pair) > 0)]
    ax.plot(*np.reshape(known, (-1, 2)).T, label=label, **style)
