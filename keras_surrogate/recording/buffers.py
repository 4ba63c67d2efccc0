"""A place for rows of numbers that a graph writes and the host reads."""

import numpy as np
import tensorflow as tf


class RowBuffer:
    """Rows of numbers that a graph writes, one a step, and the host reads: the newest `capacity` of them are kept.

    Under a `tf.distribute` strategy each replica writes rows of its own, and those of the first
    local one are read.

    Args:
        width: numbers in a row.
        capacity: rows kept until they are read.

    Attributes:
        count: the number of rows that had been written when they were last read.
    """

    def __init__(self, width, capacity):
        self._rows = local_variable(np.zeros((capacity, width)))
        self._written = local_variable(np.int64(0))
        self._capacity = capacity
        self.count = 0

    def write(self, row):
        """Appends a row, in graph. A masked assignment, because XLA compiles it well."""
        here = tf.range(self._capacity, dtype=tf.int64) == self._written % self._capacity
        self._rows.assign(tf.where(here[:, tf.newaxis], row, self._rows))
        self._written.assign_add(1)

    def read(self):
        """The rows written since the last call, oldest first: an array of shape (rows, width)."""
        written = int(_first_local(self._written).numpy())
        first = max(self.count, written - self._capacity)
        self.count = written
        return _first_local(self._rows).numpy()[np.arange(first, written) % self._capacity]


def local_variable(value):
    """A variable outside of the graph being traced, of which each replica has its own."""
    with tf.init_scope():
        return tf.Variable(
            value,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def _first_local(variable):
    return tf.distribute.get_strategy().experimental_local_results(variable)[0]
