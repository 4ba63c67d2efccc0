"""The function that a Keras layer applies last: the only place that knows it.

Diagnosis, the logger and `conversion` all ask here, so that they agree on what `ReLU(max_value=1)`
is.
"""

import dataclasses

import keras

from keras_surrogate import functions
from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Applied:
    """An activation and its name.

    Attributes:
        name: the name that people know it by: "relu", "leaky_relu", "prelu".
        surrogate: the activation, with its own parameters; None where no function of the collection
            equals it.
    """

    name: str
    surrogate: Surrogate | None

    @property
    def function(self):
        """The function that gives its value; None where no function of the collection equals it."""
        return self.surrogate and self.surrogate.forward


def of_layer(layer):
    """What a layer is that is nothing but an activation: an `Applied`; None for every other layer.

    `Activation` is among the other layers, since it holds its activation as `Dense` does.
    """
    describe = _LAYERS.get(type(layer))
    return describe and describe(layer)


def of_callable(activation):
    """What serves as `activation=`: an `Applied`; None where it is not elementwise, as softmax."""
    if isinstance(activation, keras.layers.Layer):
        return last(activation)
    if isinstance(activation, Surrogate):
        return Applied(activation.forward.title, activation)
    try:
        function = functions.get(activation)
    except ValueError:
        return None
    return Applied(function.title, Surrogate(function))


def last(layer):
    """What any layer applies last: an `Applied`; None where that is nothing, or not elementwise."""
    found = of_layer(layer)
    if found is not None:
        return found
    activation = getattr(layer, "surrogate", None) or getattr(layer, "activation", None)
    return None if activation is None else of_callable(activation)


def activation_of(layer):
    """What a layer applies last, as a `Surrogate`; None where that is nothing, or no function of single numbers."""
    found = last(layer)
    return found and found.surrogate


def _plain(name, function):
    return Applied(name, function and Surrogate(function))


def _of_relu(layer):
    limit = layer.max_value
    slope = float(layer.negative_slope or 0)
    threshold = float(layer.threshold or 0)
    if limit is None and threshold == 0:
        return _plain("leaky_relu", _leaky(slope)) if slope else _plain("relu", functions.Relu())
    if limit is None and slope == 0:
        return _plain("threshold", functions.Threshold(threshold, 0.0))
    if slope or threshold or not limit:
        return Applied("relu", None)
    return (
        _plain("relu6", functions.Relu6())
        if limit == 6
        else _plain("clipped_relu", functions.ClippedRelu(limit))
    )


def _of_leaky_relu(layer):
    return _plain("leaky_relu", _leaky(float(layer.negative_slope)))


def _leaky(slope):
    """Keras takes any slope, the collection those from 0 to 1."""
    return functions.LeakyRelu(slope) if 0 <= slope <= 1 else None


def _of_elu(layer):
    alpha = float(layer.alpha)
    return _plain("elu", functions.Elu(alpha) if alpha > 0 else None)


def _of_surrogate_activation(layer):
    return Applied(layer.surrogate.forward.title, layer.surrogate)


_LAYERS = {
    keras.layers.ReLU: _of_relu,
    keras.layers.LeakyReLU: _of_leaky_relu,
    keras.layers.ELU: _of_elu,
    keras.layers.PReLU: lambda layer: Applied("prelu", None),
    SurrogateActivation: _of_surrogate_activation,
}
