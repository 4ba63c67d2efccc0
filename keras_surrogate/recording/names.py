"""The layers of a model and their variables: unique names in the order of the layers' calls."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import keras

from keras_surrogate.layers.within import children as children
from keras_surrogate.layers.within import everything_within as everything_within

# A depth beyond that of any model.
EVERY_DEPTH: int = 1000


def layer_variables(
    model: keras.Model, depth: int = 1, calls: Sequence[int] = ()
) -> dict[str, list[keras.Variable]]:
    """The trainable variables of every layer that has some, first layer first.

    Layers of nested models are named by path, "encoder/dense". A layer or variable that is used
    twice appears once. Equal names get a number. Variables that the model itself owns have the
    model's name.

    Args:
        model: a Keras model.
        depth: the number of levels of layers that hold layers, an integer of at least 1, default 1:
            such a layer is one entry. With 2 the layers within it are entries too, "block/dense",
            and so on.
        calls: ids of layers in the order of their calls; default none. Layers that are not among
            them come last, in the order of the model's attributes. Sequential and functional models
            need no `calls`.

    Returns:
        A dictionary from name to list of variables.
    """
    named = _named(model, depth, calls)
    return {name: variables for name, (_, variables) in named.items() if variables}


def variables_by_path(
    model: keras.Model, calls: Sequence[int] = ()
) -> dict[str, list[keras.Variable]]:
    """The trainable variables of a model, each by itself under its path in Keras.

    The path is that of Keras, "encoder/dense/kernel", without the model's own name at the front.
    The order is that of `layer_variables` at every depth.

    Args:
        model: a Keras model.
        calls: as in `layer_variables`.

    Returns:
        A dictionary from path to a list of one variable.
    """
    groups: dict[str, list[keras.Variable]] = {}
    for variables in layer_variables(model, EVERY_DEPTH, calls).values():
        for variable in variables:
            path = variable.path.removeprefix(f"{model.name}/")
            groups[unused(path, groups)] = [variable]
    return groups


def layers_by_name(
    model: keras.Model, depth: int = 1, calls: Sequence[int] = ()
) -> dict[str, keras.layers.Layer]:
    """The layers that compute something, each once, in the order of their calls.

    The arguments and names are those of `layer_variables`.

    Returns:
        A dictionary from name to layer.
    """
    named = _named(model, depth, calls)
    return {name: layer for name, (layer, _) in named.items() if not isinstance(layer, keras.Model)}


def layers_within(model: keras.Model, depth: int = 1) -> list[keras.layers.Layer]:
    """Every layer and model within a model whose calls give the order, each once."""
    return list({id(layer): layer for _, layer in _named_layers(model, depth)}.values())


def _named(
    model: keras.Model, depth: int, calls: Sequence[int]
) -> dict[str, tuple[keras.layers.Layer, list[keras.Variable]]]:
    """Layers, and models with variables of their own, with the variables that no other has.

    Names are given once for gradients and outputs, so that a name is that of one layer.
    """
    found = []
    owners: set[int] = set()
    seen: set[int] = set()
    for name, owner in [*_named_layers(model, depth), (model.name, model)]:
        if isinstance(owner, keras.layers.InputLayer) or id(owner) in owners:
            continue
        owners.add(id(owner))
        variables = [variable for variable in owner.trainable_variables if id(variable) not in seen]
        seen.update(map(id, variables))
        if variables or not isinstance(owner, keras.Model):
            found.append((name, owner, variables))
    named: dict[str, tuple[keras.layers.Layer, list[keras.Variable]]] = {}
    for name, owner, variables in _in_call_order(found, calls):
        named[unused(name, named)] = (owner, variables)
    return named


def _named_layers(
    layer: keras.layers.Layer, depth: int, prefix: str = ""
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Pairs (name, layer) of all layers within, inner layers before the layer that holds them."""
    for child in children(layer).values():
        levels = _levels_below(child, depth)
        if levels > 0:
            yield from _named_layers(child, levels, f"{prefix}{child.name}/")
        yield prefix + child.name, child


def _levels_below(layer: keras.layers.Layer, depth: int) -> int:
    """The depth for the layers within a layer."""
    if isinstance(layer, keras.Model):
        return depth
    # The variables of an RNN's cell count as the RNN's own.
    return 0 if isinstance(layer, keras.layers.RNN) else depth - 1


def _in_call_order(named: list[tuple], calls: Sequence[int]) -> list[tuple]:
    """Tuples (name, layer, ...), sorted by the layer's first call; those without a call last."""
    places = {key: place for place, key in enumerate(calls)}
    return sorted(named, key=lambda item: places.get(id(item[1]), len(places)))


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, with the first of the endings _1, _2, ... that makes it unique, if it is taken.

    "global" is always taken, by the norm over all layers.
    """
    if name not in taken and name != "global":
        return name
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return next(candidate for candidate in numbered if candidate not in taken)
