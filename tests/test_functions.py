"""Lookup, parameters and errors of `functions`."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_surrogate import functions, testing
from keras_surrogate.functions.base import COLLECTION
from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.surrogate import Surrogate


@keras.saving.register_keras_serializable(package="test")
def cube(x):
    return x * x * x


@pytest.fixture
def throw_away():
    class SteepAtan(functions.Function):
        """value: arctan(b * x)"""

        b: float = functions.positive(default=1.0)

        def value(self, x):
            return tf.atan(self.b * x)

    yield SteepAtan
    del COLLECTION["steep_atan"]


def test_a_class_is_all_there_is_to_a_function(throw_away):
    assert "steep_atan" in functions.names()
    assert functions.get("steep_atan", b=2.0) == throw_away(2.0)
    assert functions.SteepAtan is throw_away
    testing.check_function(functions.get("steep_atan", b=0.5))


def test_defining_it_again_replaces_it_but_built_in_names_are_protected(throw_away):
    class SteepAtan(functions.Function):
        def value(self, x):
            return x

    assert functions.SteepAtan is SteepAtan
    with pytest.raises(ValueError, match="'relu' exists already"):

        class Relu(functions.Function):
            pass


def test_names_are_snake_case_of_classes():
    assert {"leaky_relu", "flat_spot_sigmoid", "hard_tanh", "bsilu"} <= set(functions.names())
    assert functions.names() == sorted(functions.names())


def test_lookup_by_every_kind_of_identifier():
    leaky = functions.LeakyRelu(0.3)
    assert functions.get("leaky_relu", negative_slope=0.3) == leaky
    assert functions.get({"name": "leaky_relu", "negative_slope": 0.3}) == leaky
    assert functions.get(leaky) is leaky
    assert functions.get(keras.activations.relu) == functions.Relu()
    assert functions.get("sparse_plus") == functions.get(keras.activations.sparse_plus)
    assert functions.get("q_pseudo_spike", alpha=3) == functions.QPseudoSpike(3.0)
    assert functions.get("s2nn") == functions.S2nn()


def test_an_alias_of_a_parameter():
    assert functions.get("fast_sigmoid", slope=10.0) == functions.FastSigmoid(k=10.0)


@pytest.mark.parametrize(
    "function", [functions.LeakyRelu(0), functions.LeakyRelu(1), functions.FlatSpotSigmoid(0)]
)
def test_parameters_at_the_ends_of_their_ranges(function):
    testing.check_function(function)


def test_functions_are_values():
    assert functions.Elu() == functions.Elu(1.0) != functions.Elu(2.0)
    assert len({functions.Relu(), functions.Relu(), functions.Linear(), functions.Elu(1)}) == 3
    with pytest.raises(AttributeError):
        functions.Elu().alpha = 2.0


@pytest.mark.parametrize("name", ["sparse_plus", "hard_swish", "test>cube"])
def test_keras_activations_and_registered_callables_take_their_slope_from_autodiff(name):
    x = tf.constant(testing.POINTS)
    function, step = functions.get(name), 1e-6
    difference = (function.value(x + step) - function.value(x - step)) / (2 * step)
    np.testing.assert_allclose(function.slope(x), difference, rtol=1e-5, atol=1e-7)


def test_a_plain_callable():
    x = tf.constant([-1.0, 2.0])
    np.testing.assert_allclose(functions.get(tf.math.atan).slope(x), 1 / (1 + x**2), rtol=1e-6)
    np.testing.assert_allclose(functions.get(lambda x: 3 * x).slope(x), [3, 3])
    assert functions.get(functions.get(cube).get_config()) == functions.get(cube)


def test_a_constant_callable_has_slope_zero():
    np.testing.assert_array_equal(
        functions.get(tf.ones_like).slope(tf.constant([1.0, 2.0])), [0, 0]
    )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("softmax", "softmax is not elementwise"),
        ("glu", "glu is not elementwise"),
        (lambda x: tf.reduce_sum(x), "not elementwise"),
        (lambda x: tf.cast(x, tf.float16), "not elementwise"),
        (lambda x: tf.zeros((2, 2)), "not elementwise"),
        (lambda x: tf.matmul(x, x), "fails on a float32 tensor"),
    ],
)
def test_what_is_not_elementwise_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        functions.get(function)


def test_what_cannot_be_saved_says_so_when_saved_and_works_before():
    function = functions.get(lambda x: 2 * x)
    with pytest.raises(ValueError, match="register_keras_serializable"):
        function.get_config()


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        (("rleu",), {}, "No function is called 'rleu'. Did you mean 'relu' or 'relu6'"),
        (
            ("leaky_relu",),
            {"negative_slope": -0.1},
            "leaky_relu: negative_slope must be .* from 0 to 1, but is -0.1",
        ),
        (
            ("q_pseudo_spike",),
            {"alpha": 1.0},
            "q_pseudo_spike: alpha must be a number greater than 1, but is 1.0",
        ),
        (
            ("threshold",),
            {"threshold": float("inf")},
            "threshold: threshold must be a finite number, but is inf",
        ),
        (
            ("multi_gaussian",),
            {"h": -0.1},
            "multi_gaussian: h must be a number of at least 0, but is -0.1",
        ),
        (("elu",), {"alpha": float("nan")}, "elu: alpha must be a positive number, but is nan"),
        (("elu",), {"alpha": "1"}, "but is '1'"),
        (("elu",), {"alpha": True}, "but is True"),
        (("gelu",), {"approximate": 1}, "approximate must be True or False, but is 1"),
        (("relu",), {"alpha": 1.0}, re.escape("relu has no parameter ['alpha']; it has none")),
        (("elu",), {"beta": 1.0}, re.escape("elu has no parameter ['beta']; it has ['alpha']")),
        (("sparse_plus",), {"alpha": 1.0}, "'sparse_plus' takes no parameters"),
        ((functions.Relu(),), {"alpha": 1.0}, "need a function's name"),
        (
            ("LeakyReLU",),
            {},
            "No function is called 'LeakyReLU'. Did you mean 'leaky_relu' or 'relu'\\?$",
        ),
        (
            ("qqqqq",),
            {},
            r"Known are: atan, .*threshold. .*`keras-surrogate list`.*functions.names\(\)",
        ),
        (
            ("sugar_bsilu",),
            {},
            r"published pair .*keras_surrogate.get\('sugar_bsilu'\) gives the pair: relu with the",
        ),
        (
            (keras.layers.ReLU(name="mine"),),
            {},
            r"the layer 'mine' \(ReLU\). Pass the name .*SurrogateActivation\(",
        ),
        ((SurrogateActivation("relu"),), {}, "Pass its surrogate, layer.surrogate"),
        (
            (keras.Sequential(name="mine"),),
            {},
            r"the model 'mine'.*diagnosis.diagnose\(model, x, y\)",
        ),
        ((keras.layers.ReLU,), {}, "the class ReLU. Pass the name"),
        (
            (Surrogate("relu", "softplus"),),
            {},
            "the pair relu with the slope of softplus. .*pair.forward",
        ),
        ((3,), {}, "must be a name, a configuration, a callable or a Function, not 3"),
        ((None,), {}, "not None"),
        (({"alpha": 1.0},), {}, "must be a name"),
    ],
)
def test_mistakes_are_explained(arguments, parameters, message):
    with pytest.raises(ValueError, match=message):
        functions.get(*arguments, **parameters)


@given(
    st.floats(-2, 2)
    | st.sampled_from([float("inf"), float("-inf"), float("nan"), np.float32(0.5), 1, 0])
)
def test_a_parameter_is_accepted_exactly_in_its_range(number):
    if 0 <= number <= 1:
        assert type(functions.LeakyRelu(number).negative_slope) is float
    else:
        with pytest.raises(ValueError, match="negative_slope"):
            functions.LeakyRelu(number)
