"""Measurements of an untrained or trained network: its gradient over depth, and its dead units."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.recording import norms

if TYPE_CHECKING:
    from keras_surrogate.comparison.networks import BuiltNetwork

# A unit whose output varies by no more than this is dead.
_CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class Backward:
    """One backward pass, compared with one of the true derivative.

    Attributes:
        gradient_ratio: the gradient's norm at the first hidden layer's pre-activations over that at
            the last's.
        cosine: that of the gradient of the first layer's pre-activations with the true one; NaN
            where either is 0.
        kernel_cosine: the same for the gradient of the first layer's kernel.
    """

    gradient_ratio: float
    cosine: float
    kernel_cosine: float


def compiled(
    method: Callable[..., object], signature: Sequence[tf.TypeSpec] | None = None
) -> Callable[..., object]:
    """A `tf.function` of a method whose traces are counted for each object by itself.

    TensorFlow warns of functions that are traced often. It counts by code, so that the same method
    of many objects would cause warnings; a partial has its own count.
    """
    return tf.function(functools.partial(method), input_signature=signature, reduce_retracing=True)


class Probe:
    """Measurements of a `BuiltNetwork`, each compiled once.

    Args:
        network: a `networks.BuiltNetwork`.
        loss: a function of labels and logits.
    """

    def __init__(
        self, network: BuiltNetwork, loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    ) -> None:
        self._model = keras.Model(
            network.model.inputs[0], [*network.pre_activations, network.model.output]
        )
        self._outputs = keras.Model(network.model.inputs[0], network.outputs)
        self._kernel = network.hidden[0].kernel
        self._loss = loss
        self._artificial = compiled(self._pass)
        self._true = compiled(self._pass)
        self._constant = compiled(self._share_of_constant)

    def backward(self, x: tf.Tensor, y: tf.Tensor) -> Backward:
        """`Backward` for a batch, in training mode: batch normalisation updates its averages."""
        artificial = self._artificial(x, y)
        with true_gradients(self._model):
            true = self._true(x, y)
        first, last = norms.norms(artificial[:2]).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.float64(first) / last)
        return Backward(ratio, _cosine(artificial[0], true[0]), _cosine(artificial[2], true[2]))

    def _pass(self, x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
        """The gradients of the first pre-activations, of the last ones, and of the first kernel."""
        with tf.GradientTape() as tape:
            *hidden, logits = self._model(x, training=True)
            loss = self._loss(y, logits)
        sources = [hidden[0], hidden[-1], self._kernel.value]
        return tape.gradient(loss, sources, unconnected_gradients="zero")

    def dead_units(self, x: np.ndarray) -> float:
        """The share of hidden units whose output is the same for all images and places."""
        return float(self._constant(x))

    def _share_of_constant(self, x: tf.Tensor) -> tf.Tensor:
        outputs = keras.tree.flatten(self._outputs(x, training=False))
        constant = [
            tf.reduce_mean(tf.cast(_range(output) <= _CONSTANT, tf.float32)) for output in outputs
        ]
        return tf.reduce_mean(tf.stack(constant))


def _range(output: tf.Tensor) -> tf.Tensor:
    """The largest minus the smallest output of each unit; NaN if one of them is NaN."""
    axes = list(range(len(output.shape) - 1))
    spread = tf.reduce_max(output, axes) - tf.reduce_min(output, axes)
    # Maximum and minimum may ignore NaN; the sum does not. No comparison is true for NaN.
    return spread + 0 * tf.reduce_sum(output, axes)


def _cosine(one: tf.Tensor, other: tf.Tensor) -> float:
    """The cosine of two tensors, in float64 without over- and underflow; NaN where either is 0."""
    one = np.asarray(one, np.float64).ravel()
    other = np.asarray(other, np.float64).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        one = one / np.abs(one).max()
        other = other / np.abs(other).max()
        return float(_dot(one, other) / np.sqrt(_dot(one, one) * _dot(other, other)))


def _dot(one: np.ndarray, other: np.ndarray) -> np.float64:
    """The sum of products. The last bits of `one @ other` depend on the number of BLAS threads."""
    return np.sum(one * other)
