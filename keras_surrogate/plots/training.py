"""Pictures of a training run: of what was recorded of each layer, step by step or epoch by epoch.

A run is a `records.Record`, a logger, a `gradients.GradientNorms`, or the path of a CSV or NPZ
file. On logarithmic axes a triangle at the lower border stands for 0; a red cross at the upper
border for a step whose gradient is not finite. A second fit into the same record begins epochs of
its own, whose numbers may come twice.
"""

import functools

import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.plots import lines, runs
from keras_surrogate.plots.axes import axis, colors, map_colors, panels

_SHARES = ("activation_zeros", "activation_saturated", "dead_units", "gradient_clipped")
# Those that are shares or have a sign; the others go by orders of magnitude.
_LINEAR = ("activation_mean", *_SHARES)
# Of a layer in a map, in inches.
_LAYER_HEIGHT = 0.08


def gradient_norms(run, ax=None, points=200):
    """Draws the gradient norm of each layer over training, on a log scale, from dark (first layer) to light (last).

    Args:
        run: a training run, or anything with its `layer_names`, `steps` and `norms`.
        ax: a matplotlib axis; default a new one.
        points: more recorded steps than this are drawn as medians over that many equal spans;
            default 200.
    """
    ax, run = axis(ax), runs.with_norms(run)
    lines.layers(
        ax, *runs.spans(np.asarray(run.steps), np.asarray(run.norms), points), run.layer_names
    )
    lines.crosses(ax, runs.nonfinite_steps(run))
    ax.set(xlabel="training step", ylabel="gradient norm")
    return ax


def over_time(run, quantity, ax=None, points=200):
    """Draws any recorded quantity of each layer over training, as `gradient_norms` draws the norms.

    Args:
        run: a training run.
        quantity: one of the `Record`'s `quantities`. Shares, and what has a sign, are drawn on a
            linear scale.
        ax, points: as in `gradient_norms`; of "gradient_clipped", 1 or 0 in each step, the means
            are drawn.
    """
    record = runs.recorded(run)
    names = record.names(quantity)
    values = record[quantity] if names else record.total(quantity)[:, np.newaxis]
    names, values = runs.measured(names or ("global",), values)
    statistic = runs.means if quantity == "gradient_clipped" else runs.medians
    ax, drawn = axis(ax), runs.spans(record.steps, values, points, statistic)
    lines.layers(ax, *drawn, names, logarithmic=quantity not in _LINEAR)
    if quantity in _SHARES:
        lines.share_scale(ax, drawn[1])
    ax.set(xlabel="training step", ylabel=quantity.replace("_", " "))
    return ax


def gradient_flow(run, ax=None):
    """Draws the gradient norm against the layer, one line an epoch, from dark (first epoch) to light (last).

    A norm is the median of the epoch's recorded steps in which it is finite; where there are none,
    in some epoch, the layer has a red cross.

    A record does not know kernels from the scales and biases of normalisation. Where neighbouring
    layers differ by more than a factor of 2, up and down by turns, as these do, the norms are dots,
    and a thin line is the trend: the geometric mean over 12 layers, which lies between the two
    kinds.

    Args:
        run: a training run.
        ax: a matplotlib axis; default a new one.
    """
    record = runs.recorded(run)
    ax = axis(ax)
    epochs, norms = runs.epoch_medians(record, "gradient_norm")
    zigzag = lines.zigzags(norms)
    labelled = lines.spread(len(epochs), 10)
    marker = "." if norms.shape[1] <= 30 else None
    for number, color in enumerate(colors(len(epochs))):
        label = str(epochs[number]) if number in labelled else None
        lines.across(ax, np.arange(norms.shape[1]), norms[number], color, label, marker, zigzag)
    lines.scale(ax, norms)
    lines.crosses(ax, np.flatnonzero(np.isnan(norms).any(axis=0)))
    lines.name_ticks(ax.xaxis, record.layer_names)
    ax.tick_params("x", rotation=90)
    ax.set(ylabel="gradient norm, median of the epoch")
    lines.legend(ax, "epoch")
    return ax


def gradient_heatmap(run, ax=None, points=200):
    """Draws the gradient norms as a map, steps by layers, in colours of their logarithm; white is 0, red not finite.

    Where more steps were recorded than there are points, a cell is the median of the finite ones,
    and red if none is.

    Args:
        run: a training run.
        ax: a matplotlib axis; default a new one, the higher the more layers there are.
        points: as in `gradient_norms`.
    """
    record = runs.recorded(run)
    steps, norms = runs.spans(record.steps, record.norms, points)
    height = np.clip(_LAYER_HEIGHT * norms.shape[1], 4.8, 12)
    ax = axis(ax, height)
    logarithms = runs.log10(norms)
    drawn = logarithms[np.isfinite(logarithms)]
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (-1.0, 0.0)
    zero = np.isneginf(logarithms)
    cells = np.ma.masked_invalid(np.where(zero, low - 1, logarithms).T)
    borders = runs.edges(steps), np.arange(norms.shape[1] + 1) - 0.5
    image = ax.pcolormesh(*borders, cells, cmap=map_colors(), vmin=low, vmax=max(high, low + 1e-3))
    extend = "min" if zero.any() else "neither"
    ax.figure.colorbar(image, ax=ax, label="$\\log_{10}$ of the gradient norm", extend=extend)
    lines.name_ticks(ax.yaxis, record.layer_names, most=int(6 * ax.bbox.height / ax.figure.dpi))
    ax.invert_yaxis()
    lines.crosses(ax, runs.nonfinite_steps(record))
    ax.set(xlabel="training step")
    return ax


