"""Many small random networks as one batch: drawn, run forward, and differentiated.

Layer k of a network is x_k = W_k h_{k-1} + b_k and h_k = f(x_k), of one width throughout. All
numbers are float64, so that slopes of saturated units and products of fifty of them are not lost to
rounding; below 1e-308 a gradient is 0.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate

# Vectorised kernels round the elements behind the last whole vector differently. Batches of whole
# vectors make a network's numbers independent of its batch. Chaotic networks would amplify the
# difference to any size.
_VECTOR = 8


@dataclasses.dataclass(frozen=True)
class Networks:
    """A batch of networks.

    Args:
        depth: the number of layers.
        weights: tensors of shape (networks, width, width), one a layer; a single one is shared by
            all layers.
        biases: tensors of shape (networks, width, 1), one a layer or a single one.
        readout: the factors of the last layer's output in the network's one number; shape
            (networks, width, 1).
    """

    depth: int
    weights: tuple[tf.Tensor, ...]
    biases: tuple[tf.Tensor, ...]
    readout: tf.Tensor

    def preactivation(self, layer: int, inputs: tf.Tensor) -> tf.Tensor:
        """x of that layer, counted from 0, for inputs of shape (networks, width, samples)."""
        weights = self.weights[layer % len(self.weights)]
        biases = self.biases[layer % len(self.biases)]
        return tf.linalg.matmul(weights, inputs) + biases

    def run(self, surrogate: Surrogate, first: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The pre-activations of all layers, from those of the first, and the last output."""
        preactivations = [first]
        for layer in range(1, self.depth):
            preactivations.append(self.preactivation(layer, surrogate(preactivations[-1])))
        return preactivations, surrogate(preactivations[-1])

    def output(self, surrogate: Surrogate, inputs: tf.Tensor) -> tf.Tensor:
        """One number for each network and sample, shape (networks, samples)."""
        _, last = self.run(surrogate, self.preactivation(0, inputs))
        return tf.reduce_sum(self.readout * last, axis=1)

    def path_weights(self) -> tf.Tensor:
        """The weights between the first units of successive layers, shape (networks, depth)."""
        layers = [self.weights[layer % len(self.weights)] for layer in range(self.depth)]
        return tf.stack([weights[:, 0, 0] for weights in layers], axis=1)


class RandomNetworks:
    """Networks with normal weights and biases, drawn in batches of any size; the same for a seed.

        W_ij ~ N(0, weight_variance / width)    b_i ~ N(0, bias_variance)
        readout: a random direction of length 1

    Each layer has its own stream of random numbers, network after network. Hence neither the
    batches nor the number of layers or networks change the others.
    """

    def __init__(
        self, depth: int, width: int, weight_variance: float, bias_variance: float, seed: int
    ) -> None:
        self._depth = depth
        self._width = width
        self._weight_scale = np.sqrt(weight_variance / width)
        self._bias_scale = np.sqrt(bias_variance)
        streams = [np.random.default_rng([seed, stream]) for stream in range(3 + 2 * depth)]
        self._inputs, self._targets, self._readouts, *self._layers = streams

    def draw(self, count: int) -> Networks:
        """The next `count` networks, filled up to a multiple of 8 by networks of zeros."""
        width = self._width
        weights = [
            tf.constant(self._weight_scale * _normal(layer, (count, width, width)))
            for layer in self._layers[::2]
        ]
        biases = [
            tf.constant(self._bias_scale * _normal(layer, (count, width, 1)))
            for layer in self._layers[1::2]
        ]
        readout = _normal(self._readouts, (count, width, 1))
        readout[:count] /= np.linalg.norm(readout[:count], axis=1, keepdims=True)
        return Networks(self._depth, tuple(weights), tuple(biases), tf.constant(readout))

    def draw_inputs(self, count: int, variance: float, samples: int = 1) -> tf.Tensor:
        """Inputs ~ N(0, variance) for the next networks, (networks, width, samples), filled up."""
        inputs = np.sqrt(variance) * _normal(self._inputs, (count, samples, self._width))
        return tf.constant(inputs.swapaxes(1, 2))

    def draw_targets(self, count: int, samples: int) -> tf.Tensor:
        """Targets of 1/2 or -1/2 for the next networks, shape (networks, samples), filled up."""
        return tf.constant(whole(self._targets.integers(0, 2, (count, samples)) - 0.5))


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return whole(generator.standard_normal(shape))


def whole(array: np.ndarray) -> np.ndarray:
    """The array with zeros appended to the first axis, up to a multiple of 8."""
    missing = -len(array) % _VECTOR
    if not missing:
        return array
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]))])


def chunks(total: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover range(total) in order."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def chunk_of(memory: int, depth: int, width: int, samples: int) -> int:
    """The number of networks whose weights and outputs fill that many bytes; at least 8."""
    return max(_VECTOR, memory // (8 * depth * width * (width + samples)))


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The result of `measure`.

    Args:
        log10_product, log10_norm: shape (networks,).
        path: pre-activations of shape (networks, samples, depth).
    """

    log10_product: tf.Tensor
    log10_norm: tf.Tensor
    path: tf.Tensor


def measure(networks: Networks, surrogate: Surrogate, inputs: tf.Tensor) -> Gradients:
    """The two gradients of each network, as decimal logarithms of root mean squares over samples.

    product: the product, over the layers, of the slopes at the first unit. With independent weights
        that is a random path through the network: the g of the tanh(nx) question.
    norm: the L2 norm of the gradient at the first layer's pre-activations, for a gradient of length
        1, along the readout, at the last layer's output. It includes the weights and all paths.
    """
    with tf.GradientTape() as tape:
        first = networks.preactivation(0, inputs)
        tape.watch(first)
        preactivations, last = networks.run(surrogate, first)
    direction = networks.readout / tf.norm(networks.readout, axis=1, keepdims=True)
    arriving = tf.broadcast_to(direction, tf.shape(last))
    gradient = tape.gradient(last, first, output_gradients=arriving)
    path = tf.stack([layer[:, 0] for layer in preactivations], axis=2)
    slopes = tf.abs(surrogate.scale * surrogate.backward.slope(path))
    products = tf.reduce_sum(log10(slopes), axis=2)
    return Gradients(_root_mean_square(products), _root_mean_square(_log10_norm(gradient)), path)


def log10(tensor: tf.Tensor) -> tf.Tensor:
    """The decimal logarithm, -inf at 0."""
    return tf.math.log(tensor) / np.log(10)


def _log10_norm(gradient: tf.Tensor) -> tf.Tensor:
    """The logarithm of the L2 norm over axis 1, scaled before squaring, since squares underflow."""
    largest = tf.reduce_max(tf.abs(gradient), axis=1, keepdims=True)
    unit = tf.where(largest > 0, largest, tf.ones_like(largest))
    return log10(largest[:, 0]) + log10(tf.reduce_sum(tf.square(gradient / unit), axis=1)) / 2


def _root_mean_square(logarithms: tf.Tensor) -> tf.Tensor:
    """The logarithm of the root mean square over axis 1 of numbers given by decimal logarithms."""
    natural = 2 * np.log(10) * logarithms
    samples = tf.cast(tf.shape(logarithms)[1], logarithms.dtype)
    return (tf.reduce_logsumexp(natural, axis=1) - tf.math.log(samples)) / (2 * np.log(10))
