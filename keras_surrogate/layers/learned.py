"""Learned parameters of neurons: weights of a layer in the place of a neuron's numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import keras
import tensorflow as tf

from keras_surrogate.checks import one_of
from keras_surrogate.layers.neurons import Neuron

# One number for the layer (True is the same), for each entry of the last axis, or for each unit.
Learn: TypeAlias = "bool | Literal['layer', 'channel', 'unit']"
_VALID = (False, True, "layer", "channel", "unit")


def check(neuron: Neuron, learn: Mapping[str, Learn]) -> dict[str, Learn]:
    """`learn` without what is not learned.

    Raises:
        ValueError: the neuron has no such parameter, learning cannot start at its number, or a
            parameter is a tensor, which no file can hold.
    """
    title = neuron.title()
    ranges = neuron.ranges()
    for name in ranges:
        if tf.is_tensor(getattr(neuron, name)):
            raise ValueError(
                f"{title}: {name} must be {ranges[name].meaning}, but is a tensor. Pass float() of "
                "it."
            )
    for name, sharing in learn.items():
        one_of(name, f"{title}: a learned parameter", list(ranges))
        one_of(sharing, f"{title}: learn_{name}", _VALID)
        if sharing and not ranges[name].inside(getattr(neuron, name)):
            raise ValueError(
                f"{title}: a learned {name} must start inside its range, but {name} is "
                f"{getattr(neuron, name)!r}. Start at 0.99, for example, or do not learn it."
            )
    return {name: sharing for name, sharing in learn.items() if sharing}


def add_weights(
    layer: keras.layers.Layer, neuron: Neuron, learn: Mapping[str, Learn], shape: tuple
) -> dict[str, keras.Variable]:
    """Add the weights of the learned parameters to `layer`.

    Args:
        layer: the layer that is being built.
        neuron: its neuron.
        learn: what `check` returned.
        shape: the shape of the units, without batch and time.
    """
    shapes = {True: (), "layer": (), "channel": shape[-1:], "unit": shape}
    weights = {}
    for name, sharing in learn.items():
        if None in shapes[sharing]:
            raise ValueError(
                f"{neuron.title()}: learn_{name}={sharing!r} needs a known shape, but the units "
                f'have the shape {shape}. Use learn_{name}="layer", or fix the shape of the input.'
            )
        start = neuron.ranges()[name].weight(getattr(neuron, name))
        weights[name] = layer.add_weight(
            shape=shapes[sharing],
            initializer=keras.initializers.Constant(start),
            # Mixed precision must not round it.
            autocast=False,
            name=f"raw_{name}",
        )
    return weights


def substituted(neuron: Neuron, weights: Mapping[str, keras.Variable], dtype: str) -> Neuron:
    """`neuron` with tensors for its learned parameters."""
    if not weights:
        return neuron
    ranges = neuron.ranges()
    tensors = {
        name: tf.cast(ranges[name].value(tf.convert_to_tensor(weight)), dtype)
        for name, weight in weights.items()
    }
    return dataclasses.replace(neuron, **tensors)


def values(neuron: Neuron, weights: Mapping[str, keras.Variable], dtype: str) -> dict[str, Any]:
    """The parameters of `neuron`, learned ones as NumPy arrays."""
    now = substituted(neuron, weights, dtype)
    return {
        name: keras.ops.convert_to_numpy(getattr(now, name)) if name in weights else value
        for name, value in neuron.get_config().items()
    }
