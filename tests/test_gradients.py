"""The pieces of the measurement: norms, names of layers, the tap, the buffer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_surrogate import gradients


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), st.integers(-30, 30))
def test_norm_is_numpy_norm_at_every_magnitude(numbers, exponent):
    array = np.array(numbers) * 10.0**exponent
    expected = np.linalg.norm(array.astype("float32").astype("float64"))
    np.testing.assert_allclose(gradients.norms([tf.constant(array, tf.float32)])[0], expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_norms_of_ordinary_vanishing_and_zero_gradients_together(jit_compile):
    tensors = [tf.constant([3.0, 4.0]) * scale for scale in (1.0, 1e-25, 0.0, 1e25)]
    compiled = tf.function(lambda tensors: gradients.norms(tensors), jit_compile=jit_compile)
    np.testing.assert_allclose(compiled(tensors), [5, 5e-25, 0, 5e25], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_norm_in_every_dtype(dtype):
    np.testing.assert_allclose(gradients.norms([tf.constant([300.0, 400.0], dtype)]), 500)


def test_norm_of_sparse_gradients_adds_repeated_rows():
    slices = tf.IndexedSlices(
        tf.constant([[1.0], [2.0], [4.0]]), tf.constant([0, 0, 1]), dense_shape=tf.constant([3, 1])
    )
    np.testing.assert_allclose(gradients.norms([slices]), 5)


@pytest.mark.parametrize("shape", [(), (2,), (2, 1), (1, 2), (1, 2, 1, 1)])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norm_of_what_is_not_finite_is_not_finite(bad, jit_compile, shape):
    compiled = tf.function(lambda tensor: gradients.norms([tensor, tf.ones(3)]), jit_compile=jit_compile)
    assert not np.isfinite(compiled(tf.reshape([1.0, bad][-int(np.prod(shape)) :], shape))[0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 9))
def test_norm_of_tensors_of_every_shape(shape, seed):
    array = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_allclose(gradients.norms([tf.constant(array)])[0], np.sqrt(np.sum(array**2)), rtol=1e-12)


def test_layers_are_named_by_path_and_counted_once():
    shared = keras.layers.Dense(4, name="same")
    encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="dense")], name="encoder")
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1, name="head")(shared(encoder(shared(inputs))))
    frozen = keras.layers.Dense(1, name="frozen", trainable=False)(outputs)
    model = keras.Model(inputs, frozen)
    groups = gradients.layer_variables(model)
    assert list(groups) == ["same", "encoder/dense", "head"]
    assert [id(variable) for group in groups.values() for variable in group] == [
        id(variable) for variable in model.trainable_variables
    ]


def test_equal_names_are_told_apart_and_a_models_own_variable_has_its_name():
    class Twin(keras.Model):
        def __init__(self):
            super().__init__(name="twin")
            self.left = keras.layers.Dense(1, name="dense")
            self.right = keras.layers.Dense(1, name="dense")
            self.offset = self.add_weight(shape=(), name="offset")

        def call(self, inputs):
            return self.left(inputs) + self.right(inputs) + self.offset

    model = Twin()
    model(tf.ones((1, 2)))
    assert {name: len(group) for name, group in gradients.layer_variables(model).items()} == {
        "dense": 2,
        "dense_1": 2,
        "twin": 1,
    }
