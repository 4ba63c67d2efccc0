"""The layers within a layer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import keras


def everything_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Every layer within a layer or model, at every depth, each once."""
    found: dict[int, keras.layers.Layer] = {}
    ahead = [layer]
    while ahead:
        below = [child for child in children(ahead.pop()).values() if id(child) not in found]
        found.update({id(child): child for child in below})
        ahead += below
    return list(found.values())


def children(layer: keras.layers.Layer) -> dict[int | str, keras.layers.Layer]:
    """The layers that a layer holds itself, each once.

    Returns:
        A dictionary from a key, which is the same in a copy of the layer, to a layer.
    """
    if isinstance(layer, keras.Model):
        return dict(enumerate(layer.layers))
    # Public attributes first: Keras holds the same layers again in private lists, whose order may
    # depend on activations.
    attributes = sorted(vars(layer).items(), key=lambda item: item[0].startswith("_"))
    found: dict[int | str, keras.layers.Layer] = {}
    for key, value in _layers_in(attributes):
        if id(value) not in map(id, found.values()):
            found[key] = value
    return found


def _layers_in(
    items: Iterable[tuple[Hashable, Any]], prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    for key, value in items:
        if isinstance(value, keras.layers.Layer):
            yield f"{prefix}{key}", value
        elif isinstance(value, list | tuple | dict):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            yield from _layers_in(inner, f"{prefix}{key}/")
