"""The quantities that can be recorded of spiking layers: firing, slopes, gradients over time.

Their columns are those of the layers that run a neuron over time: `layers.LIF` and the others,
`layers.Spiking`, and `keras.layers.RNN` of a `layers.SpikingCell`; other models have none. A masked
step counts as one without a spike; with an RNN pass zero_output_for_mask=True to it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.layers import firing
from keras_surrogate.layers.neuron_layer import NeuronLayer
from keras_surrogate.recording.norms import at_least_float32
from keras_surrogate.recording.output_quantities import LayerQuantity, OutputQuantity, mean
from keras_surrogate.recording.quantities import Layout, over_replicas, total

if TYPE_CHECKING:
    from keras_surrogate.recording.taps import TracedStep


class SpikeQuantity(OutputQuantity):
    """A quantity of the spikes of each layer that fires."""

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {name: layer for name, layer in layout.layers.items() if firing.fires(layer)}

    def measure(self, layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return self.of_spikes(firing.spikes_among(layer, outputs))

    @abc.abstractmethod
    def of_spikes(self, spikes: Sequence[tf.Tensor]) -> tf.Tensor:
        """A float64 number from the spikes, (batch, time, ...), of all calls in the step."""


class FiringRate(SpikeQuantity, ask_for="spikes"):
    """mean(spikes) over the batch, the time steps and the units"""

    name = "firing_rate"

    def of_spikes(self, spikes: Sequence[tf.Tensor]) -> tf.Tensor:
        return mean(spikes)


class SilentUnits(SpikeQuantity, ask_for="spikes"):
    """The share of units (channels) without a spike in the batch, in no time step."""

    name = "silent_units"

    def of_spikes(self, spikes: Sequence[tf.Tensor]) -> tf.Tensor:
        return _share_without(spikes, lambda one: one != 0)


class AlwaysFiringUnits(SpikeQuantity, ask_for="spikes"):
    """The share of units (channels) that fire in each time step of each element of the batch."""

    name = "always_firing_units"

    def of_spikes(self, spikes: Sequence[tf.Tensor]) -> tf.Tensor:
        return _share_without(spikes, lambda one: one == 0)


class LargeSlopes(LayerQuantity, ask_for="slopes"):
    """The share of neurons and time steps whose slope is at least a tenth of its largest.

    Elsewhere next to no gradient passes the threshold. The neurons run a second time for it,
    forward only. Masked steps do not count. Layers in a `keras.layers.RNN`, and stateful ones, have
    no such column.
    """

    name = "large_slopes"

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {
            name: layer
            for name, layer in layout.layers.items()
            if isinstance(layer, NeuronLayer) and firing.fires(layer) and not layer.stateful
        }

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        shares = []
        for layer in self.observed(layout).values():
            inputs = step.inputs.get(id(layer))
            share = tf.constant(np.nan, tf.float64)
            if inputs:
                calls = zip(inputs, step.masks[id(layer)], strict=True)
                share = mean([firing.large_slopes(layer, *call) for call in calls])
            shares.append(share)
        return tf.convert_to_tensor(shares, tf.float64)


class CurrentDeltaNorm(LayerQuantity, ask_for="time"):
    """sqrt(sum(delta[:, t]**2)) for the first, the middle and the last time step t

    `delta` is the gradient of the loss with respect to the currents that enter the layer's neurons.
    A norm of the first step far below that of the last one is a gradient that vanishes through
    time. The middle step is the number steps // 2, counted from 0.
    """

    name = "current_delta_norm"
    input_deltas = True
    places = ("first", "middle", "last")

    def observed(self, layout: Layout) -> Mapping[str, keras.layers.Layer]:
        return {
            name: layer
            for name, layer in layout.layers.items()
            if firing.neuron_of(layer) is not None
        }

    def columns(self, layout: Layout) -> list[str]:
        return [
            f"{self.name}[{place}]/{name}"
            for name in self.observed(layout)
            for place in self.places
        ]

    def values(self, step: TracedStep, layout: Layout) -> tf.Tensor:
        squares = []
        for layer in self.observed(layout).values():
            deltas = step.unscaled_deltas(layer, of_inputs=True)
            square = tf.fill([len(self.places)], tf.constant(np.nan, tf.float64))
            if deltas:
                square = tf.add_n([_squares_at_places(delta) for delta in deltas])
            squares.append(square)
        if not squares:
            return tf.zeros([0], tf.float64)
        return tf.sqrt(over_replicas(tf.concat(squares, axis=0)))


def _squares_at_places(delta: tf.Tensor) -> tf.Tensor:
    """The sums of squares in the first, the middle and the last step, in float64, shape (3,)."""
    delta = at_least_float32(delta)
    steps = tf.shape(delta)[1]
    places = (0, steps // 2, steps - 1)
    return tf.stack([total(tf.square(delta[:, place])) for place in places])


def _share_without(spikes: Sequence[tf.Tensor], condition) -> tf.Tensor:
    """The share of units, the last axis, for which a condition holds nowhere."""
    units = spikes[0].shape[-1]
    if units is None or any(one.shape[-1] != units for one in spikes):
        return tf.constant(np.nan, tf.float64)
    found = [tf.reduce_any(condition(one), axis=list(range(one.shape.rank - 1))) for one in spikes]
    anywhere = over_replicas(tf.cast(tf.reduce_any(found, axis=0), tf.float64))
    return tf.reduce_mean(tf.cast(anywhere == 0, tf.float64))
