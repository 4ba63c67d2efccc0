"""L2 norms of tensors, and their totals for each layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf


def norms(gradients: Sequence[tf.Tensor | tf.IndexedSlices], compiled: bool = True) -> tf.Tensor:
    """The L2 norms sqrt(sum(gradient**2)) of some tensors, in float64, shape (tensors,).

    One pass over each tensor is enough if all sums of squares fit its dtype. Otherwise, as in
    gradients that vanish or explode by twenty orders of magnitude, a second pass computes them in
    float64.

    Args:
        gradients: floating tensors of any shape, or `tf.IndexedSlices`, whose repeated rows are
            added up; at least one.
        compiled: whether XLA may compile it, default True. Then other operations are fast.
    """
    tensors = [at_least_float32(nonzero_rows(gradient)) for gradient in gradients]
    # The widest type among them.
    dtype = max((tensor.dtype for tensor in tensors), key=lambda dtype: dtype.size)
    squares = [
        _safe_sums_of_squares(group, dtype, compiled) for group in _groups(tensors, compiled)
    ]
    return tf.sqrt(tf.concat(squares, axis=0))


def _groups(tensors: Sequence[tf.Tensor], compiled: bool) -> list[Sequence[tf.Tensor]]:
    """Tensors next to each other in a few groups, each with a similar number of elements.

    Until a group's sums are known, its tensors stay in memory. With one group for all, an optimizer
    could overwrite none of the gradients, and none would be free before the last one is known.
    """
    ends = np.cumsum([tensor.shape.num_elements() or 0 for tensor in tensors])
    least = _LEAST_COMPILED_GROUP if compiled else _LEAST_GROUP
    count = int(np.clip(ends[-1] // least, 1, _MOST_GROUPS))
    places = np.unique(np.searchsorted(ends, ends[-1] * np.arange(1, count) / count) + 1)
    edges = [0, *places[places < len(tensors)], len(tensors)]
    return [tensors[start:end] for start, end in itertools.pairwise(edges)]


def _safe_sums_of_squares(
    tensors: Sequence[tf.Tensor], dtype: tf.DType, compiled: bool
) -> tf.Tensor:
    """The sum of squares of each tensor, in float64, shape (tensors,).

    They are squared in float64 if one of the sums does not fit `dtype`.
    """
    parts = _parts(tensors)
    squares = _sums_of_squares(parts, len(tensors), dtype, compiled)
    fit = tf.reduce_all((squares > LEAST_SQUARE) & tf.math.is_finite(squares))

    def squares_in_float64() -> tf.Tensor:
        return _sums_of_squares(_stacked(parts), len(tensors), tf.float64, compiled)

    return tf.cond(fit, lambda: squares, squares_in_float64)


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
LEAST_SQUARE = 1e-30

# Tensors of fewer elements are copied into one tensor, because an operation of its own for each
# takes longer: to trace, and to run.
_SMALL = 4096

# In the branch that hardly ever runs, tensors of up to so many elements are copied too: the fewer
# operations it has, the sooner the step is traced and compiled.
_SMALL_IN_BRANCH = 2**17

# The float32 numbers in a vector register, and the longest sum in one of them.
_LANES = 8
_LONGEST_SUM = 8192

# Each group costs an operation `tf.cond`, so it has at least this many elements.
_LEAST_GROUP = 2**18
# XLA takes long to compile it, and runs one as fast as four.
_LEAST_COMPILED_GROUP = 2**22
_MOST_GROUPS = 4


class _Part(NamedTuple):
    """A tensor, or several small ones of equal shape, along a new first axis, or several vectors.

    Attributes:
        tensor: the elements.
        numbers: the number of the tensor to which each element along the first axis belongs; or
            the number of the only tensor.
    """

    tensor: tf.Tensor
    numbers: np.ndarray | int


def _parts(tensors: Sequence[tf.Tensor]) -> list[_Part]:
    """Tensors, the small ones of them joined."""
    parts = []
    alike: dict[tuple, list[int]] = {}
    for number, tensor in enumerate(tensors):
        size = tensor.shape.num_elements()
        if size is None or size >= _SMALL:
            parts.append(_Part(tensor, number))
        else:
            # Vectors (biases) of any length are joined.
            shape = "vector" if tensor.shape.rank == 1 else tuple(tensor.shape)
            alike.setdefault((tensor.dtype, shape), []).append(number)
    for (_, shape), numbers in alike.items():
        members = [tensors[number] for number in numbers]
        if shape == "vector":
            lengths = [member.shape[0] for member in members]
            parts.append(_Part(tf.concat(members, axis=0), np.repeat(numbers, lengths)))
        else:
            parts.append(_Part(tf.stack(members), np.array(numbers)))
    return parts


def _stacked(parts: Sequence[_Part]) -> list[_Part]:
    """The parts, with single tensors of equal shape joined if they are not large."""
    stacked = []
    alike: dict[tuple, list[_Part]] = {}
    for part in parts:
        size = part.tensor.shape.num_elements()
        if not isinstance(part.numbers, int) or size is None or size > _SMALL_IN_BRANCH:
            stacked.append(part)
        else:
            shape = tuple(part.tensor.shape)
            alike.setdefault((part.tensor.dtype, shape), []).append(part)
    for members in alike.values():
        tensor = tf.stack([member.tensor for member in members])
        stacked.append(_Part(tensor, np.array([member.numbers for member in members])))
    return stacked


def _sums_of_squares(
    parts: Sequence[_Part], count: int, dtype: tf.DType, compiled: bool
) -> tf.Tensor:
    """The sum of squares of each of `count` tensors, in float64, shape (count,).

    Args:
        parts: the tensors.
        count: their number.
        dtype: the type in which they are squared.
        compiled: as in `norms`.
    """
    sums = []
    owners = []
    halves = {}
    for tensor, numbers in parts:
        tensor = tf.cast(tensor, dtype)
        if not isinstance(numbers, int):
            # The axes within each of the tensors that were joined.
            sums.append(tf.reduce_sum(tf.square(tensor), axis=list(range(1, tensor.shape.rank))))
            owners.append(numbers)
        elif compiled:
            columns = _columns(tensor)
            sums.append(columns)
            owners.append(np.repeat(numbers, columns.shape[0]))
        else:
            # One kernel, which writes no squares to memory. It returns half of their sum.
            halves[numbers] = tf.nn.l2_loss(tensor)
    if halves:
        sums.append(2 * tf.stack(list(halves.values())))
        owners.append(np.array(list(halves)))
    everything = tf.cast(tf.concat(sums, axis=0), tf.float64)
    return tf.math.unsorted_segment_sum(everything, np.concatenate(owners), count)


def _columns(tensor: tf.Tensor) -> tf.Tensor:
    """A vector whose sum is the tensor's sum of squares, computed as XLA does it fast.

    XLA sums fast over all axes but the last, fastest if the last one has the size of a register of
    the processor, and slowly over all axes.
    """
    squares = tf.square(tensor)
    size = tensor.shape.num_elements()
    if size is not None and size % _LANES == 0:
        rows = size // _LANES
        # Short sums, because each addition is rounded.
        while rows > _LONGEST_SUM and rows % 2 == 0:
            rows //= 2
        if rows <= _LONGEST_SUM and rows * _LANES == size:
            return tf.reduce_sum(tf.reshape(squares, [rows, _LANES]), axis=0)
        if rows <= _LONGEST_SUM:
            lanes = tf.reshape(squares, [-1, rows, _LANES])
            return tf.reshape(tf.reduce_sum(lanes, axis=1), [-1])
    if tensor.shape.rank and tensor.shape.rank > 1 and tensor.shape[-1] is not None:
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
