"""The worker of TensorFlow: this package's activations, native ones, and the stop-gradient trick.

Operation by operation is `tf.function`; compiled is `tf.function(jit_compile=True)`, value and
gradient together.
"""

import activations
import tensorflow as tf
from peers_pairs import PAIRS, trick
from peers_worker import THREADS, RefusedError, serve

tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)

KEEPS_FREED = True
VALUES = {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "step": lambda x: tf.where(x >= 0, 1.0, 0.0)}


def step(pair, kind, compiled):
    return activations.value_and_gradient(_activation(PAIRS[pair], kind), compiled)


def _activation(pair, kind):
    if kind == "ours":
        return activations.surrogate_of(pair.ours)
    if kind == "native":
        if pair.value == "step":
            raise RefusedError("", "a step has no derivative of its own")
        return VALUES[pair.value]
    return trick(pair, kind, VALUES[pair.value], tf, tf.stop_gradient)


def tensors(x, upstream):
    return tf.constant(x), tf.constant(upstream)


def array(tensor):
    return tensor.numpy()


def wait():
    tf.test.experimental.sync_devices()


def forget():
    pass


if __name__ == "__main__":
    import sys

    serve(sys.modules[__name__])
