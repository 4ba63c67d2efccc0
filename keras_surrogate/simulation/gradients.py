"""A census of random networks: the share of vanished and exploded gradients before training.

The accepted answer to "Can the vanishing gradient problem be solved by multiplying the input of
tanh with a coefficient?" (Data Science Stack Exchange, question 51545) asks under "a more advanced
analysis" for the distribution of the gradient g and its joint distributions (x, g) and (w, g) with
pre-activations and weights. Weights are scaled as in Poole et al. 2016, arXiv:1606.05340. For wide
networks `theory` replaces the simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.checks import integer, one_of
from keras_surrogate.reprs import Shown
from keras_surrogate.simulation import networks as batches
from keras_surrogate.simulation.checks import nonnegative, numbers, positive
from keras_surrogate.thresholds import EXPLODED_IN_CENSUS, VANISHED_IN_CENSUS

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike

# Bytes of weights and outputs in one chunk; gradients and intermediate results take a few times as
# much.
MEMORY = 2**26


@dataclasses.dataclass(frozen=True, repr=False)
class GradientSample(Shown):
    """Gradients of many random networks at their start.

    Args:
        log10_product: decimal logarithm of abs(g), the product of the slopes along a path through
            all layers, one unit a layer; shape (networks,); -inf where a slope is 0.
        log10_norm: decimal logarithm of the L2 norm of the whole gradient, weights included, at the
            first layer's pre-activations, for a gradient of length 1 at the last layer's output;
            shape (networks,).
        path: the pre-activations x of the units on the path, float32, shape (networks, depth).
        path_weights: the weights w between them, float32, shape (networks, depth); the first one
            comes from the input.
    """

    log10_product: np.ndarray
    log10_norm: np.ndarray
    path: np.ndarray
    path_weights: np.ndarray

    _more = "simulation.shares(sample.log10_norm), simulation.joint_histogram(sample), sample.path"

    def _facts(self) -> dict[str, object]:
        return {
            "networks": len(self.log10_norm),
            "depth": self.path.shape[1],
            "median log10 of the product of slopes": float(np.median(self.log10_product)),
            "median log10 of the gradient's norm": float(np.median(self.log10_norm)),
        }


def gradient_sample(
    surrogate: SurrogateLike = "tanh",
    depth: int = 50,
    networks: int = 100_000,
    width: int = 8,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    seed: int = 0,
    chunk_size: int | None = None,
    verbose: int = 0,
) -> GradientSample:
    """Draw random networks and differentiate each with the surrogate's backward pass.

        W_ij ~ N(0, weight_variance / width)
        b_i ~ N(0, bias_variance)
        input_i ~ N(0, input_variance)

    Args:
        surrogate: any argument of `keras_surrogate.get`; default "tanh".
        depth: layers, at least 1; default 50.
        networks: at least 1; default 100 000.
        width: units in each layer and in the input, at least 1; default 8.
        weight_variance, bias_variance, input_variance: non-negative; default 1, 0, 1.
        seed: a non-negative integer, default 0. The same seed gives the same arrays, bit by bit,
            for any chunks, and the first networks do not depend on the number of networks.
        chunk_size: networks computed at a time, which bounds the memory; default None, as many as
            take 64 MiB.
        verbose: 1 for a progress bar; default 0.

    Returns:
        A `GradientSample`; it takes 8 * depth + 16 bytes a network.

    Raises:
        ValueError: a number out of range; an unknown function; pre-activations or gradients too
            large for a number.
    """
    surrogate = presets.get(surrogate)
    depth = integer(depth, "depth")
    networks = integer(networks, "networks")
    width = integer(width, "width")
    weight_variance = nonnegative(weight_variance, "weight_variance")
    bias_variance = nonnegative(bias_variance, "bias_variance")
    input_variance = nonnegative(input_variance, "input_variance")
    seed = integer(seed, "seed", least=0)
    source = batches.RandomNetworks(depth, width, weight_variance, bias_variance, seed)
    sample = GradientSample(
        log10_product=np.empty(networks),
        log10_norm=np.empty(networks),
        path=np.empty((networks, depth), np.float32),
        path_weights=np.empty((networks, depth), np.float32),
    )
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


def chunk_length(chunk_size: int | None, depth: int, width: int, samples: int = 1) -> int:
    """The networks in one chunk: `chunk_size`, or those with 64 MiB of weights and outputs."""
    if chunk_size is None:
        return batches.chunk_of(MEMORY, depth, width, samples)
    return integer(chunk_size, "chunk_size")


def _finite(sample: GradientSample) -> GradientSample:
    """The sample, or a ValueError if a network overflowed."""
    lost = (
        np.isnan(sample.log10_norm)
        | ~np.isfinite(sample.path).all(axis=1)
        | (sample.log10_norm == np.inf)
    )
    if lost.any():
        raise ValueError(
            f"In {lost.sum()} of {len(lost)} networks the pre-activations or the gradient are too "
            "large for floating numbers: lower weight_variance, depth or the surrogate's scale."
        )
    return sample


@dataclasses.dataclass(frozen=True, repr=False)
class Shares(Shown):
    """The shares of gradients that vanished, stayed and exploded; they add up to 1.

    Floats, or arrays of a sweep.
    """

    vanished: float | np.ndarray
    healthy: float | np.ndarray
    exploded: float | np.ndarray

    def _facts(self) -> dict[str, object]:
        return {"vanished": self.vanished, "healthy": self.healthy, "exploded": self.exploded}


def shares(
    log10_gradients: Sequence[float] | np.ndarray,
    vanishing: float = VANISHED_IN_CENSUS,
    exploding: float = EXPLODED_IN_CENSUS,
) -> Shares:
    """The shares of gradients below `vanishing`, above `exploding`, and in between.

    Args:
        log10_gradients: `sample.log10_product`, `sample.log10_norm`, or other decimal logarithms;
            not empty.
        vanishing, exploding: positive, and in that order; default 1e-3 and 1e3.
    """
    logarithms = _logarithms(log10_gradients)
    vanishing = positive(vanishing, "vanishing")
    exploding = positive(exploding, "exploding")
    if vanishing > exploding:
        raise ValueError(
            f"vanishing must not be above exploding, but they are {vanishing:g} and {exploding:g}."
        )
    vanished = float(np.mean(logarithms < np.log10(vanishing)))
    exploded = float(np.mean(logarithms > np.log10(exploding)))
    return Shares(vanished, 1 - vanished - exploded, exploded)


def _logarithms(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or np.isnan(array).any():
        raise ValueError(
            "log10_gradients must be decimal logarithms of gradients, one a network and none of "
            f"them NaN, but is {values!r}."
        )
    return array


@dataclasses.dataclass(frozen=True, repr=False)
class VanishingRates(Shown):
    """The shares of vanished and exploded gradients over the distribution of pre-activations.

    Args:
        weight_variances: those of the sweep, shape (settings,).
        deviations: the standard deviation of the pre-activations for each of them, over all layers
            and networks.
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

    def _facts(self) -> dict[str, object]:
        return {
            "weight variances": self.weight_variances,
            "share of vanished products": self.product.vanished,
            "share of vanished norms": self.norm.vanished,
        }

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
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
    surrogate: SurrogateLike,
    weight_variances: Sequence[float] | np.ndarray,
    networks: int = 10_000,
    vanishing: float = VANISHED_IN_CENSUS,
    exploding: float = EXPLODED_IN_CENSUS,
    **sample: Any,
) -> VanishingRates:
    """Sweep the weight variance, and with it the distribution of the pre-activations.

    Args:
        surrogate: any argument of `keras_surrogate.get`.
        weight_variances: non-negative numbers; at least one.
        networks: the number of networks for each of them; default 10 000.
        vanishing, exploding: as for `shares`.
        sample: `depth`, `width` and other arguments of `gradient_sample`.
    """
    surrogate = presets.get(surrogate)
    weight_variances = numbers(weight_variances, "weight_variances")
    rows = []
    for weight_variance in weight_variances:
        found = gradient_sample(
            surrogate, networks=networks, weight_variance=weight_variance, **sample
        )
        product = shares(found.log10_product, vanishing, exploding)
        norm = shares(found.log10_norm, vanishing, exploding)
        slopes = np.abs(surrogate.scale * surrogate.backward.slope(tf.constant(found.path)))
        inside = np.mean(slopes > 1)
        rows.append((found.path.std(dtype=float), inside, *_fields(product), *_fields(norm)))
    deviations, inside, *columns = np.array(rows).T
    return VanishingRates(
        weight_variances, deviations, inside, Shares(*columns[:3]), Shares(*columns[3:])
    )


