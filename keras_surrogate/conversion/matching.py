"""From Keras's activations to functions of the collection, and back."""

import dataclasses

import keras

from keras_surrogate import activations, functions
from keras_surrogate.conversion import walking


@dataclasses.dataclass(frozen=True)
class Site:
    """One activation within a model.

    Attributes:
        place: the `walking.Place` of the layer that holds it, or that is it.
        slot: the attribute of the layer that holds it; None where the layer itself is it.
        name: the name it goes by.
        function: its function, with its own parameters; None where the collection has none that is equal.
    """

    place: walking.Place
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
        for slot, value in walking.slots(place.layer).items():
            found = activations.of_callable(value)
            if found:
                yield Site(place, slot, found.name, found.function)
        found = activations.of_layer(place.layer)
        if found:
            yield Site(place, None, found.name, found.function)


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
        return keras.layers.ELU(**({} if function.alpha == 1 else {"alpha": function.alpha}), **kwargs)
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
    named = name in dir(keras.activations) and name != "threshold" and function == functions.get(name)
    return name if named else None
