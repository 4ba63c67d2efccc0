"""Pictures of a training run: the recorded quantities of each layer, over steps or epochs.

A run is a `records.Record`, a logger, a `gradients.GradientNorms`, or the path of a CSV or NPZ
file. On a logarithmic axis a triangle at the lower border is a 0. A red cross at the upper border
is a step whose gradient is not finite. If a record holds two fits, the epochs of the second are
drawn separately; their numbers may occur twice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.plots import lines, runs
from keras_surrogate.plots.alignment import alignment
from keras_surrogate.plots.axes import axis, colors, map_colors, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_surrogate.plots.runs import HasNorms, RunLike

_SHARES = (
    "activation_zeros",
    "activation_saturated",
    "always_firing_units",
    "dead_units",
    "dormant_units",
    "firing_rate",
    "gradient_clipped",
    "large_slopes",
    "silent_units",
)
# Drawn on a linear scale: shares, and quantities with a sign. The others span powers of ten.
_LINEAR = ("activation_mean", "alignment", *_SHARES)
# Height of a layer in a map, in inches.
_LAYER_HEIGHT = 0.08


def gradient_norms(run: RunLike | HasNorms, ax: Axes | None = None, points: int = 200) -> Axes:
    """Draws the gradient norm of each layer over training, on a log scale.

    Colours go from dark, the first layer, to light, the last.

    Args:
        run: a training run, or an object with `layer_names`, `steps` and `norms`.
        ax: the matplotlib axes to draw on; default new ones.
        points: the largest number of points of a line, default 200. Of more recorded steps, the
            medians over so many equal spans are drawn.

    Returns:
        The axes.
    """
    ax = axis(ax)
    run = runs.with_norms(run)
    steps, norms = runs.spans(np.asarray(run.steps), np.asarray(run.norms), points)
    lines.layers(ax, steps, norms, run.layer_names)
    lines.crosses(ax, runs.nonfinite_steps(run))
    ax.set(xlabel="training step", ylabel="gradient norm")
    return ax


def over_time(run: RunLike, quantity: str, ax: Axes | None = None, points: int = 200) -> Axes:
    """Draws any recorded quantity of each layer over training, in the style of `gradient_norms`.

    Args:
        run: a training run.
        quantity: one of the `Record`'s `quantities`. Shares, and quantities with a sign, are drawn
            on a linear scale.
        ax, points: as in `gradient_norms`. Of "gradient_clipped", which is 1 or 0 in each step, the
            means are drawn. Of "alignment" only the sampled steps are drawn.

    Returns:
        The axes.

    Raises:
        ValueError: the quantity was not recorded.
    """
    record = runs.recorded(run)
    names = record.names(quantity)
    if names:
        values = record[quantity]
    else:
        names = ("global",)
        values = record.total(quantity)[:, np.newaxis]
    names, values = runs.measured(names, values)
    steps = record.steps
    if quantity == "alignment":
        steps, values = runs.sampled(steps, values)
    statistic = runs.means if quantity == "gradient_clipped" else runs.medians
    steps, values = runs.spans(steps, values, points, statistic)

    ax = axis(ax)
    lines.layers(ax, steps, values, names, logarithmic=quantity not in _LINEAR)
    if quantity in _SHARES:
        lines.share_scale(ax, values)
    if quantity == "alignment":
        lines.cosine_scale(ax, values)
    ax.set(xlabel="training step", ylabel=quantity.replace("_", " "))
    return ax


def gradient_flow(run: RunLike, ax: Axes | None = None) -> Axes:
    """Draws the gradient norm against the layer, a line for each epoch, from dark to light.

    A norm is the median over the recorded steps of the epoch in which it is finite. A layer without
    such a step, in any epoch, has a red cross.

    Where neighbouring layers alternate by more than a factor of 2, the norms are dots. A thin line
    is the trend: the geometric mean over 12 layers. Kernels and normalisation scales alternate in
    this way, and a record does not distinguish them.

    Args:
        run: a training run.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.
    """
    record = runs.recorded(run)
    ax = axis(ax)
    epochs, norms = runs.epoch_medians(record, "gradient_norm")
    places = np.arange(norms.shape[1])
    zigzag = lines.zigzags(norms)
    labelled = lines.spread(len(epochs), 10)
    marker = "." if norms.shape[1] <= 30 else None
    for number, color in enumerate(colors(len(epochs))):
        label = None
        if number in labelled:
            label = str(epochs[number])
        lines.across(ax, places, norms[number], color, label, marker, zigzag)
    lines.scale(ax, norms)
    lines.crosses(ax, np.flatnonzero(np.isnan(norms).any(axis=0)))
    lines.name_ticks(ax.xaxis, record.layer_names)
    ax.tick_params("x", rotation=90)
    ax.set(ylabel="gradient norm, median of the epoch")
    lines.legend(ax, "epoch")
    return ax


def gradient_heatmap(run: RunLike, ax: Axes | None = None, points: int = 200) -> Axes:
    """Draws the gradient norms as a map, steps by layers, coloured by their logarithm.

    White is 0, red is not finite. If there are more recorded steps than points, a cell is the
    median of the finite norms of its span, and red if there are none.

    Args:
        run: a training run.
        ax: the matplotlib axes to draw on; default new ones, whose height grows with the number of
            layers.
        points: as in `gradient_norms`.

    Returns:
        The axes.
    """
    record = runs.recorded(run)
    steps, norms = runs.spans(record.steps, record.norms, points)
    ax = axis(ax, height=np.clip(_LAYER_HEIGHT * norms.shape[1], 4.8, 12))

    logarithms = runs.log10(norms)
    low, high = _range(logarithms)
    zero = np.isneginf(logarithms)
    # A value below the range has the colour of zeros.
    cells = np.ma.masked_invalid(np.where(zero, low - 1, logarithms).T)
    rows = np.arange(norms.shape[1] + 1) - 0.5
    columns = runs.edges(steps)
    top = max(high, low + 1e-3)
    image = ax.pcolormesh(columns, rows, cells, cmap=map_colors(), vmin=low, vmax=top)
    extend = "min" if zero.any() else "neither"
    ax.figure.colorbar(image, ax=ax, label="$\\log_{10}$ of the gradient norm", extend=extend)

    most = int(6 * ax.bbox.height / ax.figure.dpi)  # six names an inch
    lines.name_ticks(ax.yaxis, record.layer_names, most)
    ax.invert_yaxis()
    lines.crosses(ax, runs.nonfinite_steps(record))
    ax.set(xlabel="training step")
    return ax


def _range(logarithms: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite number; -1 and 0 if there are none."""
    finite = logarithms[np.isfinite(logarithms)]
    if not len(finite):
        return -1.0, 0.0
    return finite.min(), finite.max()


