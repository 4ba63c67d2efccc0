"""From Keras's activations to functions of the collection, and back."""

import collections
import dataclasses

import keras

from keras_surrogate import activations, functions
from keras_surrogate.conversion import layer_tree


@dataclasses.dataclass(frozen=True)
class Site:
    """One activation within a model.

    Attributes:
        place: the `layer_tree.Place` of the layer that holds it, or that is it.
        slot: the attribute of the layer that holds it; None where the layer itself is it.
        name: the name it goes by.
        function: its function, with its own parameters; None where the collection has none that is
            equal.
    """

    place: layer_tree.Place
    slot: str | None
    name: str
    function: functions.Function | None

    @property
    def layer(self):
        return self.place.layer

    @property
    def path(self):
        return f"{self.place.path}.{self.slot}" if self.slot else self.place.path


def sites(places):
    """A `Site` for each elementwise activation in some places, in their order."""
    for place in places:
        for slot, value in layer_tree.slots(place.layer).items():
            found = activations.of_callable(value)
            if found:
                yield Site(place, slot, found.name, found.function)
        found = activations.of_layer(place.layer)
        if found:
            yield Site(place, None, found.name, found.function)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An activation that a functional model computes on Keras tensors, without a layer.

    Attributes:
        path: the model's.
        name: the name of its function.
        calls: the names of the operations, as the model's summary shows them.
    """

    path: str
    name: str
    calls: tuple

    @property
    def in_words(self):
        times = "once" if len(self.calls) == 1 else f"{len(self.calls)} times"
        return (
            f"calls keras.ops.{self.name} {times} ({', '.join(self.calls)}), which is an operation and not a layer: "
            f'write keras.layers.Activation("{self.name}")(x), or keras_surrogate.get(...)(x), in its place'
        )


def operations(places):
    """An `Operation` for each activation that the functional models among some places compute without a layer."""
    names = {name.replace("_", ""): name for name in functions.names()}
    for place in places:
        calls = collections.defaultdict(list)
        for operation in getattr(place.layer, "operations", []):
            name = names.get(type(operation).__name__.lower())
            if name and not isinstance(operation, keras.layers.Layer):
                calls[name].append(operation.name)
        for name, found in calls.items():
            yield Operation(place.path, name, tuple(found))


def keras_activation(function):
    """What Keras has for a function as an `activation=` argument: a name, a callable or a layer; None if nothing."""
    return _keras_name(function) or keras_layer(function)


def keras_layer(function, **kwargs):
    """The Keras layer that computes a function, made with `kwargs`; None where Keras has none."""
    if isinstance(function, functions.Relu):
        return keras.layers.ReLU(**kwargs)
    if isinstance(function, functions.Relu6):
        return keras.layers.ReLU(max_value=6.0, **kwargs)
    if isinstance(function, functions.ClippedRelu):
        return keras.layers.ReLU(max_value=function.max_value, **kwargs)
    if isinstance(function, functions.LeakyRelu):
        return keras.layers.LeakyReLU(function.negative_slope, **kwargs)
    if isinstance(function, functions.Elu):
        return keras.layers.ELU(
            **({} if function.alpha == 1 else {"alpha": function.alpha}), **kwargs
        )
    if isinstance(function, functions.Threshold) and function.default_value == 0:
        return keras.layers.ReLU(threshold=function.threshold, **kwargs)
    activation = _keras_name(function)
    return activation and keras.layers.Activation(activation, **kwargs)


def _keras_name(function):
    """The name in keras.activations, or the user's own callable; None for what has neither."""
    if isinstance(function, functions.FromCallable):
        return function.function
    name = function.title
    # keras.activations.threshold has no defaults, so that its name alone is no activation.
    named = (
        name in dir(keras.activations) and name != "threshold" and function == functions.get(name)
    )
    return name if named else None