def _fields(shares: Shares) -> tuple[float | np.ndarray, ...]:
    return shares.vanished, shares.healthy, shares.exploded


@dataclasses.dataclass(frozen=True, repr=False)
class JointHistogram(Shown):
    """Counts over a quantity of a path and the decimal logarithm of its network's gradient.

    Args:
        counts: shape (bins, bins), the quantity first.
        edges: those of the bins of the quantity, shape (bins + 1,).
        log10_edges: those of the bins of the logarithm, shape (bins + 1,).
        zeros: the number of pairs left out because their gradient is exactly 0.
        quantity: "x" or "w".
        gradient: "product" or "norm".
    """

    counts: np.ndarray
    edges: np.ndarray
    log10_edges: np.ndarray
    zeros: int
    quantity: Literal["x", "w"]
    gradient: Literal["product", "norm"]

    _more = "histogram.counts, plots.joint_histogram(histogram)"

    def _facts(self) -> dict[str, object]:
        return {
            "of": f"{self.quantity} and the gradient's {self.gradient}",
            "bins along either side": len(self.edges) - 1,
            "pairs": int(self.counts.sum()),
            "left out because their gradient is 0": self.zeros,
        }


def joint_histogram(
    sample: GradientSample,
    quantity: Literal["x", "w"] = "x",
    gradient: Literal["product", "norm"] = "product",
    bins: int = 60,
) -> JointHistogram:
    """The joint histogram of (x, g) or (w, g).

    Every pre-activation, or weight, of every path is paired with its path's gradient.

    Args:
        sample: a `GradientSample`.
        quantity: "x" for the pre-activations, "w" for the weights; default "x".
        gradient: "product" for the product of slopes g, "norm" for the norm of the whole gradient;
            default "product".
        bins: the number along either side, at least 1; default 60.

    Raises:
        ValueError: another name; bins below 1; all gradients are 0.
    """
    quantities = {"x": sample.path, "w": sample.path_weights}
    gradients = {"product": sample.log10_product, "norm": sample.log10_norm}
    values = quantities[one_of(quantity, "quantity", tuple(quantities))]
    logarithms = gradients[one_of(gradient, "gradient", tuple(gradients))]
    kept = np.isfinite(logarithms)
    if not kept.any():
        raise ValueError(
            "All gradients are exactly 0, so that there is nothing to count. Choose a surrogate "
            "whose slope is not 0."
        )
    depth = values.shape[1]
    repeated = np.repeat(logarithms[kept], depth)
    bins = integer(bins, "bins")
    counts, edges, log10_edges = np.histogram2d(values[kept].ravel(), repeated, bins=bins)
    zeros = int((~kept).sum()) * depth
    return JointHistogram(counts, edges, log10_edges, zeros, quantity, gradient)
