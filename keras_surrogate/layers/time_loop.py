"""A neuron's steps in sequence, over the time axis of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from keras_surrogate.layers.neurons import Neuron

State: TypeAlias = "tuple[tf.Tensor, ...]"

# A longer sequence runs in a loop, which is faster to trace and slower to compute.
LONGEST_UNROLLED = 32


def zeros_of_a_step(currents: tf.Tensor) -> tf.Tensor:
    """Zeros with the shape of `currents` without its time axis."""
    shape = tf.shape(currents)
    zeros = tf.zeros(tf.concat([shape[:1], shape[2:]], axis=0), currents.dtype)
    return tf.ensure_shape(zeros, currents.shape[:1] + currents.shape[2:])


def over_units(mask: tf.Tensor, inputs: tf.Tensor) -> tf.Tensor:
    """A mask of the shape (batch, time) as booleans of the shape (batch, time, 1, ..., 1)."""
    ones = tf.ones(inputs.shape.rank - 2, tf.int32)
    return tf.reshape(tf.cast(mask, "bool"), tf.concat([tf.shape(mask), ones], axis=0))


def run(
    neuron: Neuron,
    currents: tf.Tensor,
    state: State,
    mask: tf.Tensor | None = None,
    potentials: bool = False,
    unroll: bool | None = None,
) -> tuple[list[tf.Tensor], State]:
    """Run `neuron` over the time axis.

    Args:
        neuron: the equations.
        currents: shape (batch, time, ...).
        state: the state before the first step, tensors of shape (batch, ...).
        mask: None, or booleans (or 0 and 1) of shape (batch, time). A step where it is False leaves
            the state, and its output is 0.
        potentials: True also returns the potentials.
        unroll: True writes the steps one after another into the graph, False makes a loop. None
            unrolls up to 32 steps.

    Returns:
        A list of the outputs, and of the potentials after each step if wanted, shape
        (batch, time, ...); and the state after the last step.
    """
    steps = currents.shape[1]
    if unroll is None:
        unroll = steps is not None and steps <= LONGEST_UNROLLED
    elif unroll and steps is None:
        raise ValueError(
            "unroll=True needs a known number of time steps, but it is None. Give the input a "
            "fixed length, or use unroll=None."
        )
    sequences = [currents]
    if mask is not None:
        sequences.append(over_units(mask, currents))

    def step(state, current, mask=None):
        after, output = neuron.step(state, current)
        after = tuple(after)
        if mask is not None:
            after = tuple(tf.where(mask, new, old) for new, old in zip(after, state, strict=True))
            output = tf.where(mask, output, tf.zeros_like(output))
        results = [output]
        if potentials:
            results.append(_potential(neuron, after, output))
        return after, results

    if unroll:
        return _unrolled(step, sequences, tuple(state))
    return _looped(step, sequences, tuple(state), 1 + potentials)


def _potential(neuron: Neuron, state: State, output: tf.Tensor) -> tf.Tensor:
    """The potential of a state; the output of a neuron that has none."""
    if "potential" in neuron.states:
        return state[neuron.states.index("potential")]
    return output


def _unrolled(
    step: Callable, sequences: list[tf.Tensor], state: State
) -> tuple[list[tf.Tensor], State]:
    results = []
    for inputs in zip(*(tf.unstack(one, axis=1) for one in sequences), strict=True):
        state, result = step(state, *inputs)
        results.append(result)
    return [tf.stack(over_time, axis=1) for over_time in zip(*results, strict=True)], state


def _looped(
    step: Callable, sequences: list[tf.Tensor], state: State, number_of_results: int
) -> tuple[list[tf.Tensor], State]:
    currents = sequences[0]
    steps = tf.shape(currents)[1]
    inputs = [tf.TensorArray(one.dtype, steps).unstack(_time_first(one)) for one in sequences]
    shape = currents.shape[:1] + currents.shape[2:]
    results = [
        tf.TensorArray(currents.dtype, steps, element_shape=shape) for _ in range(number_of_results)
    ]

    def body(time, state, results):
        state, new = step(state, *(array.read(time) for array in inputs))
        written = [array.write(time, tensor) for array, tensor in zip(results, new, strict=True)]
        return time + 1, state, written

    _, state, results = tf.while_loop(
        lambda time, *_: time < steps,
        body,
        (tf.constant(0), state, results),
        # XLA needs a bound for the gradient.
        maximum_iterations=steps,
    )
    return [_time_first(array.stack()) for array in results], state


def _time_first(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor with its first two axes, batch and time, exchanged."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])
