"""The quantities that can be recorded of layers' outputs."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.functions.tables import in_flat_ends, saturation
from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import at_least_float32, norms
from keras_surrogate.recording.quantities import Layout, Quantity, over_replicas, total

if TYPE_CHECKING:
    from keras_surrogate.functions import Function
    from keras_surrogate.recording.taps import TracedStep


class LayerQuantity(Quantity):
    """A quantity of the outputs of each observed layer."""

    outputs = True

    def columns(self, layout: Layout) -> list[str]:
        return [f"{self.name}/{name}" for name in self.observed(layout)]

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        """The layers with a column, a dictionary from name to layer; default all."""
        return layout.layers


class OutputQuantity(LayerQuantity):
    """A quantity measured on a layer's outputs; NaN for a layer that was not called."""

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        values = []
        for layer in self.observed(layout).values():
            outputs = step.outputs.get(id(layer))
            value = np.nan if outputs is None else self.measure(layer, outputs)
            values.append(tf.convert_to_tensor(value, tf.float64))
        return tf.convert_to_tensor(values, tf.float64)

    @abc.abstractmethod
    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """A float64 number from a layer's outputs in all its calls in the step."""


class OutputMean(OutputQuantity):
    """The mean of a function over the elements of a layer's outputs."""

    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return mean([self.elementwise(layer, _flat(outputs))])

    @abc.abstractmethod
    def elementwise(self, layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
        """The function's values, from the elements of the outputs."""


class ActivationMean(OutputMean, ask_for="activations"):
    """mean(output)"""

    name = "activation_mean"

    def elementwise(self, layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
        return outputs


class ActivationVariance(OutputMean, ask_for="activations"):
    """mean((output - mean(output))**2)"""

    name = "activation_variance"

    def elementwise(self, layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
        return tf.square(outputs - tf.cast(mean([outputs]), outputs.dtype))


class ActivationZeros(OutputMean, ask_for="activations"):
    """The share of elements that are exactly 0."""

    name = "activation_zeros"

    def elementwise(self, layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(outputs == 0, tf.float64)


class ActivationSaturated(OutputMean, ask_for="activations"):
    """The share of elements in the flat ends of a saturating function.

    There its slope is below 1 % of its largest slope. Only layers with such an activation have this
    quantity; see `functions.tables.saturation`.
    """

    name = "activation_saturated"

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {name: layer for name, layer in layout.layers.items() if squashing_of(layer)}

    def elementwise(self, layer: keras.layers.Layer, outputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(in_flat_ends(squashing_of(layer), outputs), tf.float64)


def squashing_of(layer: keras.layers.Layer) -> Function | None:
    """The function that a layer applies last if it saturates, otherwise None."""
    activation = activation_of(layer)
    if activation is None or not saturation(activation.forward):
        return None
    return activation.forward


class DeadUnits(OutputQuantity, ask_for="activations"):
    """The share of a layer's units (channels) that were 0 since the epoch began.

    Such a unit was 0 for every element of the batch in every recorded step.
    """

    name = "dead_units"
    last = True

    def __init__(self) -> None:
        # From a layer's id to a variable of shape (units,), which is 0 for dead units.
        self._fired: dict[int, tf.Variable] = {}

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        # Not layers that only rearrange, such as Flatten: their zeros are those of their input.
        return {name: layer for name, layer in layout.layers.items() if has_units(layer)}

    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        axis = units_axis(layer)
        units = outputs[0].shape[axis] if outputs[0].shape.rank else None
        if units is None or any(output.shape[axis] != units for output in outputs):
            return tf.constant(np.nan, tf.float64)
        if id(layer) not in self._fired:
            self._fired[id(layer)] = local_variable(np.zeros(units))
        firing = [tf.reduce_any(output != 0, axes_but(axis, output)) for output in outputs]
        fired_now = tf.cast(tf.reduce_any(firing, axis=0), tf.float64)
        fired = self._fired[id(layer)] + over_replicas(fired_now)
        self._fired[id(layer)].assign(fired)
        return tf.reduce_mean(tf.cast(fired == 0, tf.float64))

    def begin_epoch(self) -> None:
        for fired in self._fired.values():
            fired.assign(tf.zeros_like(fired))


class DeltaNorm(LayerQuantity, ask_for="delta_norm"):
    """sqrt(sum(delta**2))

    `delta` is the gradient of the loss with respect to the layer's output.
    """

    name = "delta_norm"
    deltas = True

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        squares = []
        for layer in layout.layers.values():
            deltas = step.unscaled_deltas(layer)
            square = tf.reduce_sum(tf.square(norms(deltas))) if deltas else np.nan
            squares.append(tf.convert_to_tensor(square, tf.float64))
        return tf.sqrt(over_replicas(tf.convert_to_tensor(squares, tf.float64)))


def units_axis(layer: keras.layers.Layer) -> int:
    """The axis of a layer's outputs along which its units (channels) lie."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def has_units(layer: keras.layers.Layer) -> bool:
    """True for layers with weights or an activation; False for those that only rearrange."""
    activates = (
        hasattr(layer, "activation")
        or hasattr(layer, "surrogate")
        or isinstance(layer, keras.layers.ReLU)
    )
    return activates or bool(layer.weights)


def _flat(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """All elements of the tensors, in one vector."""
    flat = [tf.reshape(at_least_float32(tensor), [-1]) for tensor in tensors]
    return flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)


def mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The mean over all elements of some tensors on all replicas, in float64.

    The sum and the count are added up separately, because the replicas' shares of a batch may
    differ in size.
    """
    sums = tf.add_n([total(at_least_float32(tensor)) for tensor in tensors])
    count = tf.add_n([tf.cast(tf.size(tensor), tf.float64) for tensor in tensors])
    joined, counted = tf.unstack(over_replicas(tf.stack([sums, count])))
    return joined / counted


def axes_but(axis: int, tensor: tf.Tensor) -> list[int]:
    """All axes of a tensor but one."""
    rank = len(tensor.shape)
    return [number for number in range(rank) if number != axis % rank]
