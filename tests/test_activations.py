"""One function says what a Keras layer applies last, and its value is what the layer computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import activations, functions
from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.surrogate import Surrogate

X = np.linspace(-9, 9, 181, dtype="float32")[np.newaxis]

LAYERS = {
    "relu": lambda: keras.layers.ReLU(),
    "relu6": lambda: keras.layers.ReLU(max_value=6),
    "clipped_relu": lambda: keras.layers.ReLU(max_value=1),
    "threshold": lambda: keras.layers.ReLU(threshold=0.5),
    "leaky_relu": lambda: keras.layers.LeakyReLU(0.3),
    "elu": lambda: keras.layers.ELU(0.5),
    "tanh": lambda: keras.layers.Activation("tanh"),
    "sigmoid": lambda: SurrogateActivation("sigmoid", "tanh"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_function_computes_what_the_layer_computes(name):
    layer = LAYERS[name]()
    found = activations.last(layer)
    assert found.name == name
    np.testing.assert_allclose(found.function.value(tf.constant(X)), layer(X), atol=1e-6)
    within = activations.last(keras.layers.Dense(1, activation=LAYERS[name]()))
    assert within == found


def test_a_relu_with_a_negative_slope_is_a_leaky_relu():
    layer = keras.layers.ReLU(negative_slope=0.2)
    assert activations.activation_of(layer) == Surrogate(functions.LeakyRelu(0.2))


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.ReLU(max_value=1, threshold=0.5),
        keras.layers.ReLU(max_value=1, negative_slope=0.1),
        keras.layers.LeakyReLU(1.5),
        keras.layers.PReLU(),
    ],
)
def test_what_the_collection_does_not_have_has_a_name_and_no_function(layer):
    found = activations.last(layer)
    assert found.name in ("relu", "leaky_relu", "prelu")
    assert found.function is None


@pytest.mark.parametrize(
    "layer", [keras.layers.Dropout(0.5), keras.layers.Dense(1, activation="softmax")]
)
def test_what_is_not_elementwise_is_none(layer):
    assert activations.activation_of(layer) is None


def test_a_surrogate_keeps_its_slope():
    pair = Surrogate("relu", "softplus")
    assert activations.activation_of(keras.layers.Dense(1, activation=pair)) == pair
