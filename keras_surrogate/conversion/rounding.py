"""The rounding of a `FakeQuantize` as a model of Keras's own operations."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from keras_surrogate.layers import FakeQuantize


def check_ranges(asking: str, ranges: Iterable[FakeQuantize]) -> None:
    """Raise a ValueError in the name of the function that asks if a range was never set."""
    unset = [
        layer.name for layer in ranges if not layer.built or float(layer.batches_seen.numpy()) == 0
    ]
    if unset:
        raise ValueError(
            f"{asking}: {', '.join(unset)} saw no batch, so that the range is not that of the "
            "activations. Call conversion.quantize(model, x) with some inputs x, or train the "
            "quantised model first; a layer that is called with training=False needs x."
        )


def plain_rounding(layer: FakeQuantize) -> keras.Model:
    """A functional model with the values of the layer in inference.

    The operations, all in float32, are those of TensorFlow's kernel in their order. In graphs
    TensorFlow multiplies by 1 / step in place of the division. So in `predict`, numbers that lie
    between two levels may become the other one.

    Args:
        layer: a built layer that a functional or Sequential model calls.

    Raises:
        ValueError: the code of a class calls the layer.
    """
    try:
        given = layer.input
    except AttributeError as error:
        raise ValueError(
            f"strip: {layer.name} (FakeQuantize) is called by the code of a class, so that no "
            "plain layers can take its place. Make the model with keras.Sequential or "
            "keras.Model(inputs, outputs), or write a SavedModel: conversion.export(model, path)."
        ) from error
    low = np.float32(layer.low.numpy())
    high = np.float32(layer.high.numpy())
    # Calls of a shared layer may have different shapes.
    inputs = keras.Input(batch_shape=[None] * len(given.shape), dtype=given.dtype)
    if low == high:
        # The layer has only seen zeros, and its step is 0.
        zeros = keras.ops.zeros_like(inputs, dtype=layer.compute_dtype)
        return _passing_masks(keras.Model(inputs, zeros, name=layer.name))

    highest_level = np.float32(2**layer.bits - 1)
    step = (high - low) / highest_level
    # The level of 0, a whole number: the range moves so that 0 is a level.
    zero_level = np.clip(np.floor(-low / step + np.float32(0.5)), 0, highest_level)
    low = -zero_level * step
    high = (highest_level - zero_level) * step

    # A layer casts its input to its dtype first.
    x = keras.ops.cast(inputs, layer.compute_dtype)
    x = keras.ops.cast(x, "float32")
    x = keras.ops.clip(x, float(low), float(high))
    x = (x - float(low)) / float(step)
    level = keras.ops.floor(x - float(zero_level) + 0.5)
    y = keras.ops.cast(level * float(step), layer.compute_dtype)
    return _passing_masks(keras.Model(inputs, y, name=layer.name))


def _passing_masks(model: keras.Model) -> keras.Model:
    """The model, which hands the mask of its input on, as the layer does."""
    model.supports_masking = True
    return model
