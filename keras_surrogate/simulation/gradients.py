"""How often do gradients vanish or explode at the start of training? A census of random networks.

The distribution of the gradient g and its joint distributions (x, g) and (w, g) with
pre-activations and weights are what the accepted answer to "Can the vanishing gradient problem be
solved by multiplying the input of tanh with a coefficient?" (Data Science Stack Exchange, question
51545) asks for under "a more advanced analysis". Weights are scaled as in Poole et al. 2016,
arXiv:1606.05340; networks of great width need no simulation but `theory`.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.checks import integer
from keras_surrogate.reprs import Shown
from keras_surrogate.simulation import networks as batches
from keras_surrogate.simulation.checks import nonnegative, numbers, positive
from keras_surrogate.thresholds import EXPLODED_IN_CENSUS, VANISHED_IN_CENSUS

# Bytes of weights and outputs in one chunk; gradients and intermediate results take a few times as
# much.
MEMORY = 2**26


@dataclasses.dataclass(frozen=True, repr=False)
class GradientSample(Shown):
    """Gradients of many random networks at their start.

    Args:
        log10_product: decimal logarithm of abs(g), the product of the slopes along a path through
            all layers, one unit a layer; shape (networks,); -inf where a slope is 0.
        log10_norm: decimal logarithm of the L2 norm of the whole gradient, weights included: what
            arrives at the first layer's pre-activations of a gradient of length 1 at the last
            layer's output; shape (networks,).
        path: the pre-activations x of the units on the path, float32, shape (networks, depth).
        path_weights: the weights w between them, float32, shape (networks, depth); the first one
            comes from the input.
    """

    log10_product: np.ndarray
    log10_norm: np.ndarray
    path: np.ndarray
    path_weights: np.ndarray

    _more = "simulation.shares(sample.log10_norm), simulation.joint_histogram(sample), sample.path"

    def _facts(self):
        return {
            "networks": len(self.log10_norm),
            "depth": self.path.shape[1],
            "median log10 of the product of slopes": float(np.median(self.log10_product)),
            "median log10 of the gradient's norm": float(np.median(self.log10_norm)),
        }


def gradient_sample(
    surrogate="tanh",
    depth=50,
    networks=100_000,
    width=8,
    weight_variance=1.0,
    bias_variance=0.0,
    input_variance=1.0,
    seed=0,
    chunk_size=None,
    verbose=0,
):
    """Draws that many random networks and differentiates each with the surrogate's own backward pass.

        W_ij ~ N(0, weight_variance / width),    b_i ~ N(0, bias_variance),    input_i ~ N(0, input_variance)

    Args:
        surrogate: a `Surrogate`, or whatever `keras_surrogate.get` takes; default "tanh".
        depth: layers, at least 1; default 50.
        networks: at least 1; default 100 000.
        width: units in each layer and in the input, at least 1; default 8.
        weight_variance, bias_variance, input_variance: non-negative; default 1, 0, 1.
        seed: a non-negative integer. The same seed gives the same arrays, bit by bit, whatever the
            chunks, and the first networks are the same however many are drawn.
        chunk_size: networks computed at a time, which bounds the memory; default: as many as take
            64 MiB.
        verbose: 1 for a progress bar; default 0.

    Returns:
        A `GradientSample`; it takes 8 * depth + 16 bytes a network.

    Raises:
        ValueError: a number out of range; an unknown function; pre-activations or gradients too
            large for a number.
    """
    surrogate, depth, networks, width = (
        presets.get(surrogate),
        *_sizes(depth=depth, networks=networks, width=width),
    )
    variances = [
        nonnegative(weight_variance, "weight_variance"),
        nonnegative(bias_variance, "bias_variance"),
    ]
    input_variance = nonnegative(input_variance, "input_variance")
    source = batches.RandomNetworks(depth, width, *variances, integer(seed, "seed", least=0))
    sample = GradientSample(*(np.empty(networks) for _ in range(2)), *_paths(networks, depth))
    progress = keras.utils.Progbar(networks, verbose=verbose, unit_name="network")
    for chunk in batches.chunks(networks, chunk_length(chunk_size, depth, width)):
        count = chunk.stop - chunk.start
        batch = source.draw(count)
        found = batches.measure(batch, surrogate, source.draw_inputs(count, input_variance))
        sample.log10_product[chunk] = found.log10_product[:count]
        sample.log10_norm[chunk] = found.log10_norm[:count]
        with np.errstate(over="ignore"):
            sample.path[chunk] = found.path[:count, 0]
            sample.path_weights[chunk] = batch.path_weights()[:count]
        progress.update(chunk.stop)
    return _finite(sample)


def _sizes(**sizes):
    return [integer(size, name) for name, size in sizes.items()]


def _paths(networks, depth):
    return (np.empty((networks, depth), np.float32) for _ in range(2))


def chunk_length(chunk_size, depth, width, samples=1):
    """The networks in one chunk: what was asked for, else as many as have 64 MiB of weights and outputs."""
    return (
        batches.chunk_of(MEMORY, depth, width, samples)
        if chunk_size is None
        else integer(chunk_size, "chunk_size")
    )


def _finite(sample):
    lost = (
        np.isnan(sample.log10_norm)
        | ~np.isfinite(sample.path).all(axis=1)
        | (sample.log10_norm == np.inf)
    )
    if lost.any():
        raise ValueError(
            f"In {lost.sum()} of {len(lost)} networks the pre-activations or the gradient are too large for floating "
            "numbers: lower weight_variance, depth or the surrogate's scale."
        )
    return sample


@dataclasses.dataclass(frozen=True, repr=False)
class Shares(Shown):
    """The shares of gradients that vanished, stayed, and exploded; they add up to 1. Floats, or arrays of a sweep."""

    vanished: float
    healthy: float
    exploded: float

    def _facts(self):
        return {"vanished": self.vanished, "healthy": self.healthy, "exploded": self.exploded}


def shares(log10_gradients, vanishing=VANISHED_IN_CENSUS, exploding=EXPLODED_IN_CENSUS):
    """How many gradients are below `vanishing`, how many above `exploding`, and how many in between.

    Args:
        log10_gradients: `sample.log10_product`, `sample.log10_norm`, or other decimal logarithms;
            not empty.
        vanishing, exploding: positive, and in that order; default 1e-3 and 1e3.
    """
    logarithms = _logarithms(log10_gradients)
    vanishing, exploding = positive(vanishing, "vanishing"), positive(exploding, "exploding")
    if vanishing > exploding:
        raise ValueError(
            f"vanishing must not be above exploding, but they are {vanishing:g} and {exploding:g}."
        )
    vanished = float(np.mean(logarithms < np.log10(vanishing)))
    exploded = float(np.mean(logarithms > np.log10(exploding)))
    return Shares(vanished, 1 - vanished - exploded, exploded)


def _logarithms(values):
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or np.isnan(array).any():
        raise ValueError(
            f"Decimal logarithms of gradients, one a network and none of them NaN, are needed; got {values!r}."
        )
    return array


@dataclasses.dataclass(frozen=True, repr=False)
class VanishingRates(Shown):
    """How often gradients vanish or explode, as a function of the distribution of the pre-activations.

    Args:
        weight_variances: of the sweep, shape (settings,).
        deviations: the standard deviation of the pre-activations that each one leads to, over all
            layers and networks.
        inside: the share of the pre-activations x with abs(slope(x)) > 1.
        product: `Shares` for the product of slopes, arrays of shape (settings,).
        norm: `Shares` for the norm of the whole gradient.
    """

    weight_variances: np.ndarray
    deviations: np.ndarray
    inside: np.ndarray
    product: Shares
    norm: Shares

    _more = "rates.weight_variances, rates.deviations, rates.product, rates.norm"

    def _facts(self):
        return {
            "weight variances": self.weight_variances,
            "share of vanished products": self.product.vanished,
            "share of vanished norms": self.norm.vanished,
        }

    def _table(self):
        columns = {
            "weight variance": self.weight_variances,
            "deviation of x": self.deviations,
            "slope above 1": self.inside,
            "products vanished": self.product.vanished,
            "products exploded": self.product.exploded,
            "norms vanished": self.norm.vanished,
            "norms exploded": self.norm.exploded,
        }
        return list(columns), zip(*columns.values(), strict=True)


def vanishing_rates(
    surrogate,
    weight_variances,
    networks=10_000,
    vanishing=VANISHED_IN_CENSUS,
    exploding=EXPLODED_IN_CENSUS,
    **sample,
):
    """Sweeps the weight variance, and with it the distribution of the pre-activations.

    Args:
        surrogate: a `Surrogate`, or whatever `keras_surrogate.get` takes.
        weight_variances: non-negative numbers; at least one.
        networks: for each of them; default 10 000.
        vanishing, exploding: as for `shares`.
        sample: `depth`, `width` and whatever else `gradient_sample` takes.
    """
    surrogate, weight_variances = (
        presets.get(surrogate),
        numbers(weight_variances, "weight_variances"),
    )
    rows = []
    for weight_variance in weight_variances:
        found = gradient_sample(
            surrogate, networks=networks, weight_variance=weight_variance, **sample
        )
        product, norm = (
            shares(part, vanishing, exploding) for part in (found.log10_product, found.log10_norm)
        )
        inside = np.mean(
            np.abs(surrogate.scale * surrogate.backward.slope(tf.constant(found.path))) > 1
        )
        rows.append((found.path.std(dtype=float), inside, *_fields(product), *_fields(norm)))
    deviations, inside, *columns = np.array(rows).T
    return VanishingRates(
        weight_variances, deviations, inside, Shares(*columns[:3]), Shares(*columns[3:])
    )


def _fields(shares):
    return shares.vanished, shares.healthy, shares.exploded


@dataclasses.dataclass(frozen=True, repr=False)
class JointHistogram(Shown):
    """Counts over two quantities: first one quantity x of a path, then the decimal logarithm of its network's gradient.

    Args:
        counts: shape (bins, bins), x first.
        edges: of the bins of x, shape (bins + 1,).
        log10_edges: of the bins of the logarithm, shape (bins + 1,).
        zeros: how many pairs are left out because their gradient is exactly 0.
        quantity: what the first is, "x" or "w".
        gradient: what the second is, "product" or "norm".
    """

    counts: np.ndarray
    edges: np.ndarray
    log10_edges: np.ndarray
    zeros: int
    quantity: str
    gradient: str

    _more = "histogram.counts, plots.joint_histogram(histogram)"

    def _facts(self):
        return {
            "of": f"{self.quantity} and the gradient's {self.gradient}",
            "bins along either side": len(self.edges) - 1,
            "pairs": int(self.counts.sum()),
            "left out because their gradient is 0": self.zeros,
        }


def joint_histogram(sample, quantity="x", gradient="product", bins=60):
    """The joint histogram of (x, g) or (w, g): every pre-activation, or weight, of every path with its path's gradient.

    Args:
        sample: a `GradientSample`.
        quantity: "x" for the pre-activations, "w" for the weights; default "x".
        gradient: "product" for the product of slopes g, "norm" for the norm of the whole gradient;
            default "product".
        bins: along either side, at least 1; default 60.

    Raises:
        ValueError: another name; bins below 1; all gradients are 0.
    """
    values = _choice(quantity, "quantity", {"x": sample.path, "w": sample.path_weights})
    logarithms = _choice(
        gradient, "gradient", {"product": sample.log10_product, "norm": sample.log10_norm}
    )
    kept = np.isfinite(logarithms)
    if not kept.any():
        raise ValueError(
            "All gradients are exactly 0, so that there is nothing to count: is the slope 0 everywhere?"
        )
    pairs = values[kept].ravel(), np.repeat(logarithms[kept], values.shape[1])
    counts, *edges = np.histogram2d(*pairs, bins=integer(bins, "bins"))
    return JointHistogram(counts, *edges, int((~kept).sum()) * values.shape[1], quantity, gradient)


def _choice(name, argument, choices):
    if name not in choices:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, choices))}, but is {name!r}."
        )
    return choices[name]
