"""The contract of every function and every surrogate, for users' own ones too.

check_function(MyFunction())        value, slope, kernels, extremes and configuration of a function
check_surrogate(Surrogate("relu", MyFunction()))    every mode of differentiation of a pair

A failed check is an AssertionError that names the check, the input and both numbers. The reference
for a slope is the central difference of the value in float64. Where the docstring has a formula,
it is a second reference for value and slope, evaluated by NumPy. The reference for everything else
is the same function in float64, or in another mode.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import compiling, functions
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike

# The distance from 1 to the next number, and the smallest normal number.
DTYPES: dict[tf.DType, tuple[float, float]] = {
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
POINTS: np.ndarray = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])


def check_function(function: FunctionLike) -> None:
    """Assert that `function` meets the contract of a `Function`.

    Args:
        function: a `Function`, or anything else that `functions.get` takes.

    Raises:
        AssertionError: a check failed; the message has the check, the input and both numbers.
    """
    function = functions.get(function)
    _extremes(function)
    _slope_is_derivative(function)
    _formulas(function)
    _declarations(function)
    _jumps(function)
    _kernels(function)
    _function_config(function)


def check_surrogate(surrogate: Surrogate, xla: bool = True, save: bool = True) -> None:
    """Assert that `surrogate` meets the contract of a `Surrogate`.

    Args:
        surrogate: a `Surrogate`.
        xla: True checks it under XLA too, which takes most of the time; default True.
        save: True saves and reloads a model with it; default True.

    Raises:
        AssertionError: a check failed; the message has the check, the input and both numbers.
    """
    _all_modes(surrogate, lambda function: function, "eager")
    _all_modes(surrogate, tf.function, "graph")
    if xla:
        _all_modes(surrogate, lambda function: tf.function(function, jit_compile=True), "XLA")
    _large(surrogate)
    _dtypes(surrogate)
    _shapes(surrogate)
    _keyword_call(surrogate)
    _surrogate_config(surrogate)
    if save:
        _keras_file(surrogate)


def _agree(
    subject: object,
    check: str,
    x: Any,
    got: Any,
    expected: Any,
    relative: float = 1e-6,
    absolute: float = 1e-9,
) -> None:
    """Assert that two arrays agree; the message has the place of the largest difference."""
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


# --------------------------------------------------------------------------------------------------
# functions


def _slope_is_derivative(function: functions.Function) -> None:
    x = tf.constant(POINTS)
    step = 1e-6 * np.maximum(1, np.abs(POINTS))
    difference = (function.value(x + step) - function.value(x - step)) / (2 * step)
    check = "slope against the central difference of value"
    _agree(function, check, x, function.slope(x), difference, 1e-5, 1e-7)


def _extremes(function: functions.Function) -> None:
    """Compare every dtype with float64 at the ends of its range, and at infinities and NaN."""
    for dtype, (_, tiny) in DTYPES.items():
        largest = float(dtype.max)
        x = tf.cast(tf.constant([0, tiny, -tiny, 1, -1, largest, -largest], tf.float64), dtype)
        for name, compute in {"value": function.value, "slope": function.slope}.items():
            _extreme(f"{function}: {name} in {dtype.name}", compute, x)


def _extreme(subject: str, compute: Callable[..., tf.Tensor], x: tf.Tensor) -> None:
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
    # Far out a function has its limit. One that still grows there, even as a logarithm, has none.
    near, far = (np.asarray(compute(tf.constant([x, -x], tf.float64))) for x in (1e150, 1e300))
    limits = np.where(np.abs(far) > 1.5 * np.abs(near), np.copysign(np.inf, far), far)
    special = tf.constant([np.nan, np.inf, -np.inf], x.dtype)
    got = compute(special)
    expected = [np.nan, *limits]
    _agree(subject, "at NaN and the infinities", special, got, expected, precision, precision)


# The names in the formula of a docstring, besides `x` and the function's parameters.
_FORMULA_NAMES = {
    **vars(np),
    "erf": np.vectorize(math.erf, otypes=[float]),
    "ndtr": np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[float]),
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
}


def _formulas(function: functions.Function) -> None:
    """Compare value and slope with the docstring's formulas, to more digits than float32 has."""
    x = np.append(POINTS, [0.0, -1.0, 1.0])
    for name, compute in {"value": function.value, "slope": function.slope}.items():
        formula = function.documented(name)
        if not formula:
            continue
        known = {**_FORMULA_NAMES, **dataclasses.asdict(function), "x": x}
        with np.errstate(all="ignore"):
            expected = eval(formula, known)
        expected = np.broadcast_to(expected, x.shape)
        got = compute(tf.constant(x))
        _agree(function, f"{name} against its formula", x, got, expected, 1e-9, 1e-12)


def _declarations(function: functions.Function) -> None:
    x = tf.constant(np.append(POINTS, 0.0))
    zero = tf.zeros_like(x)
    if function.odd:
        rise = function.value(x) - function.value(zero)
        fall = function.value(zero) - function.value(-x)
        _agree(function, "odd: value(x) - value(0)", x, rise, fall)
    if function.increasing:
        negative = tf.minimum(function.slope(x), 0)
        _agree(function, "increasing: the negative part of the slope", x, negative, zero)
    if function.keeps_sign:
        sign = tf.cast(function.value(x) > 0, x.dtype)
        _agree(function, "keeps_sign: value is positive", x, sign, tf.cast(x > 0, x.dtype))
    if function.slope_needs_only_sign:
        at_sign = function.slope(tf.sign(x))
        check = "slope_needs_only_sign: slope at x and at sign(x)"
        _agree(function, check, x, function.slope(x), at_sign)


