"""The contract, over the whole collection: `functions.names()` is the only list."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf

from keras_surrogate import functions, testing


def variants(name):
    """The default and, for every parameter, one other value."""
    default = functions.get(name)
    yield default
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        other = 0.6 * value + 0.11
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        yield dataclasses.replace(default, **{field.name: other})


VARIANTS = [variant for name in functions.names() for variant in variants(name)]


@pytest.mark.parametrize("function", VARIANTS, ids=str)
def test_contract(function):
    testing.check_function(function)


@pytest.mark.parametrize("name", functions.names())
@pytest.mark.parametrize("key", ["value", "slope"])
def test_every_function_has_formulas_which_the_contract_then_checks(name, key):
    assert functions.get(name).documented(key)


def points_of_interest(function):
    """0, round numbers, where kinks lie, and the parameters, of either sign."""
    parameters = [float(value) for value in dataclasses.asdict(function).values()]
    return np.multiply.outer([1, -1], [0, 0.5, 1, 2, 3, 6, *parameters]).ravel()


@pytest.mark.parametrize("function", VARIANTS, ids=str)
@pytest.mark.parametrize(("low", "high"), [(-3.07, -0.43), (-0.43, 0.71), (0.71, 2.93)])
def test_value_is_the_integral_of_slope(function, low, high):
    """By SciPy's quadrature; where the value jumps, which a fine grid shows, the jumps are taken off."""
    # Quarters too, where the slopes of few-bit numbers are steepest.
    places = {*points_of_interest(function), *np.arange(-3, 3, 0.25)}
    kinks = [x for x in places if low < x < high]

    def slope(x):
        return function.slope(tf.constant(x, tf.float64)).numpy()

    # Between kinks a slope is smooth, so that a few hundred points in one call usually do.
    pieces = itertools.pairwise(sorted({low, *kinks, high}))
    area = sum(scipy.integrate.fixed_quad(slope, *ends, n=200)[0] for ends in pieces)
    rises = np.diff(function.value(tf.linspace(tf.constant(low, tf.float64), high, 100_000)))
    jumps = rises[np.abs(rises) > 0.01]
    risen = rises.sum() - jumps.sum()
    tolerance = {"rtol": 1e-7, "atol": 1e-7 + 1e-4 * len(jumps)}
    if not np.isclose(area, risen, **tolerance):
        # A kink elsewhere, which the adaptive method finds.
        area, _ = scipy.integrate.quad(slope, low, high, points=kinks, limit=500, epsabs=3e-8)
    np.testing.assert_allclose(risen, area, **tolerance)


@pytest.mark.parametrize("function", VARIANTS, ids=str)
def test_at_kinks_all_modes_have_the_same_slope(function):
    """Forward mode differentiates the value, the kernels multiply by the slope."""
    x = tf.constant(points_of_interest(function))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function.value(x)
    np.testing.assert_allclose(tape.gradient(value, x), function.slope(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        function.gradient(tf.ones_like(x), x), function.slope(x), rtol=1e-9, atol=1e-12
    )


def with_dtypes():
    """Each function with every dtype, and with other parameters in float16, the smallest."""
    for function in VARIANTS:
        is_default = function == functions.get(function.registered_name())
        for dtype in testing.DTYPES:
            marks = () if is_default or dtype == tf.float16 else pytest.mark.slow
            yield pytest.param(function, dtype, id=f"{dtype.name}-{function}", marks=marks)


@pytest.mark.parametrize(("function", "dtype"), list(with_dtypes()))
def test_derivatives_are_never_nan(function, dtype):
    """Neither of the value, for forward mode, nor of the slope, up to the largest number."""
    largest = float(dtype.max)
    sizes = [0, testing.DTYPES[dtype][1], 1, 30, 100, 1000, largest**0.5, largest / 2, largest]
    x = tf.cast(tf.constant(np.multiply.outer([1, -1], sizes).ravel()), dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        computed = function.value(x), function.slope(x), function.gradient(tf.ones_like(x), x)
    for y in computed:
        derivative = tape.gradient(y, x)
        assert not np.isnan(tf.cast(derivative, tf.float64)).any(), derivative


@pytest.mark.parametrize("name", functions.names())
def test_docstring_has_summary_and_source_and_arguments(name):
    function = functions.get(name)
    doc = type(function).__doc__
    assert doc.splitlines()[0].endswith((".", ":"))
    assert function.documented("Source")
    for field in dataclasses.fields(function):
        assert f"{field.name}:" in doc
        assert "default" in doc


def in_keras(function):
    return getattr(keras.activations, function.registered_name(), None)


@pytest.mark.parametrize("function", list(filter(in_keras, VARIANTS)), ids=str)
def test_agrees_with_keras(function):
    x = tf.constant(testing.POINTS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = in_keras(function)(x, **dataclasses.asdict(function))
    # Some of Keras's activations hold constants in float32.
    np.testing.assert_allclose(function.value(x), expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(function.slope(x), tape.gradient(expected, x), rtol=1e-7, atol=1e-7)
