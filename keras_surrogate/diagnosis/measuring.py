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
# About as many columns of them are used at least, if there are more.
_COLUMNS = 2**13
# In float32, squares below this lose digits.
_LEAST_SQUARE = 1e-30
# The least share of the variance in the mean square that is computed as their difference.
_LEAST_SHARE = 0.1
# Elements that are looked at first, because they often answer a question about all.
_FIRST = 1024


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
    # Two kernels that write nothing to memory. l2_loss is half of the sum of squares.
    mean = float(tf.reduce_mean(tensor))
    power = 2 * float(tf.nn.l2_loss(tensor)) / max(1, tensor.shape.num_elements())
    variance = power - mean**2
    # A difference of nearly equal numbers would have lost its digits.
    if _LEAST_SQUARE < power < math.inf and variance > _LEAST_SHARE * power:
        return mean, variance
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
    few = np.asarray(tensor)[:COMPARED]
    if len(few) < 2:
        return None
    rows = few.reshape(len(few), -1)
    rows = rows[:, :: _stride(rows.shape[1], few.shape[-1])].astype("float64")
    with np.errstate(all="ignore"):
        products = rows @ rows.T
    return products if 0 < np.trace(products) < math.inf else None


def _stride(columns: int, channels: int) -> int:
    """The distance of the columns that are used.

    It shares no factor with the number of channels, so that all channels have an equal part.
    """
    stride = max(1, columns // _COLUMNS)
    while math.gcd(stride, channels) > 1:
        stride += 1
    return stride


def effective_rank_and_spread(tensor: tf.Tensor) -> tuple[float | None, float | None]:
    """Two measures of how much the outputs for different examples differ.

    Both are None for a single example, for zeros and for numbers that are not finite. Of rows with
    many columns about ten thousand are used, at equal distances.

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
    # In NumPy, whose `any` is several times as fast as TensorFlow's.
    is_active = (np.asarray(tensor) != 0).any(axis=tuple(others))
    return 1 - float(np.mean(is_active))


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
    columns = np.asarray(gradient).reshape(-1, gradient.shape[-1])
    positive = np.count_nonzero(columns > 0, axis=0)
    negative = np.count_nonzero(columns < 0, axis=0)
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
    # In eager mode nothing is compiled, and the kernels for that are faster.
    found = tensor_norms(tensors.values(), compiled=False).numpy().tolist()
    return dict(zip(tensors, found, strict=True))


def joined(norms: Sequence[float]) -> float | None:
    """The norm over all elements of tensors with these norms; None without tensors."""
    return float(np.linalg.norm(norms)) if norms else None


def cosine(
    ones: Sequence[tf.Tensor], others: Sequence[tf.Tensor], length: float, other_length: float
) -> float | None:
    """The cosine between two lists of tensors; None where a length is 0 or not finite.

    Args:
        ones, others: the lists.
        length, other_length: their L2 norms.
    """
    lengths = length * other_length
    if not 0 < lengths < math.inf:
        return None
    # The dtype of the tensors, or float64 where their products do not fit it.
    dtype = None if _LEAST_SQUARE < lengths < 1 / _LEAST_SQUARE else np.float64
    products = [
        float(np.vdot(np.asarray(one, dtype), np.asarray(other, dtype)))
        for one, other in zip(ones, others, strict=True)
    ]
    return float(np.clip(sum(products) / lengths, -1, 1))


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


def is_nonzero(tensor: tf.Tensor | keras.Variable) -> bool:
    """True if an element is not 0."""
    elements = _array(tensor).ravel()
    return bool(elements[:_FIRST].any() or elements.any())


def differs(tensor: tf.Tensor) -> bool:
    """True if examples differ."""
    examples = _array(tensor)
    first = examples[:1]
    return bool((examples[1:2] != first).any() or (examples != first).any())


def is_constant(weights: tf.Tensor | keras.Variable) -> bool:
    """True if there are several weights and all are equal."""
    weights = _array(weights).ravel()
    if len(weights) < 2:
        return False
    return bool((weights[:_FIRST] == weights[0]).all() and (weights == weights[0]).all())


def is_finite(weights: tf.Tensor | keras.Variable) -> bool:
    """True if no element is infinite or NaN; integers never are."""
    weights = tf.convert_to_tensor(weights)
    if not weights.dtype.is_floating:
        return True
    # This needs one pass over memory, and is not finite if an element is not.
    if math.isfinite(float(tf.nn.l2_loss(weights))):
        return True
    return bool(tf.reduce_all(tf.math.is_finite(weights)))


def _array(tensor: tf.Tensor | keras.Variable) -> np.ndarray:
    # On a CPU it is not copied. NumPy looks at a few elements faster than TensorFlow.
    return np.asarray(tf.convert_to_tensor(tensor))
