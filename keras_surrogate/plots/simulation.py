"""Pictures of the results of simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from keras_surrogate.checks import one_of
from keras_surrogate.plots.axes import axis, colors
from keras_surrogate.simulation import uniform_product_density, uniform_product_probability
from keras_surrogate.thresholds import EXPLODED_IN_CENSUS, VANISHED_IN_CENSUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from keras_surrogate import simulation

_OUTCOMES = {"vanished": "tab:blue", "healthy": "0.85", "exploded": "tab:red"}
_QUANTITIES = {"x": "pre-activation x", "w": "weight w"}
_GRADIENTS = {"product": "product of slopes g", "norm": "gradient's norm"}
# Not among the colours of the map, and visible on its darkest ones.
_PATH_COLOR = "tab:green"


def gradient_distribution(
    samples: Mapping[str, np.ndarray],
    ax: Axes | None = None,
    vanishing: float = VANISHED_IN_CENSUS,
    exploding: float = EXPLODED_IN_CENSUS,
    bins: int = 100,
) -> Axes:
    """Draws the distribution of gradients over networks, on a log scale.

    The ranges of vanished and exploded gradients are shaded. The legend gives their shares. A
    gradient of exactly 0 has no place on a log scale, but counts as vanished.

    Args:
        samples: a dictionary from names to decimal logarithms (`sample.log10_product`,
            `sample.log10_norm`).
        ax: the matplotlib axes to draw on; default new ones.
        vanishing, exploding: the borders of the shaded ranges; default 1e-3 and 1e3.
        bins: the number of bins of a histogram; default 100.

    Returns:
        The axes.
    """
    ax = axis(ax)
    low, high = np.log10([vanishing, exploding])
    shades = colors(len(samples), high=0.8)
    for (name, logarithms), color in zip(samples.items(), shades, strict=True):
        logarithms = np.asarray(logarithms)
        vanished = np.mean(logarithms < low)
        exploded = np.mean(logarithms > high)
        label = f"{name}: {vanished:.1%} vanished, {exploded:.1%} exploded"
        finite = logarithms[np.isfinite(logarithms)]
        weights = np.full(len(finite), 1 / len(logarithms))
        style = {"histtype": "step", "color": color, "lw": 1.6}
        ax.hist(finite, bins=bins, weights=weights, label=label, **style)
    left, right = ax.get_xlim()
    left = min(left, low - 1)
    right = max(right, high + 1)
    ax.axvspan(left, low, color=_OUTCOMES["vanished"], alpha=0.1, lw=0)
    ax.axvspan(high, right, color=_OUTCOMES["exploded"], alpha=0.1, lw=0)
    ax.set(
        xlim=(left, right),
        xlabel="$\\log_{10}$ of the gradient",
        ylabel=f"share of networks in each of {bins} bins",
    )
    _legend_above(ax, 1.3)
    return ax


def _legend_above(ax: Axes, factor: float) -> None:
    """Adds a legend at the top, and extends the y axis by a factor to make room for it."""
    ax.set_ylim(0, factor * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", loc="upper left")


def vanishing_rates(
    rates: simulation.VanishingRates,
    ax: Axes | None = None,
    gradient: Literal["product", "norm"] = "product",
) -> Axes:
    """Draws the shares of vanished, healthy and exploded gradients.

    The x axis is the standard deviation of the pre-activations.

    Args:
        rates: `simulation.VanishingRates`.
        ax: the matplotlib axes to draw on; default new ones.
        gradient: "product" for the product of the slopes, "norm" for the norm of the whole
            gradient; default "product".

    Returns:
        The axes.
    """
    one_of(gradient, "gradient", tuple(_GRADIENTS))
    ax = axis(ax)
    shares = getattr(rates, gradient)
    order = np.argsort(rates.deviations)
    deviations = rates.deviations[order]
    parts = [np.asarray(getattr(shares, outcome))[order] for outcome in _OUTCOMES]
    style = {"labels": list(_OUTCOMES), "colors": list(_OUTCOMES.values()), "alpha": 0.8}
    ax.stackplot(deviations, parts, **style)
    ax.set(
        xlabel="standard deviation of the pre-activations",
        ylabel="share of networks",
        ylim=(0, 1),
        xlim=(deviations[0], deviations[-1]),
    )
    ax.legend(fontsize="small", loc="best", framealpha=0.9)
    return ax


def joint_histogram(histogram: simulation.JointHistogram, ax: Axes | None = None) -> Axes:
    """Draws a `simulation.JointHistogram` as an image, with its counts on a log scale.

    Args:
        histogram: a `simulation.JointHistogram`.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.
    """
    ax = axis(ax)
    with np.errstate(divide="ignore"):
        counts = np.where(histogram.counts > 0, np.log10(histogram.counts), np.nan)
    image = ax.pcolormesh(histogram.edges, histogram.log10_edges, counts.T, cmap="viridis", vmin=0)
    ax.figure.colorbar(image, ax=ax, label="$\\log_{10}$ of the count")
    ax.set(
        xlabel=_QUANTITIES[histogram.quantity],
        ylabel=f"$\\log_{{10}}$ of the {_GRADIENTS[histogram.gradient]}",
    )
    return ax


def two_state_chain(chain: simulation.TwoStateChain, ax: Axes | None = None) -> Axes:
    """Draws the share of vanished gradients over training, observed and forecast.

    The forecast is that of the Markov chain. The title gives its probabilities.

    Args:
        chain: a `simulation.TwoStateChain`.
        ax: the matplotlib axes to draw on; default new ones.

    Returns:
        The axes.
    """
    ax = axis(ax)
    ax.plot(chain.observed, color="black", lw=1.8, label="observed")
    ax.plot(chain.forecast, color="tab:red", lw=1.8, ls="--", label="Markov chain's forecast")
    vanishing = _probability(chain.vanishing)
    recovery = _probability(chain.recovery)
    largest = np.nanmax([chain.observed, chain.forecast])
    ax.set(
        xlabel="training step",
        ylabel="share of vanished gradients",
        ylim=(0, min(1.05, max(0.02, 1.3 * largest))),
        title=f"per step: vanishing {vanishing}, recovery {recovery}",
    )
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _probability(number: float | None) -> str:
    return "undefined" if number is None else f"{number:.1e}"


def gradient_map(
    result: simulation.GradientMap,
    ax: Axes | None = None,
    gradient: Literal["norm", "product"] = "norm",
    time: int = -1,
    trajectories: int = 8,
    limit: float = 6.0,
) -> Axes:
    """Draws the gradient after training at the initial (w, b), with trajectories of the training.

    Blue is vanished, red exploded, grey overflowed. A trajectory begins at a dot. It ends at a
    cross, or outside the map.

    Args:
        result: a `simulation.GradientMap`.
        ax: the matplotlib axes to draw on; default new ones.
        gradient: "norm" for the norm of the whole gradient, "product" for the product of the
            slopes; default "norm".
        time: the step whose gradient is drawn; default -1, the last; 0 is the initial one.
        trajectories: the number of trajectories along each side of the grid; default 8; 0 for none.
        limit: the largest absolute logarithm of the colour scale; default 6.

    Returns:
        The axes.
    """
    one_of(gradient, "gradient", tuple(_GRADIENTS))
    ax = axis(ax)
    ax.set_facecolor("0.6")
    logarithms = getattr(result, f"log10_{gradient}")[time]
    colored = np.clip(logarithms, -limit, limit)
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "shading": "nearest"}
    image = ax.pcolormesh(result.weights, result.biases, colored, **style)
    label = f"$\\log_{{10}}$ of the {_GRADIENTS[gradient]}, {_when(time, len(result.loss) - 1)}"
    ax.figure.colorbar(image, ax=ax, extend="both", label=label)
    for row, column in _spread(logarithms.shape, trajectories):
        _draw_path(ax, result.weight_paths[:, row, column], result.bias_paths[:, row, column])
    ax.set(
        xlabel="initial weight w",
        ylabel="initial bias b",
        xlim=(result.weights.min(), result.weights.max()),
        ylim=(result.biases.min(), result.biases.max()),
    )
    return ax


def _when(time: int, steps: int) -> str:
    if time == 0:
        return "before training"
    if time in (-1, steps):
        return f"after {steps} steps"
    return f"at step {time}"


def _spread(shape: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Pairs of a row and a column, `count` evenly spread along each side, none at the border."""
    rows, columns = (
        np.unique(np.linspace(0, size - 1, count + 2)[1:-1].round().astype(int)) for size in shape
    )
    return [(row, column) for row in rows for column in columns]


