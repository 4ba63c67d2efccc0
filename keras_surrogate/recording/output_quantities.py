"""The numbers that can be recorded of layers' outputs."""

import abc

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.functions.tables import in_flat_ends, saturation
from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import at_least_float32, norms
from keras_surrogate.recording.quantities import Quantity, over_replicas, total


class LayerQuantity(Quantity):
    """What concerns the outputs of each observed layer."""

    outputs = True

    def columns(self, layout):
        return [f"{self.name}/{name}" for name in self.observed(layout)]

    def observed(self, layout):
        """The layers it is about, a dictionary from name to layer."""
        return layout.layers


class OutputQuantity(LayerQuantity):
    """What is measured on a layer's outputs; NaN for a layer that was not called."""

    def values(self, step, layout):
        nothing = tf.constant(np.nan, tf.float64)
        shown = [(layer, step.outputs.get(id(layer))) for layer in self.observed(layout).values()]
        values = [
            nothing if outputs is None else self.measure(layer, outputs) for layer, outputs in shown
        ]
        return tf.convert_to_tensor(values, tf.float64)

    @abc.abstractmethod
    def measure(self, layer, outputs):
        """A float64 number from a layer's outputs, of all its calls in the step."""


class OutputMean(OutputQuantity):
    """The mean of something over the elements of a layer's outputs."""

    def measure(self, layer, outputs):
        return _mean(self.elementwise(layer, _flat(outputs)))

    @abc.abstractmethod
    def elementwise(self, layer, outputs):
        """What it is the mean of, from the elements of the outputs."""


class ActivationMean(OutputMean, ask_for="activations"):
    """mean(output)"""

    name = "activation_mean"

    def elementwise(self, layer, outputs):
        return outputs


class ActivationVariance(OutputMean, ask_for="activations"):
    """mean((output - mean(output))**2)"""

    name = "activation_variance"

    def elementwise(self, layer, outputs):
        return tf.square(outputs - tf.cast(_mean(outputs), outputs.dtype))


class ActivationZeros(OutputMean, ask_for="activations"):
    """The share of elements that are exactly 0."""

    name = "activation_zeros"

    def elementwise(self, layer, outputs):
        return tf.cast(outputs == 0, tf.float64)


class ActivationSaturated(OutputMean, ask_for="activations"):
    """The share of elements in a squashing function's flat ends, where its slope is below 1 % of its largest.

    Only for layers whose activation is such a function; see `functions.tables.saturation`.
    """

    name = "activation_saturated"

    def observed(self, layout):
        return {name: layer for name, layer in layout.layers.items() if squashing_of(layer)}

    def elementwise(self, layer, outputs):
        return tf.cast(in_flat_ends(squashing_of(layer), outputs), tf.float64)


def squashing_of(layer):
    """The function that a layer applies last, if it is one that saturates; else None."""
    activation = activation_of(layer)
    return activation.forward if activation is not None and saturation(activation.forward) else None


class DeadUnits(OutputQuantity, ask_for="activations"):
    """The share of a layer's units (channels) whose output was 0 in every recorded step since the epoch began."""

    name = "dead_units"
    last = True

    def observed(self, layout):
        """Layers with units: not those that only rearrange, as Flatten, whose zeros are those of their input."""
        return {name: layer for name, layer in layout.layers.items() if _has_units(layer)}

    def __init__(self):
        self._fired = {}

    def measure(self, layer, outputs):
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
        units = outputs[0].shape[axis]
        if units is None or any(output.shape[axis] != units for output in outputs):
            return tf.constant(np.nan, tf.float64)
        if id(layer) not in self._fired:
            self._fired[id(layer)] = local_variable(np.zeros(units))
        firing = [tf.reduce_any(output != 0, _axes_but(axis, output)) for output in outputs]
        fired = self._fired[id(layer)] + over_replicas(
            tf.cast(tf.reduce_any(firing, axis=0), tf.float64)
        )
        self._fired[id(layer)].assign(fired)
        return tf.reduce_mean(tf.cast(fired == 0, tf.float64))

    def begin_epoch(self):
        for fired in self._fired.values():
            fired.assign(tf.zeros_like(fired))


class DeltaNorm(LayerQuantity, ask_for="delta_norm"):
    """sqrt(sum(delta**2)), delta being the gradient of the loss with respect to the layer's output."""

    name = "delta_norm"
    deltas = True

    def values(self, step, layout):
        nothing = tf.constant(np.nan, tf.float64)
        shown = [step.unscaled_deltas(layer) for layer in layout.layers.values()]
        squares = [
            tf.reduce_sum(tf.square(norms(deltas))) if deltas else nothing for deltas in shown
        ]
        return tf.sqrt(over_replicas(tf.convert_to_tensor(squares, tf.float64)))


def _has_units(layer):
    activates = (
        hasattr(layer, "activation")
        or hasattr(layer, "surrogate")
        or isinstance(layer, keras.layers.ReLU)
    )
    return activates or bool(layer.weights)


def _flat(tensors):
    tensors = [tf.reshape(at_least_float32(tensor), [-1]) for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=0)


def _mean(tensor):
    """The mean over all elements on all replicas, whose shares of a batch may differ in size."""
    count = tf.cast(tf.size(tensor), tf.float64)
    joined, counted = tf.unstack(over_replicas(tf.stack([total(tensor), count])))
    return joined / counted


def _axes_but(axis, tensor):
    return [number for number in range(len(tensor.shape)) if number != axis % len(tensor.shape)]
