"""The contract that every function and every surrogate meets, for users' own ones too.

    check_function(MyFunction())                      one function: value, slope, kernels, extremes, configuration
    check_surrogate(Surrogate("relu", MyFunction()))  one pair: every way TensorFlow and Keras can differentiate it

A breach is an AssertionError that names the check, the input and both numbers. The reference for a
slope is the central difference of the value in float64; for value and slope it is also the formula
in the docstring, evaluated by NumPy, where there is one; for everything else it is the same
function in float64, or another mode.
"""

import dataclasses
import math
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.surrogate import Surrogate

# The distance from 1 to the next number, and the smallest normal number.
DTYPES = {
    tf.float16: (2.0**-10, 2.0**-14),
    tf.bfloat16: (2.0**-7, 2.0**-126),
    tf.float32: (2.0**-23, 2.0**-126),
    tf.float64: (2.0**-52, 2.0**-1022),
}

# Odd multiples keep the points off the kinks, which lie at round numbers; the middle is dense for
# sharp spikes.
_MAGNITUDES = np.concatenate(
    [np.geomspace(1.137e-3, 0.0937, 12), 0.1173 + 0.2719 * np.arange(32), [11.37, 17.93]]
)
POINTS = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])


def check_function(function):
    """Asserts that `function` meets the contract of a `Function`.

    Args:
        function: a `Function`, or whatever `functions.get` takes.

    Raises:
        AssertionError: which check failed, where, and by how much.
    """
    function = functions.get(function)
    for check in (
        _extremes,
        _slope_is_derivative,
        _formulas,
        _declarations,
        _kernels,
        _function_config,
    ):
        check(function)


def check_surrogate(surrogate, xla=True, save=True):
    """Asserts that `surrogate` meets the contract of a `Surrogate`.

    Args:
        surrogate: a `Surrogate`.
        xla: whether to check under XLA as well, which takes most of the time; default True.
        save: whether to save and reload a model with it; default True.

    Raises:
        AssertionError: which check failed, where, and by how much.
    """
    _all_modes(surrogate, lambda function: function, "eager")
    _all_modes(surrogate, tf.function, "graph")
    if xla:
        _all_modes(surrogate, lambda function: tf.function(function, jit_compile=True), "XLA")
    for check in (_dtypes, _shapes, _keyword_call, _surrogate_config):
        check(surrogate)
    if save:
        _keras_file(surrogate)


def _agree(subject, check, x, got, expected, relative=1e-6, absolute=1e-9):
    """Asserts that two arrays agree, and says where they differ most."""
    x, got, expected = (np.asarray(array).astype("float64") for array in (x, got, expected))
    with np.errstate(invalid="ignore"):
        excess = np.abs(got - expected) - relative * np.abs(expected) - absolute
    wrong = ~((excess <= 0) | (got == expected) | (np.isnan(got) & np.isnan(expected)))
    if wrong.any():
        worst = np.nanargmax(np.where(wrong, np.nan_to_num(excess, nan=np.inf), -np.inf))
        raise AssertionError(
            f"{subject}: {check}: at x = {x.flat[worst]:.6g} it is {got.flat[worst]:.6g}, "
            f"but should be {expected.flat[worst]:.6g}."
        )


# -----------------------------------------------------------------------------------------------------
# functions


def _slope_is_derivative(function):
    x = tf.constant(POINTS)
    step = 1e-6 * np.maximum(1, np.abs(POINTS))
    difference = (function.value(x + step) - function.value(x - step)) / (2 * step)
    _agree(
        function,
        "slope against the central difference of value",
        x,
        function.slope(x),
        difference,
        1e-5,
        1e-7,
    )


def _extremes(function):
    """Every dtype agrees with float64 at the ends of its range; infinities give the limit, NaN gives NaN."""
    for dtype, (_, tiny) in DTYPES.items():
        largest = float(dtype.max)
        x = tf.cast(tf.constant([0, tiny, -tiny, 1, -1, largest, -largest], tf.float64), dtype)
        for name, compute in {"value": function.value, "slope": function.slope}.items():
            _extreme(f"{function}: {name} in {dtype.name}", compute, x)


