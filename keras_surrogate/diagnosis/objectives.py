"""The compiled losses, each with the output that it judges and its targets, for the rules."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_surrogate import activations
from keras_surrogate.diagnosis.passes import Pass


@dataclasses.dataclass(frozen=True, repr=False)
class Objective:
    """One loss.

    Attributes:
        loss: its name in Keras, such as "binary_crossentropy".
        from_logits: its argument; False where it has none.
        layer: the name of the layer that makes the output; None if it is not known.
        activation: the name of the function that this layer applies last, "softmax" included; None
            if it is not known.
        targets, outputs: arrays.
        ignores_a_class: True if targets may hold a number that stands for no class.
    """

    loss: str
    from_logits: bool
    layer: str | None
    activation: str | None
    targets: np.ndarray
    outputs: np.ndarray
    ignores_a_class: bool = False


def of(
    model: keras.Model, layers: Mapping[str, keras.layers.Layer], seen: Pass, y: object
) -> tuple[Objective, ...]:
    """The objectives of a compiled model; none where loss, targets and outputs are not clear.

    Args:
        model: the model.
        layers: its layers by name.
        seen: the forward pass.
        y: the tensors of the targets; None for none.
    """
    has_own_loss = type(model).compute_loss is not keras.Model.compute_loss
    if y is None or has_own_loss or isinstance(model.loss, dict):
        return ()
    losses = keras.tree.flatten(model.loss)
    targets = keras.tree.flatten(y)
    if not len(losses) == len(targets) == len(seen.outputs):
        return ()
    triples = zip(losses, targets, seen.outputs, strict=True)
    return tuple(_objective(layers, seen, *triple) for triple in triples if triple[0] is not None)


def _objective(layers: Mapping[str, keras.layers.Layer], seen: Pass, loss: Any, target, output):
    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    name = getattr(function, "__name__", type(function).__name__)
    settings = function.get_config() if isinstance(function, keras.losses.Loss) else {}
    layer = _maker(layers, seen, output)
    return Objective(
        # BinaryCrossentropy and binary_crossentropy are one loss.
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(),
        bool(settings.get("from_logits", False)),
        layer,
        None if layer is None else _activation(layers[layer]),
        np.asarray(target),
        np.asarray(output, "float32"),
        settings.get("ignore_class") is not None,
    )


def _maker(layers, seen, output):
    """The name of the first layer, in the order of the calls' ends, that returns an output."""
    names = {id(layer): name for name, layer in layers.items()}
    for key, calls in seen.calls.items():
        if any(tensor is output for _, outputs in calls for tensor in outputs):
            return names[key]
    return None


def _activation(layer: keras.layers.Layer) -> str | None:
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    applied = activations.last(layer)
    if applied is not None:
        return applied.name
    return getattr(getattr(layer, "activation", None), "__name__", None)
