"""Pictures of what the simulations found."""

import numpy as np

from keras_surrogate.plots.axes import axis, colors
from keras_surrogate.simulation import uniform_product_density, uniform_product_probability
from keras_surrogate.thresholds import EXPLODED_IN_CENSUS, VANISHED_IN_CENSUS

_OUTCOMES = {"vanished": "tab:blue", "healthy": "0.85", "exploded": "tab:red"}
_QUANTITIES = {"x": "pre-activation x", "w": "weight w"}
_GRADIENTS = {"product": "product of slopes g", "norm": "gradient's norm"}
# Neither in the map's colours nor lost on the darkest of them.
_WAY = "tab:green"


def gradient_distribution(
    samples, ax=None, vanishing=VANISHED_IN_CENSUS, exploding=EXPLODED_IN_CENSUS, bins=100
):
    """Draws the distribution of gradients over networks, on a log scale, vanished and exploded ones shaded.

    Args:
        samples: a dictionary from a name to decimal logarithms (`sample.log10_product`,
            `sample.log10_norm`).
        ax: a matplotlib axis; default a new one.
        vanishing, exploding: where the shades begin; default 1e-3 and 1e3.
        bins: of each histogram; default 100.

    The shares vanished and exploded stand in the legend. Gradients of exactly 0 have no place on a
    log scale, but count as vanished.
    """
    ax = axis(ax)
    low, high = np.log10([vanishing, exploding])
    for (name, logarithms), color in zip(
        samples.items(), colors(len(samples), high=0.8), strict=True
    ):
        logarithms = np.asarray(logarithms)
        share = (
            f"{np.mean(logarithms < low):.1%} vanished, {np.mean(logarithms > high):.1%} exploded"
        )
        finite = logarithms[np.isfinite(logarithms)]
        weights = np.full(len(finite), 1 / len(logarithms))
        ax.hist(
            finite,
            bins=bins,
            weights=weights,
            histtype="step",
            color=color,
            lw=1.6,
            label=f"{name}: {share}",
        )
    left, right = ax.get_xlim()
    left, right = min(left, low - 1), max(right, high + 1)
    ax.axvspan(left, low, color=_OUTCOMES["vanished"], alpha=0.1, lw=0)
    ax.axvspan(high, right, color=_OUTCOMES["exploded"], alpha=0.1, lw=0)
    ax.set(
        xlim=(left, right),
        xlabel="$\\log_{10}$ of the gradient",
        ylabel=f"share of networks in each of {bins} bins",
    )
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def vanishing_rates(rates, ax=None, gradient="product"):
    """Draws the shares of vanished, healthy and exploded gradients against the spread of the pre-activations.

    Args:
        rates: `simulation.VanishingRates`.
        ax: a matplotlib axis; default a new one.
        gradient: "product" for the product of the slopes, "norm" for the norm of the whole
            gradient; default "product".
    """
    ax, shares = axis(ax), getattr(rates, _gradient(gradient))
    order = np.argsort(rates.deviations)
    parts = [np.asarray(getattr(shares, outcome))[order] for outcome in _OUTCOMES]
    ax.stackplot(
        rates.deviations[order],
        parts,
        labels=list(_OUTCOMES),
        colors=list(_OUTCOMES.values()),
        alpha=0.8,
    )
    spread = rates.deviations.min(), rates.deviations.max()
    ax.set(
        xlabel="standard deviation of the pre-activations",
        ylabel="share of networks",
        ylim=(0, 1),
        xlim=spread,
    )
    ax.legend(fontsize="small", loc="best", framealpha=0.9)
    return ax


def joint_histogram(histogram, ax=None):
    """Draws a `simulation.JointHistogram` as an image, its counts on a log scale."""
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


def two_state_chain(chain, ax=None):
    """Draws the share of vanished gradients over training, as observed and as the Markov chain forecasts it."""
    ax = axis(ax)
    ax.plot(chain.observed, color="black", lw=1.8, label="observed")
    ax.plot(chain.forecast, color="tab:red", lw=1.8, ls="--", label="Markov chain's forecast")
    title = "per step: " + ", ".join(
        f"{name} {'undefined' if probability is None else f'{probability:.1e}'}"
        for name, probability in (("vanishing", chain.vanishing), ("recovery", chain.recovery))
    )
    top = max(0.02, 1.3 * np.nanmax([chain.observed, chain.forecast]))
    ax.set(
        xlabel="training step",
        ylabel="share of vanished gradients",
        ylim=(0, min(1.05, top)),
        title=title,
    )
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize="small")
    return ax


