"""The activation that a Keras layer applies last.

Diagnosis, the logger and `conversion` use only this module for it, so that they agree on the
function of, for example, `ReLU(max_value=1)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_surrogate import functions
from keras_surrogate.layers import SurrogateActivation, SurrogateWeights
from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Applied:
    """An activation and its name.

    Attributes:
        name: the usual name: "relu", "leaky_relu", "prelu".
        surrogate: the activation with its parameters; None if it equals no function of the
            collection.
    """

    name: str
    surrogate: Surrogate | None

    @property
    def function(self) -> functions.Function | None:
        """The function of its value; None if it equals no function of the collection."""
        if self.surrogate is None:
            return None
        return self.surrogate.forward


def of_layer(layer: keras.layers.Layer) -> Applied | None:
    """The activation of an activation layer, such as `ReLU`; None for every other layer.

    `Activation` is among the other layers, because it has an `activation` as `Dense` has.
    """
    describe = _LAYERS.get(type(layer))
    if describe is None:
        return None
    return describe(layer)


def of_callable(activation: Any) -> Applied | None:
    """The activation of an argument `activation=`; None if it is not elementwise, as softmax."""
    if isinstance(activation, keras.layers.Layer):
        return last(activation)
    if isinstance(activation, Surrogate):
        return Applied(activation.forward.title, activation)
    try:
        function = functions.get(activation)
    except ValueError:
        return None
    return Applied(function.title, Surrogate(function))


def last(layer: keras.layers.Layer) -> Applied | None:
    """The activation that a layer applies last; None if it has none, or it is not elementwise."""
    if isinstance(layer, SurrogateWeights):
        # Its surrogate is that of the weights.
        return last(layer.layer)
    found = of_layer(layer)
    if found is not None:
        return found
    activation = getattr(layer, "surrogate", None) or getattr(layer, "activation", None)
    return None if activation is None else of_callable(activation)


def activation_of(layer: keras.layers.Layer) -> Surrogate | None:
    """The activation that a layer applies last, as a `Surrogate`.

    None if the layer has none, or if it equals no function of the collection.
    """
    found = last(layer)
    if found is None:
        return None
    return found.surrogate


def _plain(name: str, function: functions.Function | None) -> Applied:
    if function is None:
        return Applied(name, None)
    return Applied(name, Surrogate(function))


def _of_relu(layer: keras.layers.ReLU) -> Applied:
    limit = layer.max_value
    slope = float(layer.negative_slope or 0)
    threshold = float(layer.threshold or 0)
    if limit is None and threshold == 0:
        if slope == 0:
            return _plain("relu", functions.Relu())
        return _plain("leaky_relu", _leaky(slope))
    if limit is None and slope == 0:
        return _plain("threshold", functions.Threshold(threshold, 0.0))
    if slope or threshold or not limit:
        return Applied("relu", None)
    if limit == 6:
        return _plain("relu6", functions.Relu6())
    return _plain("clipped_relu", functions.ClippedRelu(limit))


def _of_leaky_relu(layer: keras.layers.LeakyReLU) -> Applied:
    return _plain("leaky_relu", _leaky(float(layer.negative_slope)))


def _leaky(slope: float) -> functions.Function | None:
    # Keras takes any slope, the collection only those from 0 to 1.
    if not 0 <= slope <= 1:
        return None
    return functions.LeakyRelu(slope)


def _of_elu(layer: keras.layers.ELU) -> Applied:
    alpha = float(layer.alpha)
    # Keras takes any alpha, the collection only positive ones.
    return _plain("elu", functions.Elu(alpha) if alpha > 0 else None)


def _of_prelu(layer: keras.layers.PReLU) -> Applied:
    return Applied("prelu", None)


def _of_surrogate_activation(layer: SurrogateActivation) -> Applied:
    return Applied(layer.surrogate.forward.title, layer.surrogate)


_LAYERS = {
    keras.layers.ReLU: _of_relu,
    keras.layers.LeakyReLU: _of_leaky_relu,
    keras.layers.ELU: _of_elu,
    keras.layers.PReLU: _of_prelu,
    SurrogateActivation: _of_surrogate_activation,
}