def _extreme(subject, compute, x):
    try:
        y = compute(x)
    except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
        raise AssertionError(f"{subject}: it cannot be computed: {error}") from error
    if y.dtype != x.dtype:
        raise AssertionError(f"{subject}: its dtype is {y.dtype.name}.")
    _agree(subject, "NaN at the ends of the range", x, tf.math.is_nan(y), tf.zeros_like(x))
    precision = 8 * DTYPES[x.dtype][0]
    expected = tf.cast(compute(tf.cast(x, tf.float64)), x.dtype)
    _agree(subject, "at the ends of the range", x, y, expected, precision, precision)
    # Far out is as good as infinity, for the limit; what still grows there, if only like a
    # logarithm, has none.
    near, far = (np.asarray(compute(tf.constant([x, -x], tf.float64))) for x in (1e150, 1e300))
    limits = np.where(np.abs(far) > 1.5 * np.abs(near), np.copysign(np.inf, far), far)
    special = tf.constant([np.nan, np.inf, -np.inf], x.dtype)
    _agree(
        subject,
        "at NaN and the infinities",
        special,
        compute(special),
        [np.nan, *limits],
        precision,
        precision,
    )


# What a formula in a docstring may use, besides the function's parameters.
_FORMULA_NAMES = {
    **vars(np),
    "erf": np.vectorize(math.erf, otypes=[float]),
    "ndtr": np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[float]),
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
}


def _formulas(function):
    """Value and slope are what the docstring says, to more digits than float32 has."""
    x = np.append(POINTS, [0.0, -1.0, 1.0])
    for name, compute in {"value": function.value, "slope": function.slope}.items():
        formula = function.documented(name)
        if formula:
            with np.errstate(all="ignore"):
                expected = eval(formula, {**_FORMULA_NAMES, **dataclasses.asdict(function), "x": x})
            check = f"{name} against its formula"
            _agree(
                function,
                check,
                x,
                compute(tf.constant(x)),
                np.broadcast_to(expected, x.shape),
                1e-9,
                1e-12,
            )


def _declarations(function):
    x = tf.constant(np.append(POINTS, 0.0))
    zero = tf.zeros_like(x)
    if function.odd:
        rise, fall = (
            function.value(x) - function.value(zero),
            function.value(zero) - function.value(-x),
        )
        _agree(function, "odd: value(x) - value(0)", x, rise, fall)
    if function.increasing:
        _agree(
            function,
            "increasing: the part of the slope below zero",
            x,
            tf.minimum(function.slope(x), 0),
            zero,
        )
    if function.keeps_sign:
        sign = tf.cast(function.value(x) > 0, x.dtype)
        _agree(function, "keeps_sign: whether value is positive", x, sign, tf.cast(x > 0, x.dtype))
    if function.slope_needs_only_sign:
        _agree(
            function,
            "slope_needs_only_sign: slope at x and at sign(x)",
            x,
            function.slope(x),
            function.slope(tf.sign(x)),
        )


def _kernels(function):
    """`gradient` and `gradient_from_output` are the product of the incoming gradient and the slope."""
    x = tf.constant(np.append(POINTS, [0.0, 1.0, -1.0]))
    upstream = tf.cos(3 * x) + 2
    expected = upstream * function.slope(x)
    _agree(
        function, "gradient against upstream * slope", x, function.gradient(upstream, x), expected
    )
    for of in {function, *map(functions.get, functions.names())}:
        from_output = function.gradient_from_output(upstream, of.value(x), of)
        if from_output is not None:
            _agree(
                function,
                f"gradient_from_output of {of} against upstream * slope",
                x,
                from_output,
                expected,
                1e-6,
                1e-6,
            )


def _function_config(function):
    if functions.get(function.get_config()) != function:
        raise AssertionError(
            f"{function}: get_config: it gives {functions.get(function.get_config())} back."
        )


