"""Many small random networks as one batch: drawn, run forward, and differentiated by the surrogate's own gradient.

Layer k of a network is x_k = W_k h_{k-1} + b_k and h_k = f(x_k), of one width throughout. All
numbers are float64, so that slopes of saturated units and products of fifty of them are not lost to
rounding; below 1e-308 a gradient is 0.
"""

import dataclasses

import numpy as np
import tensorflow as tf

# Vectorised kernels round the elements behind the last whole vector otherwise. Batches of whole
# vectors make a network's numbers independent of the batch it is in, which chaotic networks would
# blow up to any size.
_VECTOR = 8


@dataclasses.dataclass(frozen=True)
class Networks:
    """A batch of networks.

    Args:
        depth: the number of layers.
        weights: tensors of shape (networks, width, width), one a layer; a single one is shared by
            all layers.
        biases: tensors of shape (networks, width, 1), one a layer or a single one.
        readout: what the last layer's output is multiplied with to give one number; shape
            (networks, width, 1).
    """

    depth: int
    weights: tuple
    biases: tuple
    readout: tf.Tensor

    def preactivation(self, layer, inputs):
        """x of that layer, counted from 0, for inputs of shape (networks, width, samples); the same shape."""
        return tf.linalg.matmul(_of(self.weights, layer), inputs) + _of(self.biases, layer)

    def run(self, surrogate, first):
        """From the first layer's pre-activations to a list of those of all layers, and the last layer's output."""
        preactivations = [first]
        for layer in range(1, self.depth):
            preactivations.append(self.preactivation(layer, surrogate(preactivations[-1])))
        return preactivations, surrogate(preactivations[-1])

    def output(self, surrogate, inputs):
        """One number for each network and sample, shape (networks, samples)."""
        _, last = self.run(surrogate, self.preactivation(0, inputs))
        return tf.reduce_sum(self.readout * last, axis=1)

    def path_weights(self):
        """The weights between the first units of successive layers, shape (networks, depth)."""
        return tf.stack([_of(self.weights, layer)[:, 0, 0] for layer in range(self.depth)], axis=1)


def _of(tensors, layer):
    return tensors[layer % len(tensors)]


class RandomNetworks:
    """Networks with normal weights and biases, drawn in batches of any size; always the same ones for a seed.

        W_ij ~ N(0, weight_variance / width)    b_i ~ N(0, bias_variance)    readout: a random direction of length 1

    Each layer has a stream of random numbers of its own, network after network. Hence neither the
    batches nor the number of layers or networks change the others.
    """

    def __init__(self, depth, width, weight_variance, bias_variance, seed):
        self._depth, self._width = depth, width
        self._weight_scale, self._bias_scale = (
            np.sqrt(weight_variance / width),
            np.sqrt(bias_variance),
        )
        self._inputs, self._targets, self._readouts, *self._layers = (
            np.random.default_rng([seed, stream]) for stream in range(3 + 2 * depth)
        )

    def draw(self, count):
        """The next `count` networks, as `Networks`, filled up to a multiple of 8 by networks of zeros."""
        width = self._width
        weights = [
            self._weight_scale * _normal(layer, (count, width, width))
            for layer in self._layers[::2]
        ]
        biases = [
            self._bias_scale * _normal(layer, (count, width, 1)) for layer in self._layers[1::2]
        ]
        readout = _normal(self._readouts, (count, width, 1))
        readout[:count] /= np.linalg.norm(readout[:count], axis=1, keepdims=True)
        return Networks(
            self._depth,
            *(tuple(map(tf.constant, part)) for part in (weights, biases)),
            tf.constant(readout),
        )

    def draw_inputs(self, count, variance, samples=1):
        """Inputs ~ N(0, variance) for the next networks, shape (networks, width, samples), filled up likewise."""
        inputs = np.sqrt(variance) * _normal(self._inputs, (count, samples, self._width))
        return tf.constant(inputs.swapaxes(1, 2))

    def draw_targets(self, count, samples):
        """Targets of 1/2 or -1/2 for the next networks, shape (networks, samples), filled up likewise."""
        return tf.constant(whole(self._targets.integers(0, 2, (count, samples)) - 0.5))


def _normal(generator, shape):
    return whole(generator.standard_normal(shape))


def whole(array):
    """The array with zeros appended to the first axis, up to a multiple of 8."""
    missing = -len(array) % _VECTOR
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]))]) if missing else array


def chunks(total, size):
    """Slices of at most `size` that cover range(total) in order."""
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]


def chunk_of(memory, depth, width, samples):
    """The number of networks whose weights and outputs fill that many bytes; at least 8."""
    return max(_VECTOR, memory // (8 * depth * width * (width + samples)))


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What `measure` finds: tensors of shape (networks,), and pre-activations of shape (networks, samples, depth)."""

    log10_product: tf.Tensor
    log10_norm: tf.Tensor
    path: tf.Tensor


def measure(networks, surrogate, inputs):
    """The two gradients of each network, as decimal logarithms of root mean squares over the samples.

    product: the product, over the layers, of the slopes at the first unit. With independent weights
        that is a random path through the network: the g of the tanh(nx) question.
    norm: the L2 norm of the gradient at the first layer's pre-activations, for a gradient of length
        1, along the readout, that arrives at the last layer's output. Here weights and all paths
        have their part.
    """
    with tf.GradientTape() as tape:
        first = networks.preactivation(0, inputs)
        tape.watch(first)
        preactivations, last = networks.run(surrogate, first)
    direction = networks.readout / tf.norm(networks.readout, axis=1, keepdims=True)
    gradient = tape.gradient(
        last, first, output_gradients=tf.broadcast_to(direction, tf.shape(last))
    )
    path = tf.stack([layer[:, 0] for layer in preactivations], axis=2)
    slopes = tf.abs(surrogate.scale * surrogate.backward.slope(path))
    products = tf.reduce_sum(log10(slopes), axis=2)
    return Gradients(_root_mean_square(products), _root_mean_square(_log10_norm(gradient)), path)


def log10(tensor):
    """The decimal logarithm, -inf at 0."""
    return tf.math.log(tensor) / np.log(10)


def _log10_norm(gradient):
    """The logarithm of the L2 norm over axis 1, scaled before it is squared, since squares underflow sooner."""
    largest = tf.reduce_max(tf.abs(gradient), axis=1, keepdims=True)
    unit = tf.where(largest > 0, largest, tf.ones_like(largest))
    return log10(largest[:, 0]) + log10(tf.reduce_sum(tf.square(gradient / unit), axis=1)) / 2


def _root_mean_square(logarithms):
    """The logarithm of the root mean square over axis 1 of numbers whose decimal logarithms are given."""
    natural = 2 * np.log(10) * logarithms
    samples = tf.cast(tf.shape(logarithms)[1], logarithms.dtype)
    return (tf.reduce_logsumexp(natural, axis=1) - tf.math.log(samples)) / (2 * np.log(10))
