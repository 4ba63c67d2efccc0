"""One layer's numbers, from what a pass has shown."""

import math

import numpy as np
import tensorflow as tf

from keras_surrogate.functions import tables
from keras_surrogate.recording.norms import at_least_float32
from keras_surrogate.recording.norms import norms as tensor_norms

# So many examples are compared with one another: the cost grows with their square.
COMPARED = 64


def main_tensor(lists):
    """The first tensor of each call, joined along the examples; of calls of unlike shapes the first call's; or None."""
    firsts = [tensors[0] for tensors in lists if tensors]
    firsts = [
        tensor for tensor in firsts if tensor.shape.rank and tensor.shape[1:] == firsts[0].shape[1:]
    ]
    if not firsts:
        return None
    return at_least_float32(tf.concat(firsts, axis=0) if len(firsts) > 1 else firsts[0])


def mean_and_variance(tensor):
    """Over all elements, as floats; scaled by the largest one first where squares do not fit the dtype."""
    mean, variance = (
        float(moment) for moment in tf.nn.moments(tensor, list(range(tensor.shape.rank)))
    )
    if _LEAST_SQUARE < mean**2 + variance < math.inf:
        return mean, variance
    largest = float(tf.reduce_max(tf.abs(tensor)))
    if not 0 < largest < math.inf:
        return mean, variance
    mean, variance = tf.nn.moments(
        tensor / tf.cast(largest, tensor.dtype), list(range(tensor.shape.rank))
    )
    return float(mean) * largest, float(variance) * largest**2


# In float32 squares below this lose digits.
_LEAST_SQUARE = 1e-30


def centredness(mean, variance):
    """abs(mean) / sqrt(mean square): 0 where the mean is 0, 1 where all elements are equal; None where all are 0."""
    power = mean**2 + variance
    return abs(mean) / power**0.5 if power > 0 else None


def _products(tensor):
    """The inner products of the first examples, in float64; None where there is only one, or all are 0, or not "
    "finite."""
    rows = np.asarray(
        tf.reshape(tensor[:COMPARED], [min(COMPARED, tensor.shape[0]), -1]), "float64"
    )
    with np.errstate(all="ignore"):
        products = rows @ rows.T
    return products if len(rows) > 1 and 0 < np.trace(products) < math.inf else None


def effective_rank_and_spread(tensor):
    """Two numbers that tell how different the outputs for different examples are; None for a single example, or zeros.

    Effective rank: exp(entropy of p), p = singular values / their sum, of the matrix whose rows are
    the examples. 1 where all are multiples of one vector; at most the number of examples, of which
    the first 64 are used.

    Spread: the share of the mean square that differs between them, mean (x - mean of x)**2 / mean
    x**2, with means over the same examples. 0 where all are equal; 1 minus the mean cosine of two
    of them, if all have one norm.

    Source: Roy and Vetterli 2007, "The effective rank", EUSIPCO.
    """
    products = _products(tensor)
    if products is None:
        return None, None
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(products), 0))
    shares = values[values > 0] / values.sum()
    rank = np.exp(-np.sum(shares * np.log(shares)))
    return float(rank), float(max(0.0, 1 - products.mean() / np.diag(products).mean()))


def dead_units(tensor, channels_first=False):
    """The share of units (channels) that are 0 for every example and in every place; None for a single example."""
    if tensor.shape[0] < 2:
        return None
    axis = 1 if channels_first else tensor.shape.rank - 1
    others = [number for number in range(tensor.shape.rank) if number != axis]
    return 1 - float(tf.reduce_mean(tf.cast(tf.reduce_any(tensor != 0, others), tf.float64)))


def saturated(tensor, function):
    """The share of elements in the flat ends of a squashing function; of a rectifier, in the upper one."""
    return float(tf.reduce_mean(tf.cast(tables.in_flat_ends(function, tensor), tf.float64)))


def sign_agreement(gradient):
    """The share of a unit's weight gradients that have the sign of most, mean over the units with any.

    A unit's weights stand along all axes of the kernel but the last. 1/2 is chance, 1 means that
    all of a unit's weights can only grow together or shrink together. None where no unit has a
    gradient.
    """
    signs = np.sign(np.asarray(gradient)).reshape(-1, gradient.shape[-1])
    positive, negative = (signs > 0).sum(axis=0), (signs < 0).sum(axis=0)
    some = positive + negative > 0
    return (
        float(np.mean((np.maximum(positive, negative) / np.maximum(positive + negative, 1))[some]))
        if some.any()
        else None
    )


def norms(tensors):
    """The L2 norm of each tensor, by its key; those that are None are left out."""
    tensors = {key: tensor for key, tensor in tensors.items() if tensor is not None}
    return (
        dict(zip(tensors, tensor_norms(tensors.values()).numpy().tolist(), strict=True))
        if tensors
        else {}
    )


def joined(norms):
    """The norm over all elements of tensors with these norms; None where there are none."""
    return float(np.linalg.norm(norms)) if norms else None


def cosine(ones, others):
    """The cosine between two lists of tensors; None where one is missing, 0 or not finite."""
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
    """Of each divided by its length, lest tiny numbers underflow."""
    one, other = one / tf.cast(length, one.dtype), other / tf.cast(other_length, other.dtype)
    return float(tf.reduce_sum(one * other))


def sizes(tensor):
    """The root mean square of what is not 0 in each column, by its place along the last axis; not of constant ones.

    Zeros are left out so that rare entries, as in one-hot vectors and counts of words, are as large
    as they are.
    """
    columns = np.asarray(tensor, float).reshape(-1, tensor.shape[-1])
    counts = np.count_nonzero(columns, axis=0)
    power = np.sum(columns**2, axis=0) / np.maximum(counts, 1)
    varies = np.ptp(columns, axis=0) > 0
    return {int(place): float(power[place] ** 0.5) for place in np.flatnonzero(varies)}


def size_ratio(tensor):
    """The largest of these sizes over their lower median; None where there are not two."""
    ordered = sorted(sizes(tensor).values()) if tensor.shape.rank > 1 else []
    return ordered[-1] / ordered[(len(ordered) - 1) // 2] if len(ordered) > 1 else None


def kernel_of(variables):
    """The first of a layer's trainable variables that has at least two axes, or None."""
    return next((variable for variable in variables if len(variable.shape) >= 2), None)


def is_constant(weights):
    """Whether all of several weights are equal."""
    weights = tf.reshape(tf.convert_to_tensor(weights), [-1])
    return weights.shape[0] > 1 and bool(tf.reduce_all(weights == weights[0]))
