"""The contract, over the whole collection: `functions.names()` is the only list."""

import dataclasses

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_surrogate import functions, testing

# The names that a formula in a docstring may use.
_FORMULA_NAMES = {**vars(np), **vars(scipy.special), "sigmoid": scipy.special.expit, "ndtr": scipy.special.ndtr}


def evaluated(function, key, x):
    parameters = dataclasses.asdict(function)
    with np.errstate(all="ignore"):
        return np.broadcast_to(eval(function.documented(key), {**_FORMULA_NAMES, **parameters, "x": x}), x.shape)


def variants(name):
    """The default and, for every parameter, one other value."""
    default = functions.get(name)
    yield default
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        other = not value if isinstance(value, bool) else 0.6 * value + 0.1
        yield dataclasses.replace(default, **{field.name: other})


VARIANTS = [variant for name in functions.names() for variant in variants(name)]


@pytest.mark.parametrize("function", VARIANTS, ids=str)
def test_contract(function):
    testing.check_function(function)


@pytest.mark.parametrize("function", VARIANTS, ids=str)
@pytest.mark.parametrize("key", ["value", "slope"])
def test_docstring_formula_is_what_is_computed(function, key):
    x = np.append(testing.POINTS, [0.0, -1.0, 1.0])
    computed = getattr(function, key)(tf.constant(x))
    np.testing.assert_allclose(computed, evaluated(function, key, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", functions.names())
def test_docstring_has_summary_and_source_and_arguments(name):
    function = functions.get(name)
    doc = type(function).__doc__
    assert doc.splitlines()[0].endswith((".", ":"))
    assert function.documented("Source")
    for field in dataclasses.fields(function):
        assert f"{field.name}:" in doc
        assert "default" in doc


@pytest.mark.parametrize("name", [name for name in functions.names() if hasattr(keras.activations, name)])
def test_agrees_with_keras(name):
    function, x = functions.get(name), tf.constant(testing.POINTS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = getattr(keras.activations, name)(x)
    # Some of Keras's activations hold constants in float32.
    np.testing.assert_allclose(function.value(x), expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(function.slope(x), tape.gradient(expected, x), rtol=1e-7, atol=1e-7)
