"""The numbers of one layer, computed from its tensors."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_surrogate.functions import tables
from keras_surrogate.recording import unit_quantities
from keras_surrogate.recording.norms import at_least_float32
from keras_surrogate.recording.norms import norms as tensor_norms

if TYPE_CHECKING:
    import keras

    from keras_surrogate.functions import Function

# The number of examples that are compared pairwise: the cost grows with its square.
COMPARED = 64
# In float32, squares below this lose digits.
_LEAST_SQUARE = 1e-30


def main_tensor(lists: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor | None:
    """The first tensor of each call, joined along the examples, or None.

    Calls whose shape differs from that of the first call are left out.
    """
    firsts = [tensors[0] for tensors in lists if tensors]
    firsts = [
        tensor for tensor in firsts if tensor.shape.rank and tensor.shape[1:] == firsts[0].shape[1:]
    ]
    if not firsts:
        return None
    joined = tf.concat(firsts, axis=0) if len(firsts) > 1 else firsts[0]
    return at_least_float32(joined)


def mean_and_variance(tensor: tf.Tensor) -> tuple[float, float]:
    """Mean and variance over all elements.

    Where squares do not fit the dtype, the elements are divided by the largest one first.
    """
    axes = list(range(tensor.shape.rank))
    mean, variance = (float(moment) for moment in tf.nn.moments(tensor, axes))
    if _LEAST_SQUARE < mean**2 + variance < math.inf:
        return mean, variance
    largest = float(tf.reduce_max(tf.abs(tensor)))
    if not 0 < largest < math.inf:
        return mean, variance
    mean, variance = tf.nn.moments(tensor / tf.cast(largest, tensor.dtype), axes)
    return float(mean) * largest, float(variance) * largest**2


def centredness(mean: float, variance: float) -> float | None:
    """abs(mean) / sqrt(mean square): 0 if the mean is 0, 1 if all elements are equal.

    None where all elements are 0.
    """
    power = mean**2 + variance
    return abs(mean) / power**0.5 if power > 0 else None


def _products(tensor: tf.Tensor) -> np.ndarray | None:
    """The inner products of the first examples, in float64.

    None where there is only one example, all are 0, or some are not finite.
    """
    few = tensor[:COMPARED]
    rows = np.asarray(tf.reshape(few, [few.shape[0], -1]), "float64")
    if len(rows) < 2:
        return None
    with np.errstate(all="ignore"):
        products = rows @ rows.T
    return products if 0 < np.trace(products) < math.inf else None


def effective_rank_and_spread(tensor: tf.Tensor) -> tuple[float | None, float | None]:
    """Two measures of how much the outputs for different examples differ.

    Both are None for a single example, for zeros and for numbers that are not finite.

    Effective rank: exp(entropy of p), p = singular values / their sum, of the matrix whose rows are
    the examples. 1 where all are multiples of one vector; at most the number of examples, of which
    the first 64 are used.

    Spread: the share of the mean square that differs between them, mean (x - mean of x)**2 / mean
    x**2, with means over the same examples. 0 where all are equal; 1 minus the mean cosine of two
    of them where all have the same norm.

    Source: Roy and Vetterli 2007, "The effective rank", EUSIPCO.
    """
    products = _products(tensor)
    if products is None:
        return None, None
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(products), 0))
    shares = values[values > 0] / values.sum()
    rank = np.exp(-np.sum(shares * np.log(shares)))
    return float(rank), float(max(0.0, 1 - products.mean() / np.diag(products).mean()))


def dead_units(tensor: tf.Tensor, channels_first: bool = False) -> float | None:
    """The share of units (channels) that are 0 for every example and in every place.

    None for a single example.
    """
    if tensor.shape[0] < 2:
        return None
    axis = 1 if channels_first else tensor.shape.rank - 1
    others = [number for number in range(tensor.shape.rank) if number != axis]
    is_active = tf.reduce_any(tensor != 0, others)
    return 1 - float(tf.reduce_mean(tf.cast(is_active, tf.float64)))


def dormant_units(layer: keras.layers.Layer, tensor: tf.Tensor) -> float | None:
    """The share of units whose outputs are small beside those of the layer's other units.

    None for a single example. The threshold is `thresholds.DORMANT`.
    """
    sizes = unit_quantities.unit_sizes(layer, [tensor])
    if tensor.shape[0] < 2 or sizes is None:
        return None
    share = float(unit_quantities.dormant_share(sizes))
    return None if math.isnan(share) else share


def saturated(tensor: tf.Tensor, function: Function) -> float:
    """The share of elements in the flat ends of a function; of a rectifier, in the upper one."""
    return float(tf.reduce_mean(tf.cast(tables.in_flat_ends(function, tensor), tf.float64)))


def sign_agreement(gradient: tf.Tensor) -> float | None:
    """The share of a unit's weight gradients with the more frequent sign, mean over the units.

    A unit's weights stand along all axes of the kernel but the last. 1/2 is chance; 1 means that
    all weights of a unit can only grow together or shrink together. Units without a gradient are
    left out; None where no unit has one.
    """
    signs = np.sign(np.asarray(gradient)).reshape(-1, gradient.shape[-1])
    positive = (signs > 0).sum(axis=0)
    negative = (signs < 0).sum(axis=0)
    counts = positive + negative
    has_any = counts > 0
    if not has_any.any():
        return None
    shares = np.maximum(positive, negative)[has_any] / counts[has_any]
    return float(np.mean(shares))


def norms(tensors: Mapping[Hashable, tf.Tensor | None]) -> dict[Hashable, float]:
    """The L2 norm of each tensor, by its key; those that are None are left out."""
    tensors = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    if not tensors:
        return {}
    found = tensor_norms(tensors.values()).numpy().tolist()
    return dict(zip(tensors, found, strict=True))


def joined(norms: Sequence[float]) -> float | None:
    """The norm over all elements of tensors with these norms; None without tensors."""
    return float(np.linalg.norm(norms)) if norms else None


def cosine(ones: Sequence[tf.Tensor | None], others: Sequence[tf.Tensor | None]) -> float | None:
    """The cosine between two lists of tensors; None where a list is empty, 0 or not finite."""
    pairs = [
        (one, other)
        for one, other in zip(ones, others, strict=True)
        if one is not None and other is not None
    ]
    lengths = [float(tf.norm(tensor_norms(side))) for side in zip(*pairs, strict=True)]
    if not lengths or not 0 < np.prod(lengths) < math.inf:
        return None
    return float(np.clip(sum(_product(*pair, *lengths) for pair in pairs), -1, 1))


def _product(one, other, length, other_length):
    """The inner product of two tensors, each divided by its length first to avoid underflow."""
    one = one / tf.cast(length, one.dtype)
    other = other / tf.cast(other_length, other.dtype)
    return float(tf.reduce_sum(one * other))


def sizes(tensor: tf.Tensor) -> dict[int, float]:
    """The root mean square of the nonzero numbers in each column, by its place on the last axis.

    Without zeros, the size of rare entries, as in one-hot vectors and word counts, does not depend
    on how rare they are. Constant columns are left out.
    """
    columns = np.asarray(tensor, float).reshape(-1, tensor.shape[-1])
    counts = np.count_nonzero(columns, axis=0)
    power = np.sum(columns**2, axis=0) / np.maximum(counts, 1)
    varies = np.ptp(columns, axis=0) > 0
    return {int(place): float(power[place] ** 0.5) for place in np.flatnonzero(varies)}


def size_ratio(tensor: tf.Tensor) -> float | None:
    """The largest of these sizes over their lower median; None with fewer than two."""
    if tensor.shape.rank < 2:
        return None
    ordered = sorted(sizes(tensor).values())
    if len(ordered) < 2:
        return None
    return ordered[-1] / ordered[(len(ordered) - 1) // 2]


def kernel_of(variables: Sequence[keras.Variable]) -> keras.Variable | None:
    """The first of a layer's trainable variables that has at least two axes, or None."""
    return next((variable for variable in variables if len(variable.shape) >= 2), None)


def is_constant(weights: tf.Tensor | keras.Variable) -> bool:
    """True if there are several weights and all are equal."""
    weights = tf.reshape(tf.convert_to_tensor(weights), [-1])
    return weights.shape[0] > 1 and bool(tf.reduce_all(weights == weights[0]))