# -----------------------------------------------------------------------------------------------------
# surrogates


def _derivatives(surrogate, x):
    """Value and derivatives of the sum, by every mode of TensorFlow; all are elementwise."""
    ones = tf.ones_like(x)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch(x)
            value = surrogate(x)
        reverse = inner.gradient(value, x)
    with tf.autodiff.ForwardAccumulator(x, ones) as accumulator:
        forward_value = surrogate(x)
    return {
        "value": value,
        "reverse mode": reverse,
        "forward mode": accumulator.jvp(forward_value),
        "jacobian": tf.linalg.diag_part(inner.jacobian(value, x)),
        "second order": outer.gradient(reverse, x),
    }


def _expected(surrogate, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = surrogate.scale * surrogate.backward.slope(x)
    return {
        "value": surrogate.forward.value(x),
        "reverse mode": slope,
        "forward mode": slope,
        "jacobian": slope,
        "second order": tape.gradient(slope, x, unconnected_gradients="zero"),
    }


def _all_modes(surrogate, compile, compiler):
    x = tf.constant(POINTS[::4])
    got = compile(lambda x: _derivatives(surrogate, x))(x)
    for mode, expected in _expected(surrogate, x).items():
        if got[mode] is None:
            raise AssertionError(f"{surrogate}: {mode}, {compiler}: there is none.")
        _agree(surrogate, f"{mode}, {compiler}", x, got[mode], expected)


def _value_and_gradient(surrogate, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = surrogate(x)
    return y, tape.gradient(y, x)


def _dtypes(surrogate):
    for dtype in DTYPES:
        x = tf.cast(tf.constant([-3.0, -1.0, 0.0, 0.5, 2.0]), dtype)
        y, gradient = _value_and_gradient(surrogate, x)
        if not y.dtype == gradient.dtype == dtype:
            raise AssertionError(
                f"{surrogate}: dtypes: {dtype.name} gives {y.dtype.name}, {gradient.dtype.name}."
            )
        if not np.isfinite(tf.cast(gradient, tf.float64)).all():
            raise AssertionError(
                f"{surrogate}: dtypes: the gradient in {dtype.name} is {gradient.numpy()}."
            )


def _shapes(surrogate):
    """Empty, scalar and unknown shapes, and a symbolic Keras tensor."""
    unknown = tf.function(surrogate, input_signature=[tf.TensorSpec(None, tf.float32)])
    for shape in ((0, 3), (), (2, 1, 3)):
        x = tf.ones(shape)
        for y in (surrogate(x), unknown(x), _value_and_gradient(surrogate, x)[1]):
            if y.shape != shape:
                raise AssertionError(f"{surrogate}: shapes: {shape} gives {tuple(y.shape)}.")
    symbolic = keras.Input((3,))
    _agree(
        surrogate,
        "KerasTensor",
        tf.ones((2, 3)),
        keras.Model(symbolic, surrogate(symbolic))(tf.ones((2, 3))),
        surrogate(tf.ones((2, 3))),
    )


def _keyword_call(surrogate):
    x = tf.constant(POINTS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = surrogate(x=x)
    expected = _value_and_gradient(surrogate, x)[1]
    _agree(surrogate, "keyword call", x, tape.gradient(y, x), expected)


def _surrogate_config(surrogate):
    if Surrogate.from_config(surrogate.get_config()) != surrogate:
        raise AssertionError(
            f"{surrogate}: get_config: it gives {Surrogate.from_config(surrogate.get_config())} back."
        )


def _keras_file(surrogate):
    """A model saved as `.keras` and loaded has the surrogate, its values and its gradients."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=surrogate)])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
    x = tf.constant(POINTS[:80].reshape(20, 4), tf.float32)
    for got, expected in zip(
        _value_and_gradient(loaded, x), _value_and_gradient(model, x), strict=True
    ):
        _agree(surrogate, ".keras file", x[:, :3], got[:, :3], expected[:, :3])
