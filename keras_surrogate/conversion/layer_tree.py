"""The layers of a model, however deep, and the activations that they hold."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator

import keras

from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.layers.within import children
from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer within a model.

    Attributes:
        path: the names of the layers around it and its own, joined by "/".
        layer: the layer.
        owner: the layer that calls it as its activation, or None.
    """

    path: str
    layer: keras.layers.Layer
    owner: keras.layers.Layer | None = None

    @property
    def chosen_as(self) -> keras.layers.Layer:
        """The layer that selects this one: the Dense layer of `Dense(activation=LeakyReLU())`."""
        return self.owner or self.layer


def walk(model: keras.layers.Layer) -> Iterator[Place]:
    """A place for the model and for each layer in it; of shared layers the first place."""
    seen = {id(model)}
    yield Place(model.name, model)
    yield from _below(model, "", seen)


def _below(layer, prefix, seen):
    owned = {id(value) for value in _activation_attributes(layer).values()}
    for child in children(layer).values():
        if id(child) not in seen and not _is_cell_of(layer, child):
            seen.add(id(child))
            yield Place(prefix + child.name, child, layer if id(child) in owned else None)
            yield from _below(child, f"{prefix}{child.name}/", seen)


def pairs(
    model: keras.Model, copy: keras.Model
) -> Iterator[tuple[str, keras.layers.Layer, keras.layers.Layer]]:
    """(path, layer, counterpart) for each layer of a model and its copy, outer layers first.

    A `SurrogateWeights` whose counterpart is a plain layer stands for the layer that it wraps.
    """
    seen = {id(model)}
    yield model.name, model, copy
    yield from _pairs_below(model, copy, "", seen)


def _pairs_below(layer, copy, prefix, seen):
    counterparts = children(copy)
    for key, child in children(layer).items():
        if id(child) not in seen and key in counterparts:
            seen.add(id(child))
            path = prefix + child.name
            counterpart = counterparts[key]
            if isinstance(child, SurrogateWeights) and not isinstance(counterpart, type(child)):
                child = child.layer
            yield path, child, counterpart
            yield from _pairs_below(child, counterpart, f"{path}/", seen)


def _is_cell_of(layer, child):
    """True for the cell of an LSTM or a similar layer, whose activations are those of the layer."""
    return bool(_passed_through(layer)) and child is getattr(layer, "cell", None)


_PROPERTIES = {"activation", "recurrent_activation"}


def _passed_through(layer):
    return {name for name in _PROPERTIES if isinstance(getattr(type(layer), name, None), property)}


def slots(layer: keras.layers.Layer) -> dict[str, Callable]:
    """The activations that a layer holds as functions, by attribute name; no strings, no layers."""
    return {
        name: value
        for name, value in _activation_attributes(layer).items()
        if not isinstance(value, keras.layers.Layer)
    }


def _activation_attributes(layer):
    if is_ours(layer):
        return {}
    public = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
    held = {
        name: value
        for name, value in public.items()
        if name.endswith("activation") or _is_activation(value)
    }
    shown = {name: getattr(layer, name) for name in sorted(_passed_through(layer))}
    return {name: value for name, value in {**held, **shown}.items() if callable(value)}


def _is_activation(value):
    """True for a surrogate or a function of keras.activations, in an attribute of any name."""
    if isinstance(value, types.FunctionType):
        return getattr(keras.activations, value.__name__, None) is value
    return isinstance(value, Surrogate)


def set_slot(layer: keras.layers.Layer, name: str, value: Callable) -> None:
    """Set an activation of a layer; of an LSTM or a similar layer, that of its cell."""
    owner = layer.cell if name in _passed_through(layer) else layer
    setattr(owner, name, value)


def is_ours(layer: keras.layers.Layer) -> bool:
    """True for a layer of this package, which is replaced as a whole and has no slots."""
    return type(layer).__module__.split(".")[0] == "keras_surrogate"


def has_own_call(layer: keras.layers.Layer) -> bool:
    """True if `call` is the user's own code, which may call activations that are not found."""
    return type(layer).call.__module__.split(".")[0] not in ("keras", "keras_surrogate")
