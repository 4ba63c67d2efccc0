"""The buffer between graph and host, with one replica and with several."""

import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate.recording.buffers import RowBuffer


@pytest.mark.parametrize("jit_compile", [False, True])
def test_buffer_keeps_the_newest_rows_in_order(jit_compile):
    buffer = RowBuffer(width=2, capacity=3)
    write = tf.function(buffer.write, jit_compile=jit_compile)
    for number in range(2):
        write(tf.constant([number, 10.0 * number], tf.float64))
    np.testing.assert_array_equal(buffer.read(), [[0, 0], [1, 10]])
    for number in range(2, 7):
        write(tf.constant([number, 10.0 * number], tf.float64))
    np.testing.assert_array_equal(buffer.read(), [[4, 40], [5, 50], [6, 60]])
    assert buffer.read().shape == (0, 2)


def test_of_several_replicas_the_first_is_read(two_replicas):
    with two_replicas.scope():
        buffer = RowBuffer(width=1, capacity=4)

    def write():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        buffer.write(tf.cast(tf.reshape(replica, [1]) + 7, tf.float64))

    for _ in range(2):
        tf.function(two_replicas.run)(write)
    np.testing.assert_array_equal(buffer.read(), [[7], [7]])
