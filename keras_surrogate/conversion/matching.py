"""From Keras's activations to functions of the collection, and back."""

import dataclasses

import keras

from keras_surrogate import functions
from keras_surrogate.conversion import walking
from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.surrogate import Surrogate


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
            function = _of_callable(value)
            if function:
                yield Site(place, slot, function.title, function)
        describe = _LAYERS.get(type(place.layer))
        if describe:
            yield Site(place, None, *describe(place.layer))


def _of_callable(activation):
    """The function of what serves as an activation; None where it is not elementwise, as softmax."""
    if isinstance(activation, Surrogate):
        return activation.forward
    try:
        return functions.get(activation)
    except ValueError:
        return None


def _of_relu(layer):
    limit, slope, threshold = layer.max_value, layer.negative_slope or 0, layer.threshold or 0
    if (slope, threshold) == (0, 0) and limit in (None, 6):
        return ("relu6", functions.Relu6()) if limit else ("relu", functions.Relu())
    if limit is None and threshold == 0 and 0 <= slope <= 1:
        return "leaky_relu", functions.LeakyRelu(slope)
    if limit is None and slope == 0:
        return "threshold", functions.Threshold(threshold, 0.0)
    return "relu", None


def _of_leaky_relu(layer):
    return "leaky_relu", functions.LeakyRelu(layer.negative_slope) if 0 <= layer.negative_slope <= 1 else None


def _of_elu(layer):
    return "elu", functions.Elu(layer.alpha) if layer.alpha > 0 else None


def _of_surrogate_activation(layer):
    return layer.surrogate.forward.title, layer.surrogate.forward


_LAYERS = {
    keras.layers.ReLU: _of_relu,
    keras.layers.LeakyReLU: _of_leaky_relu,
    keras.layers.ELU: _of_elu,
    keras.layers.PReLU: lambda layer: ("prelu", None),
    SurrogateActivation: _of_surrogate_activation,
}


def keras_activation(function):
    """What Keras has for a function as an `activation=` argument: a name, a callable or a layer; None if nothing."""
    return _keras_name(function) or keras_layer(function)


def keras_layer(function, **kwargs):
    """The Keras layer that computes a function, made with `kwargs`; None where Keras has none."""
    if isinstance(function, functions.Relu):
        return keras.layers.ReLU(**kwargs)
    if isinstance(function, functions.Relu6):
        return keras.layers.ReLU(max_value=6.0, **kwargs)
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
