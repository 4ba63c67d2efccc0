"""The context in which the only custom gradient is turned off."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, true_gradients
from keras_surrogate.custom_gradient import noted_custom_gradients, with_slope

PAIR = Surrogate("relu", "softplus")
X = np.array([[-2.0, -0.5, 0.5, 3.0]], "float32")


def value_and_gradient(function, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y.numpy(), tape.gradient(y, x).numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_true_gradients_inside_the_context_only():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation(PAIR)])
    with true_gradients(model):
        np.testing.assert_array_equal(value_and_gradient(model, X)[1], X > 0)
        np.testing.assert_array_equal(value_and_gradient(tf.function(model), X)[1], X > 0)
    np.testing.assert_allclose(value_and_gradient(model, X)[1], sigmoid(X), rtol=1e-6)


def test_true_gradients_hold_for_fit_and_end_with_the_context():
    def fitted(pair, context=contextlib.nullcontext):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(5, activation=pair), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        with context(model):
            model.fit(np.repeat(X, 8, axis=0), np.ones((8, 1)), verbose=0)
        return model

    def weights(model):
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    inside = fitted(PAIR, true_gradients)
    np.testing.assert_allclose(weights(inside), weights(fitted(PAIR.true())), rtol=1e-6)
    assert not np.allclose(weights(inside), weights(fitted(PAIR)))
    assert inside.train_function is None


def test_uses_of_custom_gradients_are_noted_inside_the_context_only():
    with noted_custom_gradients() as uses:
        tf.nn.relu(X)
        with true_gradients(keras.layers.Activation(PAIR)):
            PAIR(X)
        assert not uses
        PAIR(X)
        assert len(uses) == 1
        tf.function(PAIR)(X)
        assert len(uses) == 2
        with_slope(tf.constant(X), tf.nn.relu, tf.sigmoid)
        assert len(uses) == 3
    PAIR(X)
    assert len(uses) == 3


def test_true_gradients_end_after_an_error_and_need_a_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation(PAIR)])
    with pytest.raises(RuntimeError), true_gradients(model):
        raise RuntimeError
    np.testing.assert_allclose(value_and_gradient(model, X)[1], sigmoid(X), rtol=1e-6)
    with (
        pytest.raises(ValueError, match="needs a Keras layer or model, but got 3"),
        true_gradients(3),
    ):
        pass
