"""A neuron's steps in sequence, over the time axis of a tensor."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

from keras_surrogate.layers.neurons import Neuron

State: TypeAlias = "tuple[tf.Tensor, ...]"

# A longer sequence runs in a loop: it takes less long to trace, and a third longer to compute.
LONGEST_UNROLLED = 32


def zeros_of_a_step(currents: tf.Tensor) -> tf.Tensor:
    """Zeros with the shape of `currents` without its time axis."""
    shape = tf.shape(currents)
    zeros = tf.zeros(tf.concat([shape[:1], shape[2:]], axis=0), currents.dtype)
    return tf.ensure_shape(zeros, currents.shape[:1] + currents.shape[2:])


def run(
    neuron: Neuron, currents: tf.Tensor, state: State, mask: tf.Tensor | None, unroll: bool | None
) -> tuple[tf.Tensor, tf.Tensor, State]:
    """Run `neuron` over the time axis.

    Args:
        neuron: the equations.
        currents: shape (batch, time, ...).
        state: the state before the first step, tensors of shape (batch, ...).
        mask: None, or booleans of shape (batch, time). A step where it is False leaves the state,
            and its output is 0.
        unroll: True writes the steps one after another into the graph, False makes a loop. None,
            unrolls up to 32 steps.

    Returns:
        The outputs and the potentials after each step, shape (batch, time, ...), and the state
        after the last step.
    """
    if mask is not None:
        # From (batch, time) to (batch, time, 1, ..., 1).
        ones = [1] * (currents.shape.rank - 2)
        mask = tf.reshape(mask, tf.concat([tf.shape(mask), tf.constant(ones, tf.int32)], axis=0))
    steps = currents.shape[1]
    if unroll is None:
        unroll = steps is not None and steps <= LONGEST_UNROLLED
    elif unroll and steps is None:
        raise ValueError(
            "unroll=True needs a known number of time steps, but it is None. Give the input a "
            "fixed length, or use unroll=None."
        )
    if unroll:
        return _unrolled(neuron, currents, state, mask)
    return _looped(neuron, currents, state, mask)


def _step(
    neuron: Neuron, state: State, current: tf.Tensor, mask: tf.Tensor | None
) -> tuple[State, tf.Tensor]:
    after, output = neuron.step(state, current)
    if mask is None:
        return tuple(after), output
    kept = tuple(tf.where(mask, new, old) for new, old in zip(after, state, strict=True))
    return kept, tf.where(mask, output, tf.zeros_like(output))


def _potential(neuron: Neuron, state: State, output: tf.Tensor) -> tf.Tensor:
    """The potential of a state; the output of a neuron that has none."""
    if "potential" in neuron.states:
        return state[neuron.states.index("potential")]
    return output


def _unrolled(neuron, currents, state, mask):
    steps = currents.shape[1]
    masks = [None] * steps if mask is None else tf.unstack(mask, steps, axis=1)
    outputs = []
    potentials = []
    for current, step_mask in zip(tf.unstack(currents, steps, axis=1), masks, strict=True):
        state, output = _step(neuron, state, current, step_mask)
        outputs.append(output)
        potentials.append(_potential(neuron, state, output))
    return tf.stack(outputs, axis=1), tf.stack(potentials, axis=1), state


def _looped(neuron, currents, state, mask):
    currents = _time_first(currents)
    steps = tf.shape(currents)[0]
    current_array = tf.TensorArray(currents.dtype, steps).unstack(currents)
    if mask is not None:
        mask_array = tf.TensorArray(tf.bool, steps).unstack(_time_first(mask))
    shape = currents.shape[1:]
    outputs = tf.TensorArray(currents.dtype, steps, element_shape=shape)
    potentials = tf.TensorArray(currents.dtype, steps, element_shape=shape)

    def body(time, state, outputs, potentials):
        step_mask = None if mask is None else mask_array.read(time)
        state, output = _step(neuron, state, current_array.read(time), step_mask)
        potential = _potential(neuron, state, output)
        return time + 1, state, outputs.write(time, output), potentials.write(time, potential)

    _, state, outputs, potentials = tf.while_loop(
        lambda time, *_: time < steps,
        body,
        (tf.constant(0), tuple(state), outputs, potentials),
        # XLA needs a bound for the gradient.
        maximum_iterations=steps,
    )
    return _time_first(outputs.stack()), _time_first(potentials.stack()), state


def _time_first(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor with its first two axes, batch and time, exchanged."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