def gradient_ratio(
    run: RunLike,
    ax: Axes | None = None,
    points: int = 200,
    vanishing: float = thresholds.VANISHING_RESCALED,
) -> Axes:
    """Draws the gradient norm of the first layer over that of the last, on a log scale.

    A ratio near 1 is healthy.

    Args:
        run: a training run.
        ax: the matplotlib axes to draw on; default new ones.
        points: as in `gradient_norms`.
        vanishing: the ratio below which the area is shaded; default 1e-3, as in
            `callbacks.GradientAlerts`.

    Returns:
        The axes.
    """
    record = runs.recorded(run)
    ratios = runs.first_over_last(record.norms)
    steps, ratio = runs.spans(record.steps, ratios, points)
    names = lines.shortened(record.layer_names)

    ax = axis(ax)
    ax.axhline(1, color="0.6", lw=1)
    ax.axhline(vanishing, color="tab:blue", lw=1, ls="--")
    ax.annotate(
        f"vanishing: below {vanishing:g}",
        (0, vanishing),
        xycoords=ax.get_yaxis_transform(),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize="small",
        color="tab:blue",
    )
    lines.line(ax, steps, ratio, "black")
    lines.scale(ax, np.array([vanishing]))
    lines.crosses(ax, runs.nonfinite_steps(record))
    ax.set(xlabel="training step", ylabel=f"gradient norm of {names[0]}\nover that of {names[-1]}")
    low, high = ax.get_ylim()
    ax.axhspan(low, vanishing, color="tab:blue", alpha=0.1, lw=0)
    ax.set_ylim(low, high)
    return ax