def _draw_path(ax: Axes, weights: np.ndarray, biases: np.ndarray) -> None:
    # NaN from the step on at which the training overflowed.
    end = np.flatnonzero(~np.isnan(weights))[-1:]
    ax.plot(weights, biases, color=_PATH_COLOR, lw=1.0)
    ax.plot(weights[:1], biases[:1], ".", color=_PATH_COLOR, ms=5)
    ax.plot(weights[end], biases[end], "x", color=_PATH_COLOR, ms=5)


def uniform_products(
    log10_products: np.ndarray, count: int = 50, ax: Axes | None = None, threshold: float = 1e-18
) -> Axes:
    """Draws the distribution of products of uniform random numbers, sampled and exact.

    A line marks a threshold; its label gives the share of products above it, sampled and exact.

    Args:
        log10_products: the result of `simulation.uniform_products(count, ...)`.
        count: the number of factors, default 50.
        ax: the matplotlib axes to draw on; default new ones.
        threshold: default 1e-18.

    Returns:
        The axes.
    """
    ax = axis(ax)
    log10_products = np.asarray(log10_products)
    label = f"{len(log10_products)} products of {count}"
    ax.hist(log10_products, bins=80, density=True, color="0.75", label=label)
    x = np.linspace(log10_products.min(), min(0.0, log10_products.max()), 500)
    # -log of a product of uniform numbers is a sum of exponential ones: Gamma(count, 1).
    density = uniform_product_density(x, count)
    ax.plot(x, density, color="tab:red", lw=1.8, label=f"exact: Gamma({count}, 1)")
    place = np.log10(threshold)
    sampled = np.mean(log10_products > place)
    exact = uniform_product_probability(threshold, count)
    label = f"above {threshold:g}: {sampled:.2%}, exactly {exact:.2%}"
    ax.axvline(place, color="black", ls="--", lw=1.2, label=label)
    ax.set(xlabel="$\\log_{10}$ of the product", ylabel="density per decade")
    _legend_above(ax, 1.35)
    return ax
