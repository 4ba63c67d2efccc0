"""L2 norms of tensors, and their totals for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf


def norms(gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> tf.Tensor:
    """The L2 norms sqrt(sum(gradient**2)) of some tensors, in float64, shape (tensors,).

    One pass over each tensor is enough if all sums of squares fit its dtype. Otherwise, as in
    gradients that vanish or explode by twenty orders of magnitude, a second pass computes them in
    float64.

    Args:
        gradients: floating tensors of any shape, or `tf.IndexedSlices`, whose repeated rows are
            added up; at least one.
    """
    tensors = [at_least_float32(nonzero_rows(gradient)) for gradient in gradients]
    squares = _sums_of_squares(tensors)
    fit = tf.reduce_all((squares > _LEAST_SQUARE) & tf.math.is_finite(squares))
    return tf.sqrt(tf.cond(fit, lambda: squares, lambda: _sums_of_squares(tensors, tf.float64)))


def nonzero_rows(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
    """A tensor with the nonzero elements of a gradient, for measures that ignore zeros.

    A dense gradient is returned unchanged. Of `tf.IndexedSlices`, as an Embedding has them, the
    rows of equal index are added up; the result has as many rows as the slices, of which the last
    are 0. So its size depends on the batch and not on the number of embeddings.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    # Sorted indices put equal rows side by side. Unlike `tf.unique`, XLA compiles this.
    order = tf.argsort(gradient.indices)
    indices = tf.gather(gradient.indices, order)
    is_new = tf.cast(indices[1:] != indices[:-1], tf.int32)
    place = tf.cumsum(tf.concat([tf.zeros_like(indices[:1], tf.int32), is_new], axis=0))
    rows = tf.gather(gradient.values, order)
    return tf.math.unsorted_segment_sum(rows, place, tf.shape(indices)[0])


# Sums of squares below this may have lost elements to underflow in float32, whose smallest normal
# number is 1.2e-38.
_LEAST_SQUARE = 1e-30


def _sums_of_squares(tensors: Sequence[tf.Tensor], dtype: tf.DType | None = None) -> tf.Tensor:
    """The sum of squares of each tensor, in float64, shape (tensors,).

    Args:
        tensors: floating tensors.
        dtype: the type in which they are squared; default the widest among them.
    """
    dtype = dtype or max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.size)
    # Vectors (biases) are joined before all other operations, so that a model with thousands of
    # them is traced fast.
    vectors = {number: tensor for number, tensor in enumerate(tensors) if _is_vector(tensor)}
    columns = {
        number: _columns(tf.cast(tensor, dtype))
        for number, tensor in enumerate(tensors)
        if number not in vectors
    }
    joined = [tf.square(_joined(list(vectors.values()), dtype))] if vectors else []
    parts = tf.concat([*joined, *columns.values()], axis=0)
    sizes = [part.shape.num_elements() for part in (*vectors.values(), *columns.values())]
    owners = np.repeat([*vectors, *columns], sizes)
    return tf.math.unsorted_segment_sum(tf.cast(parts, tf.float64), owners, len(tensors))


def _joined(vectors: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    if len({vector.dtype for vector in vectors}) > 1:
        vectors = [tf.cast(vector, dtype) for vector in vectors]
    return tf.cast(tf.concat(vectors, axis=0), dtype)


def _is_vector(tensor: tf.Tensor) -> bool:
    return tensor.shape.rank == 1 and tensor.shape[0] is not None


def _columns(tensor: tf.Tensor) -> tf.Tensor:
    """A vector whose sum is the tensor's sum of squares."""
    squares = tf.square(tensor)
    if tensor.shape.rank and tensor.shape[-1] is not None:
        # XLA sums fast over all axes but the last, and slowly over all axes.
        return tf.reduce_sum(squares, axis=list(range(tensor.shape.rank - 1)))
    return tf.reshape(tf.reduce_sum(squares), [1])


def at_least_float32(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor in float32 if its dtype is float16 or bfloat16, otherwise unchanged."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def totals(
    values: tf.Tensor,
    variables: Sequence[keras.Variable | tf.Variable],
    groups: Mapping[str, Sequence[keras.Variable | tf.Variable]],
    segment: Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor] = tf.math.unsorted_segment_sum,
) -> tf.Tensor:
    """The totals of values over all variables, and then over the variables of each group.

    Args:
        values: a tensor with one row for each variable.
        variables: the variables.
        groups: a dictionary from name to variables, as `layer_variables` returns it.
        segment: the function that joins rows, such as `tf.math.unsorted_segment_sum`, the default.

    Returns:
        A tensor of shape (1 + groups, ...).
    """
    index = {
        id(variable): number
        for number, group in enumerate(groups.values(), 1)
        for variable in group
    }
    # Segment 0 has the variables of no group; it is dropped.
    group_of = tf.constant([index.get(id(variable), 0) for variable in variables])
    everything = segment(values, tf.zeros_like(group_of), 1)
    return tf.concat([everything, segment(values, group_of, 1 + len(groups))[1:]], axis=0)