def gradient_ratio(run, ax=None, points=200, vanishing=thresholds.VANISHING_RESCALED):
    """Draws the gradient norm of the first layer over that of the last, on a log scale: 1 is healthy.

    Args:
        run: a training run.
        ax: a matplotlib axis; default a new one.
        points: as in `gradient_norms`.
        vanishing: marked, and shaded below; default 1e-3, as in `callbacks.GradientAlerts`.
    """
    record, ax = runs.recorded(run), axis(ax)
    steps, ratio = runs.spans(record.steps, runs.first_over_last(record.norms), points)
    names = lines.shortened(record.layer_names)
    ax.axhline(1, color="0.6", lw=1)
    ax.axhline(vanishing, color="tab:blue", lw=1, ls="--")
    note = {
        "xytext": (4, 3),
        "textcoords": "offset points",
        "fontsize": "small",
        "color": "tab:blue",
    }
    ax.annotate(
        f"vanishing: below {vanishing:g}", (0, vanishing), xycoords=ax.get_yaxis_transform(), **note
    )
    lines.line(ax, steps, ratio, "black")
    lines.scale(ax, [vanishing])
    lines.crosses(ax, runs.nonfinite_steps(record))
    ax.set(xlabel="training step", ylabel=f"gradient norm of {names[0]}\nover that of {names[-1]}")
    low, high = ax.get_ylim()
    ax.axhspan(low, vanishing, color="tab:blue", alpha=0.1, lw=0)
    ax.set_ylim(low, high)
    return ax


def dead_units(run, ax=None):
    """Draws, for each layer and epoch, the share of units whose output was 0 in all of the epoch's recorded steps.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="activations")`.
        ax: a matplotlib axis; default a new one.

    Raises:
        ValueError: the run has no dead units recorded.
    """
    record = runs.recorded(run)
    if "dead_units" not in record.quantities:
        raise ValueError(
            'No dead units were recorded. Record them with GradientNormLogger(also="activations").'
        )
    ax, (epochs, shares) = axis(ax), runs.epoch_ends(record, "dead_units")
    names, shares = runs.measured(record.names("dead_units"), shares)
    lines.layers(ax, np.arange(len(epochs)), shares, names, logarithmic=False)
    lines.share_scale(ax, shares)
    lines.name_ticks(ax.xaxis, epochs, most=10)
    ax.set(xlabel="epoch", ylabel="share of units dead all through the epoch")
    return ax


def gradient_histograms(run, ax=None, layer=None, epoch=None):
    """Draws the distributions of abs(gradient), counted by powers of ten, as ridges one below the other.

    Beside each ridge stand the shares of elements that are exactly 0 and that are not finite, which
    are not in it. What is below 1e-12, and what is from 1e3 on, is in a decade of its own at the
    end.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="histogram")`.
        ax: a matplotlib axis; default a new one.
        layer: a layer's name, or "global", for one ridge an epoch; default None, for one ridge a
            layer.
        epoch: the epoch's number where the ridges are the layers; default None, the last.

    Raises:
        ValueError: the run has no histograms; no such layer or epoch; both are given.
    """
    record = runs.recorded(run)
    names, counts = runs.histogram_rows(record, layer, epoch)
    ax = axis(ax)
    borders, density = runs.decades(counts)
    few = len(names) <= 20
    height = (1.6 if few else 4) / max(density.max(), 1e-9)
    for number, (row, color) in enumerate(zip(density, colors(len(names)), strict=True)):
        tops = number - height * np.append(row, row[-1])
        ax.fill_between(
            borders, number, tops, step="post", color=color, alpha=0.8, lw=0, zorder=2 + number
        )
        ax.step(
            borders, tops, where="post", color="white", lw=0.8 if few else 0.2, zorder=2 + number
        )
    places = lines.spread(len(names), 20)
    lines.name_ticks(ax.yaxis, names)
    for place in places:
        note = runs.share_note(counts[place])
        ax.text(
            1.01,
            place,
            note,
            transform=ax.get_yaxis_transform(),
            va="bottom",
            fontsize="small",
            color="0.3",
        )
    low, high = runs.occupied(density)
    ax.set(
        xlim=(borders[low] - 0.5, borders[high] + 0.5),
        ylim=(len(names) - 0.5, -1.7 if few else -4.2),
    )
    about = (
        f"epoch {record.epochs[-1] if epoch is None else epoch}"
        if layer is None
        else lines.shortened([layer])[0]
    )
    ax.set(
        xlabel=f"$\\log_{{10}}$ of abs(gradient), {about}", ylabel="" if layer is None else "epoch"
    )
    return ax


def overview(run):
    """Draws everything that a run has, each in a panel of its own.

    Args:
        run: a training run.

    Returns:
        The array of axes, in the order in which they stand, shape (panels,).
    """
    record = runs.recorded(run)
    drawings = [gradient_flow, gradient_norms, gradient_heatmap, gradient_ratio]
    drawings += [gradient_histograms] if record.histograms() else []
    drawings += [dead_units] if "dead_units" in record.quantities else []
    others = [
        name
        for name in record.quantities
        if "[" not in name and name not in ("gradient_norm", "dead_units")
    ]
    drawings += [functools.partial(over_time, quantity=name) for name in others]
    axes = panels(len(drawings))
    for drawing, ax in zip(drawings, axes, strict=True):
        drawing(record, ax=ax)
    steps = len(record.steps)
    epochs = len(runs.stretches(record))
    title = f"recorded steps: {steps}, epochs: {epochs}, gradients: {record.kind}"
    axes[0].figure.figure.suptitle(title)
    return axes
