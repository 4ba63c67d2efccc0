"""Pictures of a comparison: accuracies, and predicted against measured gradients."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.plots import lines
from keras_surrogate.plots.axes import axis, panels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from keras_surrogate.comparison import Case, CaseSummary

_MARKERS = "os^vD*"


def accuracies(
    rows: Sequence[CaseSummary], ax: Axes | None = None, labels: Sequence[str] | None = None
) -> Axes:
    """Draws the mean accuracy of each row with its 95 % interval, and each seed as a small dot.

    The dashed line is the mean of the first row with the true slope. A red cross is a run that
    diverged.

    Args:
        rows: `comparison.CaseSummary` objects, drawn from top to bottom.
        ax: the matplotlib axes to draw on; default new ones.
        labels: the names of the rows; default the slope, and the learning rate if it was chosen.

    Returns:
        The axes.
    """
    ax = axis(ax)
    if labels is None:
        labels = [_label(row) for row in rows]
    for place, row in enumerate(rows):
        _draw(ax, place, row)
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


def _label(row: CaseSummary) -> str:
    if row.at_edge is None:
        return variant(row.case)
    return f"{variant(row.case)}, {row.case.optimizer}"


def _is_true(row: CaseSummary) -> bool:
    return row.case == row.case.baseline


def _draw(ax: Axes, place: int, row: CaseSummary) -> None:
    color = "0.3" if _is_true(row) else "C0"
    mean = row.accuracy.mean
    # The interval of a single seed has no ends.
    left = 0.0 if row.accuracy.low is None else mean - row.accuracy.low
    right = 0.0 if row.accuracy.high is None else row.accuracy.high - mean
    error = [[100 * left], [100 * right]]
    ax.errorbar(100 * mean, place, xerr=error, fmt="o", color=color, ms=5, capsize=3)
    _draw_seeds(ax, place, [run for run in row.runs if not run.diverged], "o", color)
    _draw_seeds(ax, place, [run for run in row.runs if run.diverged], "x", "tab:red")


def _draw_seeds(ax: Axes, place: int, runs: list, marker: str, color: str) -> None:
    scores = [100 * run.accuracy for run in runs]
    below = np.full(len(scores), place + 0.25)
    ax.scatter(scores, below, 12, color=color, marker=marker, lw=1)


def comparison(rows: Sequence[CaseSummary]) -> np.ndarray:
    """Draws `accuracies` in a panel for each setting, i.e. all fields of a case but its slope.

    Args:
        rows: `comparison.CaseSummary` objects; at least one.

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


def _title(row: CaseSummary, names: list[str]) -> str:
    """The fields `names` of a setting, which differ between panels, in words."""
    words = [row.case.in_words([name for name in names if name != "optimizer"])]
    if "optimizer" in names:
        words.append(row.setting["optimizer"])
    title = ", ".join(filter(None, words))
    if names and not title:
        return "plain"
    return title


def variant(case: Case) -> str:
    """The slope of a case in words, such as "softplus, balanced"."""
    words = [case.backward]
    if case.balanced:
        words.append("balanced")
    if case.annealing:
        words.append(f"annealed over {case.annealing:.0%}")
    if case.layer_rate != 1:
        words.append(f"layer rate {case.layer_rate:g}")
    return ", ".join(words)


def predicted_against_measured(
    rows: Sequence[CaseSummary], ax: Sequence[Axes] | np.ndarray | None = None
) -> Sequence[Axes] | np.ndarray:
    """Draws gradient ratio and cosine at initialisation, predicted against measured, for each row.

    On the dashed diagonal both are equal. Ratios are those of the first to the last layer, on a log
    scale. Where the true gradient is 0 there is no cosine.

    Args:
        rows: `comparison.CaseSummary` objects. Those without a prediction or a measurement are
            left out.
        ax: a pair of matplotlib axes, for ratios and for cosines; default new ones, of which there
            is only the first if no row has a cosine.

    Returns:
        The axes.
    """
    has_cosines = bool(_known((row.predicted_cosine, row.cosine) for row in rows))
    if ax is None:
        count = 2 if has_cosines else 1
        ax = panels(count, columns=count)
    slopes = list(dict.fromkeys(variant(row.case) for row in rows))
    for number, slope in enumerate(slopes):
        group = [row for row in rows if variant(row.case) == slope]
        # Ten colours for each marker.
        marker = _MARKERS[number // 10 % len(_MARKERS)]
        style = {"color": f"C{number % 10}", "marker": marker, "ls": "", "ms": 5, "alpha": 0.8}
        pairs = _known((row.predicted_gradient_ratio, row.gradient_ratio) for row in group)
        # A log scale has no place for 0.
        positive = [pair for pair in pairs if min(pair) > 0]
        _draw_points(ax[0], positive, slope, style)
        if len(ax) > 1:
            pairs = _known((row.predicted_cosine, row.cosine) for row in group)
            _draw_points(ax[1], pairs, slope, style)
    ax[0].set(xscale="log", yscale="log")
    _finish(ax[0], "gradient ratio, first / last layer")
    if len(ax) > 1:
        _finish(ax[1], "cosine with the true gradient")
        ax[1].set(
            xlim=(min(-0.1, *ax[1].get_xlim()), 1.05),
            ylim=(min(-0.1, *ax[1].get_ylim()), 1.05),
        )
    lines.legend(ax[-1])
    return ax


def _known(pairs: Iterable[tuple]) -> list[tuple[float, float]]:
    return [pair for pair in pairs if None not in pair]


def _draw_points(ax: Axes, pairs: list[tuple[float, float]], label: str, style: dict) -> None:
    x, y = np.reshape(pairs, (-1, 2)).T
    ax.plot(x, y, label=label, **style)


def _finish(ax: Axes, quantity: str) -> None:
    ax.axline((0.5, 0.5), (1, 1), color="0.5", lw=0.8, ls="--", zorder=0)
    ax.set(xlabel=f"{quantity}: predicted", ylabel="measured")
    ax.grid(alpha=0.25)
