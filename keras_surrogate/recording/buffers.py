"""Rows of numbers that a graph writes and the host reads."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


class RowBuffer:
    """A ring buffer of rows that a graph writes and the host reads.

    A step writes one row, and the newest `capacity` rows are kept. Under a `tf.distribute` strategy
    each replica writes its own rows, and the host reads those of the first local replica.

    Args:
        width: the number of numbers in a row.
        capacity: the number of rows kept until they are read.

    Attributes:
        count: the number of rows that had been written at the last reading.
    """

    count: int

    def __init__(self, width: int, capacity: int) -> None:
        self._rows = local_variable(np.zeros((capacity, width)))
        self._written = local_variable(np.int64(0))
        self._capacity = capacity
        self.count = 0

    def write(self, row: tf.Tensor) -> None:
        """Append a row of shape (width,), in graph."""
        # A masked assignment, because XLA compiles it well.
        here = tf.range(self._capacity, dtype=tf.int64) == self._written % self._capacity
        self._rows.assign(tf.where(here[:, tf.newaxis], row, self._rows))
        self._written.assign_add(1)

    def read(self) -> np.ndarray:
        """The rows written since the last call, oldest first, shape (rows, width)."""
        written = int(_first_local(self._written).numpy())
        first = max(self.count, written - self._capacity)
        self.count = written
        return _first_local(self._rows).numpy()[np.arange(first, written) % self._capacity]


def local_variable(value: np.ndarray | np.number) -> tf.Variable:
    """A variable outside the graph that is being traced. Each replica has its own copy."""
    with tf.init_scope():
        return tf.Variable(
            value,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def _first_local(variable: tf.Variable) -> tf.Variable:
    return tf.distribute.get_strategy().experimental_local_results(variable)[0]