def _jumps(function: functions.Function) -> None:
    """Check that the function is constant between the jumps that it declares, and not across."""
    reach = 40.0
    places = function.jumps(reach)
    if places is None:
        return
    if np.any(np.diff(places) <= 0):
        raise AssertionError(f"{function}: jumps: {places} are not in increasing order.")
    edges = np.concatenate([[-reach], places[np.abs(places) < reach], [reach]])
    # From jump to jump: just after the first, in the middle, and just before the second.
    shares = np.array([1e-9, 0.5, 1 - 1e-9])
    x = edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * shares
    value = function.value(tf.constant(x)).numpy()
    level = np.broadcast_to(value[:, 1:2], x.shape)
    _agree(function, "jumps: value between two of them", x, value, level)
    level = value[:, 1]
    alike = np.append(level[1:] == level[:-1], False)
    _agree(function, "jumps: no change of the value after x", x[:, 1], alike, np.zeros(len(x)))


def _kernels(function: functions.Function) -> None:
    """Compare `gradient` and `gradient_from_output` with the incoming gradient times the slope."""
    x = tf.constant(np.append(POINTS, [0.0, 1.0, -1.0]))
    upstream = tf.cos(3 * x) + 2
    expected = upstream * function.slope(x)
    gradient = function.gradient(upstream, x)
    _agree(function, "gradient against upstream * slope", x, gradient, expected)
    for of in {function, *map(functions.get, functions.names())}:
        from_output = function.gradient_from_output(upstream, of.value(x), of)
        if from_output is not None:
            check = f"gradient_from_output of {of} against upstream * slope"
            _agree(function, check, x, from_output, expected, 1e-6, 1e-6)


def _function_config(function: functions.Function) -> None:
    again = functions.get(function.get_config())
    if again != function:
        raise AssertionError(f"{function}: get_config: its configuration gives {again}.")


# --------------------------------------------------------------------------------------------------
# surrogates


def _derivatives(surrogate: Surrogate, x: tf.Tensor) -> dict[str, tf.Tensor]:
    """The value, and derivatives of its sum by every mode of TensorFlow; all are elementwise."""
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


def _expected(surrogate: Surrogate, x: tf.Tensor) -> dict[str, tf.Tensor]:
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


def _all_modes(surrogate: Surrogate, compile: Callable, compiler: str) -> None:
    x = tf.constant(POINTS[::4])
    got = compile(lambda x: _derivatives(surrogate, x))(x)
    for mode, expected in _expected(surrogate, x).items():
        if got[mode] is None:
            raise AssertionError(f"{surrogate}: {mode}, {compiler}: the derivative is None.")
        _agree(surrogate, f"{mode}, {compiler}", x, got[mode], expected)


def _value_and_gradient(surrogate: Callable, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = surrogate(x)
    return y, tape.gradient(y, x)


def _large(surrogate: Surrogate) -> None:
    """Compare a large tensor in a graph, where a pair may be compiled by itself, with a small one.

    The small one is evaluated in eager mode, where it never is.
    """
    few = tf.constant(np.append(POINTS, [0.0, np.inf, -np.inf, np.nan]))
    many = tf.constant(np.resize(few, max(compiling.LEAST_ELEMENTS, few.shape[0])))
    value, gradient = tf.function(lambda x: _value_and_gradient(surrogate, x))(many)
    expected_value, expected_gradient = _value_and_gradient(surrogate, few)
    size = few.shape[0]
    check = "of a large tensor, graph"
    _agree(surrogate, f"value {check}", few, value[:size], expected_value)
    # Without the gradient at NaN: some kernels of TensorFlow lose it there, and XLA does not.
    x = few[:-1]
    got = gradient[: size - 1]
    _agree(surrogate, f"reverse mode {check}", x, got, expected_gradient[:-1])


def _dtypes(surrogate: Surrogate) -> None:
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


def _shapes(surrogate: Surrogate) -> None:
    """Check empty, scalar and unknown shapes, and a symbolic Keras tensor."""
    unknown = tf.function(surrogate, input_signature=[tf.TensorSpec(None, tf.float32)])
    for shape in ((0, 3), (), (2, 1, 3)):
        x = tf.ones(shape)
        for y in (surrogate(x), unknown(x), _value_and_gradient(surrogate, x)[1]):
            if y.shape != shape:
                raise AssertionError(f"{surrogate}: shapes: {shape} gives {tuple(y.shape)}.")
    symbolic = keras.Input((3,))
    model = keras.Model(symbolic, surrogate(symbolic))
    x = tf.ones((2, 3))
    _agree(surrogate, "KerasTensor", x, model(x), surrogate(x))


def _keyword_call(surrogate: Surrogate) -> None:
    x = tf.constant(POINTS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = surrogate(x=x)
    expected = _value_and_gradient(surrogate, x)[1]
    _agree(surrogate, "keyword call", x, tape.gradient(y, x), expected)


def _surrogate_config(surrogate: Surrogate) -> None:
    again = Surrogate.from_config(surrogate.get_config())
    if again != surrogate:
        raise AssertionError(f"{surrogate}: get_config: its configuration gives {again}.")


def _keras_file(surrogate: Surrogate) -> None:
    """Compare the values and gradients of a model with those of its reloaded `.keras` file."""
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
