"""The contract can fail: every planted fault is caught, by name."""

import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, functions, testing
from keras_surrogate.functions.base import Function


def mutant(base="tanh", **methods):
    """The function `base` with some of its methods replaced; it is not collected."""
    original = functions.get(base)
    inherited = {
        name: getattr(type(original), name)
        for name in ("value", "slope", "gradient", "gradient_from_output")
    }

    class Mutant(Function, collect=False):
        alpha = getattr(original, "alpha", None)
        odd, increasing = original.odd, original.increasing
        keeps_sign = original.keeps_sign
        slope_needs_only_sign = original.slope_needs_only_sign

        def get_config(self):
            return original.get_config()

        def __eq__(self, other):
            return True

        __hash__ = Function.__hash__

    for name, method in {**inherited, **methods}.items():
        setattr(Mutant, name, method)
    return Mutant()


TANH = functions.get("tanh")

FUNCTION_FAULTS = {
    "a wrong sign": (
        mutant(slope=lambda self, x: -TANH.slope(x)),
        "slope against the central difference",
    ),
    "an error of 1 %": (
        mutant(slope=lambda self, x: 1.01 * TANH.slope(x)),
        "slope against the central difference",
    ),
    "a NaN tail": (
        mutant(value=lambda self, x: (tf.exp(x) - tf.exp(-x)) / (tf.exp(x) + tf.exp(-x))),
        "value in float16: NaN at the ends of the range",
    ),
    "NaN turned into zero": (
        mutant(value=lambda self, x: tf.where(x == x, tf.tanh(x), tf.zeros_like(x))),
        "at NaN and the infinities",
    ),
    "a limit missed": (
        mutant("silu", value=lambda self, x: x * tf.sigmoid(x)),
        "at NaN and the infinities",
    ),
    "a float32 result": (mutant(value=lambda self, x: tf.tanh(tf.cast(x, tf.float32))), "dtype"),
    "a kernel off by 1 %": (
        mutant("silu", gradient=lambda self, upstream, x: 1.01 * upstream * self.slope(x)),
        "gradient against upstream",
    ),
    "a kernel for the output that is off": (
        mutant("elu", gradient_from_output=lambda self, upstream, y, of: upstream * (1 - y)),
        "gradient_from_output",
    ),
    "an odd function that is not": (
        mutant(
            "tanh",
            value=lambda self, x: TANH.value(x) + tf.nn.relu(x),
            slope=lambda self, x: TANH.slope(x) + tf.nn.relu(tf.sign(x)),
        ),
        "odd",
    ),
    "an increasing function that is not": (
        mutant(value=lambda self, x: -tf.tanh(x), slope=lambda self, x: -TANH.slope(x)),
        "increasing",
    ),
    "a sign declared but not kept": (mutant("linear", value=lambda self, x: x + 1), "keeps_sign"),
    "a slope that needs more than the sign": (
        mutant("linear", value=lambda self, x: x * tf.abs(x), slope=lambda self, x: 2 * tf.abs(x)),
        "slope_needs_only_sign",
    ),
}


@pytest.mark.parametrize("fault", FUNCTION_FAULTS)
def test_faults_of_functions_are_caught_by_name(fault):
    function, message = FUNCTION_FAULTS[fault]
    with pytest.raises(AssertionError, match=message):
        testing.check_function(function)


def test_a_float32_constant_is_caught():
    class Rounded(Function, collect=False):
        """value: tanh(0.7 * x)"""

        constant = 0.7

        def value(self, x):
            return tf.tanh(tf.cast(self.constant, x.dtype) * x)

    with pytest.raises(AssertionError, match="value against its formula"):
        testing.check_function(Rounded())

    class Mixed(Rounded, collect=False):
        def value(self, x):
            return tf.tanh(tf.constant(self.constant) * x)

    with pytest.raises(AssertionError, match="value in float16: it cannot be computed"):
        testing.check_function(Mixed())


def test_a_lost_parameter_is_caught():
    class Lossy(Function, collect=False):
        alpha: float = functions.positive(default=1.0)

        def value(self, x):
            return tf.tanh(self.alpha * x)

        def get_config(self):
            return {"name": "tanh"}

    with pytest.raises(AssertionError, match="get_config"):
        testing.check_function(Lossy(2.0))


class Faulty(Surrogate):
    """A surrogate whose call is replaced by one with a fault."""

    def __init__(self, call):
        super().__init__("relu", "softplus")
        object.__setattr__(self, "call", call)

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)


def custom(function):
    return tf.custom_gradient(function)


def naive(x):
    """What one writes by hand: the value is not hidden from forward mode."""
    return tf.nn.relu(x), lambda upstream: upstream * tf.sigmoid(x)


def detached(x):
    return tf.stop_gradient(
        tf.nn.relu(x)
    ), lambda upstream: upstream * tf.stop_gradient(tf.sigmoid(x))


def off(x):
    return tf.stop_gradient(tf.nn.relu(x)), lambda upstream: 1.01 * upstream * tf.sigmoid(x)


PAIR = Surrogate("relu", "softplus")

SURROGATE_FAULTS = {
    "the true derivative": (lambda x: tf.nn.relu(x), "reverse mode, eager"),
    "an error of 1 %": (custom(off), "reverse mode, eager"),
    "a true derivative in forward mode": (custom(naive), "forward mode, eager"),
    "no second derivative": (custom(detached), "second order, eager"),
    "a derivative lost in graphs": (
        lambda x: PAIR(x) if tf.executing_eagerly() else tf.nn.relu(x),
        "reverse mode, graph",
    ),
    "a float32 result": (
        lambda x: PAIR(x) if x.dtype == tf.float64 else tf.cast(PAIR(x), tf.float32),
        "dtypes",
    ),
    "a shape lost": (lambda x: PAIR(x)[:1] if x.shape.rank == 3 else PAIR(x), "shapes"),
}


@pytest.mark.parametrize("fault", SURROGATE_FAULTS)
def test_faults_of_surrogates_are_caught_by_name(fault):
    call, message = SURROGATE_FAULTS[fault]
    with pytest.raises(AssertionError, match=message):
        testing.check_surrogate(Faulty(call))


def test_a_fault_of_large_tensors_is_caught():
    def call(x):
        x = tf.convert_to_tensor(x)
        is_large = x.shape.num_elements() is not None and x.shape.num_elements() > 10**5
        return 2 * PAIR(x) if is_large else PAIR(x)

    with pytest.raises(AssertionError, match="value of a large tensor, graph"):
        testing.check_surrogate(Faulty(call), xla=False)


def test_a_dropped_keyword_is_caught():
    def call(*args, x=None):
        return PAIR(*args) if args else tf.nn.relu(x)

    with pytest.raises(AssertionError, match="keyword call"):
        testing.check_surrogate(Faulty(call), xla=False)


def test_a_lost_from_config_is_caught():
    class Forgetful(Surrogate):
        @classmethod
        def from_config(cls, config):
            return Surrogate(config["forward"])

    pair = Forgetful("relu", "softplus")
    object.__setattr__(pair, "__class__", Forgetful)
    with pytest.raises(AssertionError, match="get_config"):
        testing.contract._surrogate_config(pair)


def test_points_avoid_kinks_and_reach_both_tails():
    assert np.abs(testing.POINTS).min() > 1e-3
    assert np.abs(testing.POINTS - np.round(testing.POINTS)).min() > 1e-4
    assert testing.POINTS.min() < -15 < 15 < testing.POINTS.max()
