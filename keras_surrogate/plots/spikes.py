"""Pictures of spiking networks: spikes and potentials over time, firing rates over training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import checks
from keras_surrogate.plots import lines, runs, training
from keras_surrogate.plots.axes import axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_surrogate.plots.runs import RunLike

# The lanes of potentials that stay readable.
_MOST_LANES = 10


def raster(
    spikes: Any,
    potentials: Any = None,
    threshold: float | None = None,
    ax: Axes | None = None,
    example: int = 0,
) -> Axes:
    """Draws a mark for each spike, units by time steps; with potentials, their traces too.

        spikes, potentials = layers.LIF(return_potential=True)(currents)
        plots.raster(spikes)
        plots.raster(spikes, potentials, threshold=1)

    With potentials each unit has a lane, and a spike is a line from the trace up to the lane's top.
    Of more than ten units these are the ten that fire most.

    Args:
        spikes: spikes of shape (batch, time, ...), or (time, units) of one example. Axes after the
            time are joined. Everything but 0 is a spike.
        potentials: the potentials, of the same shape; default None.
        threshold: drawn in each lane as a dashed line; default None. It needs the potentials.
        ax: the matplotlib axes to draw on; default new ones.
        example: the number of the example in the batch, default 0.

    Returns:
        The axes.

    Raises:
        ValueError: a shape without time and units, NaN or infinity, potentials of another shape, a
            threshold without potentials, or no such example.
    """
    spikes = _of_example("spikes", spikes, example)
    if potentials is None:
        if threshold is not None:
            raise ValueError("raster: a threshold needs potentials to be drawn beside.")
        return _marks(axis(ax), spikes)
    potentials = _of_example("potentials", potentials, example)
    if potentials.shape != spikes.shape:
        raise ValueError(
            f"raster: spikes and potentials must have the same shape, but have {spikes.shape} and "
            f"{potentials.shape}, (time, units)."
        )
    return _lanes(axis(ax), spikes, potentials, threshold)


def _of_example(name: str, values: Any, example: int) -> np.ndarray:
    """The values of one example, shape (time, units)."""
    values = np.asarray(values, float)
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(
            f"raster: {name} must have the shape (batch, time, ...) or (time, units), but have "
            f"{values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"raster: {name} must be finite, but have NaN or infinity.")
    if values.ndim == 2:
        return values
    example = checks.integer(example, "raster: example", least=0)
    if example >= len(values):
        raise ValueError(f"raster: there are {len(values)} examples, but example is {example}.")
    return values[example].reshape(values.shape[1], -1)


def _marks(ax: Axes, spikes: np.ndarray) -> Axes:
    steps, units = spikes.shape
    times, fired = np.nonzero(spikes)
    # A mark is as high as a unit, between half a point and ten.
    points = ax.bbox.height / ax.figure.dpi * 72
    height = np.clip(0.8 * points / units, 0.5, 10)
    ax.scatter(times, fired, height**2, "black", marker="|", linewidths=1.2)
    ax.set(
        xlim=(-0.5, steps - 0.5),
        ylim=(-0.5, units - 0.5),
        xlabel="time step",
        ylabel="unit",
        title=f"firing rate {np.mean(spikes != 0):.3g}",
    )
    ax.locator_params(integer=True)
    return ax


def _lanes(ax: Axes, spikes: np.ndarray, potentials: np.ndarray, threshold: float | None) -> Axes:
    steps, units = spikes.shape
    busiest = np.argsort(-np.count_nonzero(spikes, axis=0), kind="stable")
    shown = np.sort(busiest[:_MOST_LANES])
    low = potentials[:, shown].min()
    high = potentials[:, shown].max()
    if threshold is not None:
        low = min(low, threshold)
        high = max(high, threshold)
    # A trace fills 0.7 of its lane, so that lanes are apart and spikes can stand above it.
    scale = 0.7 / max(high - low, 1e-12)
    time = np.arange(steps)
    for lane, unit in enumerate(shown):
        trace = lane + scale * (potentials[:, unit] - low)
        ax.plot(time, trace, color="tab:blue", lw=1.2)
        fired = np.flatnonzero(spikes[:, unit])
        ax.vlines(fired, trace[fired], lane + 0.85, color="black", lw=1.2)
        if threshold is not None:
            ax.axhline(lane + scale * (threshold - low), color="0.5", lw=0.8, ls="--")
    ax.set(xlim=(-0.5, steps - 0.5), ylim=(-0.1, len(shown)), xlabel="time step", ylabel="unit")
    ax.set_yticks(np.arange(len(shown)) + 0.35, [str(unit) for unit in shown])
    title = f"potentials from {low:.3g} to {high:.3g}, and spikes"
    if len(shown) < units:
        title += f"; {len(shown)} of {units} units"
    ax.set_title(title)
    return ax


def firing_rates(run: RunLike, ax: Axes | None = None, points: int = 200) -> Axes:
    """Draws the firing rate of each spiking layer over training.

    A line that ends at 0 is a layer that has fallen silent.

    Args:
        run: a training run, recorded with `GradientNormLogger(also="spikes")`.
        ax: the matplotlib axes to draw on; default new ones.
        points: as in `gradient_norms`.

    Returns:
        The axes.

    Raises:
        ValueError: no firing rates were recorded.
    """
    record = runs.recorded(run)
    if "firing_rate" not in record.quantities:
        raise ValueError(
            'No firing rates were recorded. Record them with GradientNormLogger(also="spikes").'
        )
    ax = training.over_time(record, "firing_rate", ax, points)
    ax.set(ylabel="firing rate, spikes a step")
    lines.scale(ax, np.zeros(0), logarithmic=False)
    return ax
