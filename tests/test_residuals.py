"""Compressed slopes: their error bounds, what they keep, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, functions, presets, testing
from keras_surrogate.functions import residuals

BOUNDED = ["softplus", "bsilu", "nelu", "silu", "atan", "softsign", "hard_tanh", "gelu"]


def gradient(pair, x, compile=tf.function):
    @compile
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = pair(x)
        return tape.gradient(y, x)

    return run(x)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("backward", BOUNDED)
def test_uint8_is_within_half_a_level(backward, jit_compile):
    x = tf.constant(np.append(testing.POINTS, [-1e4, 0, 1e4]))
    low, high = residuals.slope_range(functions.get(backward))
    pair = Surrogate("relu", backward, scale=2.0, residual="uint8")
    got = gradient(pair, x, lambda function: tf.function(function, jit_compile=jit_compile))
    error = np.abs(got / 2 - functions.get(backward).slope(x))
    assert error.max() <= (high - low) / 510 * 1.001
    assert backward == "hard_tanh" or error.max() > (high - low) / 510 / 10


@pytest.mark.parametrize("backward", BOUNDED)
def test_bfloat16_keeps_two_digits(backward):
    x = tf.constant(testing.POINTS)
    got = gradient(Surrogate("relu", backward, residual="bfloat16"), x)
    np.testing.assert_allclose(got, functions.get(backward).slope(x), rtol=2**-8, atol=1e-30)


@pytest.mark.parametrize("residual", ["uint8", "bfloat16"])
def test_the_value_is_exact_and_dtypes_are_kept(residual):
    for dtype in testing.DTYPES:
        x = tf.cast(tf.constant(testing.POINTS), dtype)
        pair = Surrogate("relu", "bsilu", residual=residual)
        np.testing.assert_array_equal(pair(x), tf.nn.relu(x))
        assert gradient(pair, x).dtype == dtype


def kept_types(pair):
    """The types of what the backward part of a training step reads from the forward part."""

    @tf.function
    def run(x):
        hidden = tf.sin(x)
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            y = pair(hidden)
        with tf.name_scope("backward"):
            return tape.gradient(y, hidden, output_gradients=tf.cos(y))

    operations = run.get_concrete_function(tf.TensorSpec([4])).graph.get_operations()
    backward = {operation for operation in operations if operation.name.startswith("backward")}
    read = [
        tensor for operation in backward for tensor in operation.inputs if tensor.op not in backward
    ]
    return {
        tensor.dtype.name for tensor in read if tensor.op.type != "Const" and tensor.shape.rank == 1
    }


def test_the_backward_pass_reads_the_compressed_slope_and_not_the_input():
    assert "uint8" in kept_types(Surrogate("relu", "bsilu", residual="uint8"))
    assert "uint8" not in kept_types(Surrogate("relu", "bsilu"))
    assert "bfloat16" in kept_types(Surrogate("relu", "bsilu", residual="bfloat16"))


def test_a_slope_that_follows_from_the_output_is_not_compressed():
    x = tf.constant(testing.POINTS)
    np.testing.assert_array_equal(
        gradient(Surrogate("tanh", residual="uint8"), x), gradient(Surrogate("tanh"), x)
    )


@pytest.mark.parametrize("name", presets.names())
def test_slope_range_of_every_preset_bounds_its_slope(name):
    function = presets.get(name).backward
    low, high = residuals.slope_range(function)
    slope = function.slope(tf.constant(np.linspace(-30, 30, 12345)))
    assert low - 1e-4 <= np.min(slope)
    assert np.max(slope) <= high + 1e-4


def test_what_is_not_bounded_is_refused():
    cube = functions.FromCallable(lambda x: x * x * x)
    with pytest.raises(ValueError, match="not bounded"):
        Surrogate("relu", cube, residual="uint8")
    assert Surrogate("relu", cube, residual="bfloat16")


def test_a_surrogate_may_be_made_while_a_function_is_traced():
    residuals.slope_range.cache_clear()
    x = tf.constant(testing.POINTS)
    made_inside = tf.function(lambda x: gradient(Surrogate("relu", "bsilu", residual="uint8"), x))
    np.testing.assert_array_equal(
        made_inside(x), gradient(Surrogate("relu", "bsilu", residual="uint8"), x)
    )


def test_an_unknown_residual_is_refused():
    with pytest.raises(ValueError, match=r"residual must be one of .* but is 'int4'"):
        Surrogate("relu", "bsilu", residual="int4")


def test_it_is_part_of_the_configuration():
    pair = Surrogate("relu", "bsilu", residual="uint8")
    assert Surrogate.from_config(pair.get_config()) == pair != Surrogate("relu", "bsilu")