def gradient_map(result, ax=None, gradient="norm", time=-1, trajectories=8, limit=6.0):
    """Draws the gradient at the end of training at the (w, b) where training began, with ways from start to end.

    Blue is vanished, red exploded, grey overflown. A way begins at a dot and ends at a cross, or
    outside.

    Args:
        result: `simulation.GradientMap`.
        ax: a matplotlib axis; default a new one.
        gradient: "norm" for the norm of the whole gradient, "product" for the product of slopes;
            default "norm".
        time: the step whose gradient is drawn; default -1, the last; 0 is the start.
        trajectories: how many along either side of the grid; 0 for none, default 8.
        limit: the decades at which the colours end; default 6.
    """
    ax = axis(ax)
    logarithms = getattr(result, f"log10_{_gradient(gradient)}")[time]
    ax.set_facecolor("0.6")
    colored = np.clip(logarithms, -limit, limit)
    edges = result.weights, result.biases
    image = ax.pcolormesh(
        *edges, colored, cmap="RdBu_r", vmin=-limit, vmax=limit, shading="nearest"
    )
    label = f"$\\log_{{10}}$ of the {_GRADIENTS[gradient]}, {_when(time, result)}"
    ax.figure.colorbar(image, ax=ax, extend="both", label=label)
    for row, column in _spread(logarithms.shape, trajectories):
        _draw_way(ax, result.weight_paths[:, row, column], result.bias_paths[:, row, column])
    ax.set(xlabel="initial weight w", ylabel="initial bias b")
    ax.set(
        xlim=(result.weights.min(), result.weights.max()),
        ylim=(result.biases.min(), result.biases.max()),
    )
    return ax


def _when(time, result):
    steps = len(result.loss) - 1
    return {0: "before training", -1: f"after {steps} steps", steps: f"after {steps} steps"}.get(
        time, f"at step {time}"
    )


def _spread(shape, count):
    """So many rows and columns evenly spread, none at the border."""
    rows, columns = (
        np.unique(np.linspace(0, size - 1, count + 2)[1:-1].round().astype(int)) for size in shape
    )
    return [(row, column) for row in rows for column in columns]


def _draw_way(ax, weights, biases):
    end = np.flatnonzero(~np.isnan(weights))[-1:]
    ax.plot(weights, biases, color=_WAY, lw=1.0)
    ax.plot(weights[:1], biases[:1], ".", color=_WAY, ms=5)
    ax.plot(weights[end], biases[end], "x", color=_WAY, ms=5)


def uniform_products(log10_products, count=50, ax=None, threshold=1e-18):
    """Draws products of uniform random numbers with their exact distribution, and the threshold they "never" exceed.

    Args:
        log10_products: what `simulation.uniform_products(count, ...)` returned.
        count: the number of factors, default 50.
        ax: a matplotlib axis; default a new one.
        threshold: marked, with the shares above it as found and as they must be; default 1e-18.
    """
    ax, log10_products = axis(ax), np.asarray(log10_products)
    ax.hist(
        log10_products,
        bins=80,
        density=True,
        color="0.75",
        label=f"{len(log10_products)} products of {count}",
    )
    x = np.linspace(log10_products.min(), min(0.0, log10_products.max()), 500)
    ax.plot(
        x,
        uniform_product_density(x, count),
        color="tab:red",
        lw=1.8,
        label=f"exact: Gamma({count}, 1)",
    )
    place, exact = np.log10(threshold), uniform_product_probability(threshold, count)
    found = f"above {threshold:g}: {np.mean(log10_products > place):.2%}, exactly {exact:.2%}"
    ax.axvline(place, color="black", ls="--", lw=1.2, label=found)
    ax.set(xlabel="$\\log_{10}$ of the product", ylabel="density per decade")
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def _gradient(name):
    if name not in _GRADIENTS:
        raise ValueError(f"gradient must be 'product' or 'norm', but is {name!r}.")
    return name
