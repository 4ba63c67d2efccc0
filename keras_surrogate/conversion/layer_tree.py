"""The layers of a live model with the places where they hold activations, however deep."""

import dataclasses
import types

import keras

from keras_surrogate.recording.names import children
from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer within a model: its path of names, and the layer that calls it as its activation, if one does."""

    path: str
    layer: keras.layers.Layer
    owner: keras.layers.Layer | None = None

    @property
    def chosen_as(self):
        """The layer by which people mean this one: `Dense(activation=LeakyReLU())` is a Dense layer."""
        return self.owner or self.layer


def walk(model):
    """A `Place` for the model and for each layer in it, once each; of shared layers the first place."""
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


def pairs(model, copy):
    """(path, layer, its counterpart) for each layer of a model and a copy of the same structure, outer layers first."""
    seen = {id(model)}
    yield model.name, model, copy
    yield from _pairs_below(model, copy, "", seen)


def _pairs_below(layer, copy, prefix, seen):
    counterparts = children(copy)
    for key, child in children(layer).items():
        if id(child) not in seen and key in counterparts:
            seen.add(id(child))
            yield prefix + child.name, child, counterparts[key]
            yield from _pairs_below(child, counterparts[key], f"{prefix}{child.name}/", seen)


def _is_cell_of(layer, child):
    """Whether `layer` is an LSTM or the like: its cell's activations are its own, and stand in its configuration."""
    return bool(_passed_through(layer)) and child is getattr(layer, "cell", None)


_PROPERTIES = {"activation", "recurrent_activation"}


def _passed_through(layer):
    return {name for name in _PROPERTIES if isinstance(getattr(type(layer), name, None), property)}


def slots(layer):
    """The activations that a layer holds as functions, by attribute name: strings and layers are not among them."""
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
    """Whether an attribute of any name holds an activation: a surrogate, or a function of keras.activations."""
    if isinstance(value, types.FunctionType):
        return getattr(keras.activations, value.__name__, None) is value
    return isinstance(value, Surrogate)


def set_slot(layer, name, value):
    """Sets an activation of a live layer; of an LSTM or the like, its cell's."""
    setattr(layer.cell if name in _passed_through(layer) else layer, name, value)


def is_ours(layer):
    """Whether it is a layer of this package, whose surrogate is no argument to be exchanged but all that it is."""
    return type(layer).__module__.split(".")[0] == "keras_surrogate"


def has_own_call(layer):
    """Whether what the layer computes is the user's own code, in which activations may be called unseen."""
    return type(layer).call.__module__.split(".")[0] not in ("keras", "keras_surrogate")
