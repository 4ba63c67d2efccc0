"""Inputs, and how the tests of layers compute and compare gradients."""

import numpy as np
import tensorflow as tf

X = np.array([[-2.1, -0.6, 0.7, 3.2], [0.4, -1.3, -0.2, 1.9], [1.1, 0.3, -0.9, -3.4]])
UPSTREAM = np.array([[1.5, -0.5, 2.0, -1.0], [-3.0, 0.25, -0.75, 1.0], [0.5, 1.25, 2.5, -2.0]])


def value_and_gradients(function, x, upstream=None, weights=()):
    """The value, and the gradients of sum(upstream * value) with respect to `x` and to each of the weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    sources = [x, *(weight.value for weight in weights)]
    gradients = tape.gradient(y, sources, None if upstream is None else tf.cast(upstream, y.dtype))
    assert all(gradient is not None for gradient in gradients), "a gradient is None"
    return y, *gradients


def assert_same(got, expected, rtol=1e-5, atol=1e-7):
    for index, pair in enumerate(zip(got, expected, strict=True)):
        got_array, expected_array = (np.asarray(tensor).astype("float64") for tensor in pair)
        np.testing.assert_allclose(got_array, expected_array, rtol, atol, err_msg=f"number {index}")


def set_random_weights(model):
    generator = np.random.default_rng(1)
    model.set_weights([generator.normal(0, 0.5, weight.shape) for weight in model.weights])
