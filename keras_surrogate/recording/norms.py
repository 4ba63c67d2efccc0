"""The L2 norms of tensors, and what they add up to for each layer."""

import numpy as np
import tensorflow as tf


def norms(gradients):
    """The L2 norms sqrt(sum(gradient**2)) of some tensors, in float64, shape (tensors,).

    One pass over each tensor as long as all sums of squares fit its dtype; otherwise, as in
    gradients that vanish or explode by twenty orders of magnitude, the same is done in float64.

    Args:
        gradients: floating tensors of any shape, or `tf.IndexedSlices`, whose repeated rows are
            added up; at least one.
    """
    gradients = [at_least_float32(tf.convert_to_tensor(gradient)) for gradient in gradients]
    squares = _sums_of_squares(gradients)
    fit = tf.reduce_all((squares > _LEAST_SQUARE) & tf.math.is_finite(squares))
    return tf.sqrt(tf.cond(fit, lambda: squares, lambda: _sums_of_squares(gradients, tf.float64)))


# Sums of squares below this may have lost elements to underflow in float32, whose smallest normal
# number is 1.2e-38.
_LEAST_SQUARE = 1e-30


def _sums_of_squares(tensors, dtype=None):
    """One float64 number a tensor, squared in `dtype`, default the widest that is among them.

    Biases are joined before anything is done with them, because a model may have thousands to
    trace.
    """
    dtype = dtype or max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.size)
    vectors = {number: tensor for number, tensor in enumerate(tensors) if _is_vector(tensor)}
    columns = {
        number: _columns(tf.cast(t, dtype))
        for number, t in enumerate(tensors)
        if number not in vectors
    }
    joined = [tf.square(_joined(list(vectors.values()), dtype))] if vectors else []
    parts = tf.concat([*joined, *columns.values()], axis=0)
    sizes = [part.shape.num_elements() for part in (*vectors.values(), *columns.values())]
    owners = np.repeat([*vectors, *columns], sizes)
    return tf.math.unsorted_segment_sum(tf.cast(parts, tf.float64), owners, len(tensors))


def _joined(vectors, dtype):
    same = len({vector.dtype for vector in vectors}) == 1
    return tf.cast(
        tf.concat(vectors if same else [tf.cast(vector, dtype) for vector in vectors], axis=0),
        dtype,
    )


def _is_vector(tensor):
    return tensor.shape.rank == 1 and tensor.shape[0] is not None


def _columns(tensor):
    """A vector whose sum is the sum of squares: XLA is fast at sums over all axes but the last, and slow over all."""
    squares = tf.square(tensor)
    if tensor.shape.rank and tensor.shape[-1] is not None:
        return tf.reduce_sum(squares, axis=list(range(tensor.shape.rank - 1)))
    return tf.reshape(tf.reduce_sum(squares), [1])


def at_least_float32(tensor):
    """In float32 where the dtype is a shorter one."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def totals(values, variables, groups, segment=tf.math.unsorted_segment_sum):
    """What values make together: first over all variables, then for each group.

    Args:
        values: a tensor whose rows belong to the variables.
        variables: as many variables.
        groups: a dictionary from name to variables, as `layer_variables` gives it.
        segment: how rows are joined, default their sum.
    """
    index = {
        id(variable): number
        for number, group in enumerate(groups.values(), 1)
        for variable in group
    }
    group_of = tf.constant([index.get(id(variable), 0) for variable in variables])
    everything = segment(values, tf.zeros_like(group_of), 1)
    return tf.concat([everything, segment(values, group_of, 1 + len(groups))[1:]], axis=0)
