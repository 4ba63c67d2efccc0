"""The firing of spiking layers: their neurons, their spikes, and the slopes at their thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.functions import tables
from keras_surrogate.layers import time_loop
from keras_surrogate.layers.neuron_layer import NeuronLayer, state_dtype
from keras_surrogate.layers.neurons import Neuron, SpikingNeuron
from keras_surrogate.layers.spiking_cell import SpikingCell

# A slope below this share of its largest value is negligible.
SHARE = 0.1


def neuron_of(layer: keras.layers.Layer) -> Neuron | None:
    """The neuron that a layer runs over time, or None."""
    if isinstance(layer, NeuronLayer):
        return layer.neuron
    cell = getattr(layer, "cell", None)
    if isinstance(cell, SpikingCell) and layer.return_sequences:
        return cell.neuron
    return None


def fires(layer: keras.layers.Layer) -> bool:
    """True for layers whose outputs are spikes over time."""
    return isinstance(neuron_of(layer), SpikingNeuron)


def spikes_among(layer: keras.layers.Layer, outputs: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """The spikes among the outputs of a layer in all its calls: the first output of each."""
    outputs_of_a_call = 1
    if isinstance(layer, NeuronLayer) and layer.return_potential:
        outputs_of_a_call = 2
    if getattr(layer, "return_state", False):
        outputs_of_a_call = 1 + len(layer.cell.state_size)
    return outputs[::outputs_of_a_call]


def large_slopes(
    layer: NeuronLayer, currents: tf.Tensor, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """1 where the slope at the threshold is at least a tenth of its largest, otherwise 0.

    The layer's neuron runs once more, from the state before the first step.

    Args:
        layer: a layer that `fires`.
        currents: its input, shape (batch, time, ...).
        mask: its mask, shape (batch, time), or None.

    Returns:
        A float tensor with the elements of the currents in the steps that are not masked.
    """
    currents = tf.cast(tf.stop_gradient(currents), state_dtype(layer))
    if mask is not None:
        mask = tf.cast(mask, "bool")
    if layer.go_backwards:
        currents = tf.reverse(currents, [1])
        mask = None if mask is None else tf.reverse(mask, [1])
    probe = _Probe(layer.effective_neuron())
    state = probe.neuron.initial_state(time_loop.zeros_of_a_step(currents))
    (large,), _ = time_loop.run(probe, currents, state, mask, unroll=layer.unroll)
    return large if mask is None else tf.boolean_mask(large, mask)


class _Probe:
    """A neuron whose output is 1 where its slope is large.

    Args:
        neuron: the neuron.
    """

    def __init__(self, neuron: SpikingNeuron) -> None:
        # A copy, because a method of it is replaced.
        self.neuron = dataclasses.replace(neuron)
        self._slope = neuron.surrogate.backward.slope
        self._least = SHARE * tables.largest_slope(neuron.surrogate.backward)

    def step(self, state, current):
        seen = []

        def seeing(_, fired):
            def see(excess):
                seen.append(excess)
                return fired(excess)

            return see

        with methods.replaced([self.neuron], "fired", seeing):
            state, _ = self.neuron.step(state, current)
        large = [tf.abs(self._slope(excess)) >= self._least for excess in seen]
        if not large:
            # A neuron that has no threshold of this kind.
            return state, tf.fill(tf.shape(current), tf.constant(np.nan, current.dtype))
        # A neuron of one's own may have several thresholds.
        return state, tf.cast(tf.reduce_any(large, axis=0), current.dtype)
