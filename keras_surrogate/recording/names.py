"""The layers of a model and their variables, each under one name, in the order in which the layers are called."""

import itertools

import keras

# More levels than any model has.
EVERY_DEPTH = 1000


def layer_variables(model, depth=1, calls=()):
    """The trainable variables of every layer that has some: a dictionary from name to list, first layer first.

    Layers of nested models are named by path, "encoder/dense"; a layer or variable that is used
    twice appears once; equal names are told apart by a number; variables that the model itself owns
    stand under the model's name.

    Args:
        model: a Keras model.
        depth: how far to look into layers that hold layers, an integer of at least 1, default 1:
            such a layer is one entry. With 2 the layers that it holds are entries of their own,
            "block/dense", and so on.
        calls: ids of layers in the order of their calls; default none. Layers that are not among
            them come last, in the order of the model's attributes. Sequential and functional models
            have the order of calls by themselves.
    """
    named, seen = [], set()
    for name, owner in [*_named_layers(model, depth), (model.name, model)]:
        variables = [variable for variable in owner.trainable_variables if id(variable) not in seen]
        seen.update(map(id, variables))
        if variables:
            named.append((name, owner, variables))
    groups = {}
    for name, _, variables in _in_call_order(named, calls):
        groups[unused(name, groups)] = variables
    return groups


def variables_by_path(model, depth=None, calls=()):
    """The trainable variables of a model, each by itself under its path in Keras, "encoder/dense/kernel".

    The model's own name is left out at the front. The order is that of `layer_variables` at every
    `depth`, which has no effect here.
    """
    groups = {}
    for variables in layer_variables(model, EVERY_DEPTH, calls).values():
        for variable in variables:
            groups[unused(variable.path.removeprefix(f"{model.name}/"), groups)] = [variable]
    return groups


def layers_by_name(model, depth=1, calls=()):
    """The layers that compute something, each once: a dictionary from name to layer, as in `layer_variables`."""
    named, seen = [], set()
    for name, layer in _named_layers(model, depth):
        if not isinstance(layer, keras.Model | keras.layers.InputLayer) and id(layer) not in seen:
            seen.add(id(layer))
            named.append((name, layer))
    layers = {}
    for name, layer in _in_call_order(named, calls):
        layers[unused(name, layers)] = layer
    return layers


def layers_within(model, depth=1):
    """Every layer and model within a model whose call tells the order, each once."""
    return list({id(layer): layer for _, layer in _named_layers(model, depth)}.values())


def everything_within(layer):
    """Every layer within a layer or model, however deep, each once."""
    found = {}
    ahead = [layer]
    while ahead:
        below = [child for child in children(ahead.pop()).values() if id(child) not in found]
        found.update({id(child): child for child in below})
        ahead += below
    return list(found.values())


def children(layer):
    """The layers that a layer holds itself, each once, by a key that is the same in a copy."""
    if isinstance(layer, keras.Model):
        return dict(enumerate(layer.layers))
    # Public attributes first: Keras holds the same layers once more in lists, whose order may
    # depend on activations.
    attributes = sorted(vars(layer).items(), key=lambda item: item[0].startswith("_"))
    found = {}
    for key, value in _layers_in(attributes):
        if id(value) not in map(id, found.values()):
            found[key] = value
    return found


def _layers_in(items, prefix=""):
    for key, value in items:
        if isinstance(value, keras.layers.Layer):
            yield f"{prefix}{key}", value
        elif isinstance(value, list | tuple | dict):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            yield from _layers_in(inner, f"{prefix}{key}/")


def _named_layers(layer, depth, prefix=""):
    """(name, layer) for all layers within, inner ones before the one that holds them."""
    for child in children(layer).values():
        if _levels_below(child, depth) > 0:
            yield from _named_layers(child, _levels_below(child, depth), f"{prefix}{child.name}/")
        yield prefix + child.name, child


def _levels_below(layer, depth):
    """How far to look into a layer: into a model always, into an RNN never, whose cell's variables are its own."""
    if isinstance(layer, keras.Model):
        return depth
    return 0 if isinstance(layer, keras.layers.RNN) else depth - 1


def _in_call_order(named, calls):
    """Tuples of a name, a layer and more, sorted by the layer's first call; those that were not called come last."""
    places = {key: place for place, key in enumerate(calls)}
    return sorted(named, key=lambda item: places.get(id(item[1]), len(places)))


def unused(name, taken):
    """`name`, with the first of _1, _2, ... that makes it new; "global" is taken by the norm over all layers."""
    if name not in taken and name != "global":
        return name
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return next(candidate for candidate in numbered if candidate not in taken)