def dead_units(run: RunLike, ax: Axes | None = None) -> Axes:
    """Draws the share of dead units of each layer over the epochs.

    A unit is dead in an epoch if its output was 0 in all recorded steps of the epoch.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="activations")`.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.

    Raises:
        ValueError: no dead units were recorded.
    """
    record = runs.recorded(run)
    if "dead_units" not in record.quantities:
        raise ValueError(
            'No dead units were recorded. Record them with GradientNormLogger(also="activations").'
        )
    epochs, shares = runs.epoch_ends(record, "dead_units")
    names, shares = runs.measured(record.names("dead_units"), shares)
    ax = axis(ax)
    lines.layers(ax, np.arange(len(epochs)), shares, names, logarithmic=False)
    lines.share_scale(ax, shares)
    lines.name_ticks(ax.xaxis, epochs, most=10)
    ax.set(xlabel="epoch", ylabel="share of units dead during the epoch")
    return ax


def gradient_histograms(
    run: RunLike, ax: Axes | None = None, layer: str | None = None, epoch: int | None = None
) -> Axes:
    """Draws the distributions of abs(gradient), counted by powers of ten, as ridges.

    The ridges leave out elements that are exactly 0 or not finite. Their shares stand beside each
    ridge. Elements below 1e-12, and from 1e3 on, are counted in one decade at each end.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="histogram")`.
        ax: the matplotlib axes to draw on; default new ones.
        layer: the name of a layer, or "global", for a ridge for each epoch; default None, for a
            ridge for each layer.
        epoch: the number of the epoch, if the ridges are layers; default None, the last.

    Returns:
        The axes.

    Raises:
        ValueError: no histograms were recorded; no such layer or epoch; both are given.
    """
    record = runs.recorded(run)
    names, counts = runs.histogram_rows(record, layer, epoch)
    borders, density = runs.decades(counts)
    ax = axis(ax)
    # Few ridges are less high, as they are farther apart, and have thicker borders.
    few = len(names) <= 20
    highest = 1.6 if few else 4.0
    heights = highest * density / max(density.max(), 1e-9)
    _ridges(ax, borders, heights, border_width=0.8 if few else 0.2)

    lines.name_ticks(ax.yaxis, names)
    for place in lines.spread(len(names), 20):
        note = runs.share_note(counts[place])
        beside = {"transform": ax.get_yaxis_transform(), "va": "bottom", "fontsize": "small"}
        ax.text(1.01, place, note, color="0.3", **beside)
    low, high = runs.occupied(density)
    ax.set(xlim=(borders[low] - 0.5, borders[high] + 0.5), ylim=(len(names) - 0.5, -1.05 * highest))
    if layer is not None:
        (subject,) = lines.shortened([layer])
        ax.set(ylabel="epoch")
    elif epoch is not None:
        subject = f"epoch {epoch}"
    else:
        subject = f"epoch {record.epochs[-1]}"
    ax.set(xlabel=f"$\\log_{{10}}$ of abs(gradient), {subject}")
    return ax


def _ridges(ax: Axes, borders: np.ndarray, heights: np.ndarray, border_width: float) -> None:
    """Draws a filled curve for each row of `heights`; later ones cover earlier ones."""
    for number, (row, color) in enumerate(zip(heights, colors(len(heights)), strict=True)):
        # The y axis points downwards.
        tops = number - np.append(row, row[-1])
        order = 2 + number
        area = {"color": color, "alpha": 0.8, "lw": 0}
        ax.fill_between(borders, number, tops, step="post", zorder=order, **area)
        ax.step(borders, tops, where="post", color="white", lw=border_width, zorder=order)


def overview(run: RunLike) -> np.ndarray:
    """Draws all quantities of a run, each in its own panel.

    Args:
        run: a training run.

    Returns:
        The array of axes, row by row, shape (panels,).
    """
    record = runs.recorded(run)
    drawings = [gradient_flow, gradient_norms]
    if "alignment" in record.quantities:
        # Below the norms, over the same axes.
        drawings += [alignment, functools.partial(over_time, quantity="alignment")]
    drawings += [gradient_heatmap, gradient_ratio]
    if record.histograms():
        drawings.append(gradient_histograms)
    if "dead_units" in record.quantities:
        drawings.append(dead_units)
    for quantity in record.quantities:
        # A name with "[" is one bin of a histogram.
        if "[" not in quantity and quantity not in ("gradient_norm", "alignment", "dead_units"):
            drawings.append(functools.partial(over_time, quantity=quantity))
    axes = panels(len(drawings))
    for drawing, ax in zip(drawings, axes, strict=True):
        drawing(record, ax=ax)
    steps = len(record.steps)
    epochs = len(runs.stretches(record))
    title = f"recorded steps: {steps}, epochs: {epochs}, gradients: {record.kind}"
    axes[0].figure.figure.suptitle(title)
    return axes
