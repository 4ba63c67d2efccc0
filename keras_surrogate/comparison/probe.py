"""What is measured of an untrained or trained network: where its gradient goes, and which units are dead."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.recording import norms

# A unit whose output varies by no more than this is dead.
_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class Backward:
    """One backward pass, beside one with the true derivative.

    gradient_ratio: the norm at the first hidden layer's pre-activations over that at the last's.
    cosine: of the first layer's pre-activations' gradient with the true one; NaN where either is 0.
    kernel_cosine: of the first layer's kernel's gradient, likewise.
    """

    gradient_ratio: float
    cosine: float
    kernel_cosine: float


def compiled(method, signature=None):
    """A `tf.function` of a method of a new object, whose tracing TensorFlow does not take for that of the last one.

    It warns of functions that are traced often, and counts by code.
    """
    return tf.function(functools.partial(method), input_signature=signature, reduce_retracing=True)


class Probe:
    """Measurements of a `Network`, each compiled once.

    Args:
        network: a `networks.Network`.
        loss: from labels and logits to the loss.
    """

    def __init__(self, network, loss):
        self._model = keras.Model(
            network.model.inputs[0], [*network.pre_activations, network.model.output]
        )
        self._outputs = keras.Model(network.model.inputs[0], network.outputs)
        self._kernel, self._loss = network.hidden[0].kernel, loss
        self._artificial, self._true = compiled(self._pass), compiled(self._pass)
        self._constant = compiled(self._share_of_constant)

    def backward(self, x, y):
        """`Backward` for a batch. In training mode: moving averages of batch normalisation move."""
        artificial = self._artificial(x, y)
        with true_gradients(self._model):
            true = self._true(x, y)
        first, last = norms.norms(artificial[:2]).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.float64(first) / last)
        return Backward(ratio, _cosine(artificial[0], true[0]), _cosine(artificial[2], true[2]))

    def _pass(self, x, y):
        """The gradients of the first pre-activations, of the last ones, and of the first kernel."""
        with tf.GradientTape() as tape:
            *hidden, logits = self._model(x, training=True)
            loss = self._loss(y, logits)
        return tape.gradient(
            loss, [hidden[0], hidden[-1], self._kernel.value], unconnected_gradients="zero"
        )

    def dead_units(self, x):
        """The share of hidden units whose output is the same for all of `x`, everywhere in the image."""
        return float(self._constant(x))

    def _share_of_constant(self, x):
        outputs = keras.tree.flatten(self._outputs(x, training=False))
        constant = [
            tf.reduce_mean(tf.cast(_range(output) <= _CONSTANT, tf.float32)) for output in outputs
        ]
        return tf.reduce_mean(tf.stack(constant))


def _range(output):
    """Largest less smallest output of each unit; NaN, which no comparison holds for, if there is one."""
    axes = list(range(len(output.shape) - 1))
    return (
        tf.reduce_max(output, axes) - tf.reduce_min(output, axes) + 0 * tf.reduce_sum(output, axes)
    )


def _cosine(one, other):
    """Of two tensors, in float64 and free of over- and underflow; NaN where either is 0."""
    one, other = (np.asarray(tensor, np.float64).ravel() for tensor in (one, other))
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = one / np.abs(one).max(), other / np.abs(other).max()
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))
