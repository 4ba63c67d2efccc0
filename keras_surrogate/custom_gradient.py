"""The package's only custom gradient, and the contexts that change what a surrogate computes."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate

_TRUE_GRADIENTS: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "true_gradients", default=False
)

_PLAIN: contextvars.ContextVar[bool] = contextvars.ContextVar("plain_operations", default=False)

# What `noted_custom_gradients` gives; None outside of it.
_NOTED: contextvars.ContextVar[list[bool] | None] = contextvars.ContextVar("noted", default=None)


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """One use of a surrogate in a forward pass.

    Attributes:
        x: the input of the surrogate, a floating tensor.
        usual: the function of `x` that is computed outside of all contexts.
        smooth: the function of `x` that is computed within `smooth_forward`.
        pair: the `Surrogate`; None for an operation without one, as in `FakeQuantize`.
        blended: True if a part of the true slope is added to the surrogate's.
    """

    x: tf.Tensor
    usual: Callable[[tf.Tensor], tf.Tensor]
    smooth: Callable[[tf.Tensor], tf.Tensor]
    pair: Surrogate | None = None
    blended: bool = False


Replacement: TypeAlias = "Callable[[Use], tf.Tensor]"

_REPLACEMENT: contextvars.ContextVar[Replacement | None] = contextvars.ContextVar(
    "replacement", default=None
)


@contextlib.contextmanager
def true_gradients(model: keras.layers.Layer) -> Iterator[None]:
    """A context in which the backward pass of `model` takes true derivatives.

    For saliency, for example, or for comparison:

        with ks.true_gradients(model), tf.GradientTape() as tape:
            loss = loss_function(y, model(x))
        gradients = tape.gradient(loss, model.trainable_variables)

    It affects everything that this thread computes or traces inside: eager calls, new
    `tf.function`s, `model.fit`, and other models too. A `tf.function` that was traced before keeps
    its derivative.

    Args:
        model: a Keras layer or model.

    Raises:
        ValueError: `model` is not a Keras layer or model.
    """
    _check_layer("true_gradients", model)
    with truly(), _new_functions(model):
        yield


@contextlib.contextmanager
def smooth_forward(model: keras.layers.Layer) -> Iterator[None]:
    """A context in which each surrogate of `model` computes its backward's own function.

    The network inside is smooth where its backward functions are, and its gradient is exact. A sign
    with the slope of hard_tanh becomes hard_tanh. It is the reference for the direction of the
    gradient where the true slope is zero:

        with ks.smooth_forward(model), tf.GradientTape() as tape:
            loss = loss_function(y, model(x))
        gradients = tape.gradient(loss, model.trainable_variables)

    With f the forward, g the backward's function, and f(-inf) the limit of f, a surrogate computes

        f(x)                                  where f and g are the same function
        f(-inf) + (f(inf) - f(-inf)) * (g(x) - g(-inf)) / (g(inf) - g(-inf))
                                              where f and g have two different limits each
        scale * g(x) + shift                  otherwise

    So signals keep the size that they have outside, whatever the scale of the slope: a step with
    the slope of the fast sigmoid becomes 1/2 + k x / 2 / (1 + k abs(x)), and its scale plays no
    part. The shift is 0; only where f has two different limits, it is chosen so that the value at 0
    is the middle of the values of f on both sides of 0.

    The same holds for the surrogates of weights and of spiking neurons. `FakeQuantize` clips
    without rounding. A surrogate that is blended with its true slope is blended with its true
    value. Scales of weights and detached resets, which are constants in the usual backward pass,
    have their derivatives. (The range that `FakeQuantize` follows in training remains a constant.)

    It affects everything that this thread computes or traces inside: eager calls, new
    `tf.function`s, `fit`, `evaluate`, `predict`, `export`, and other models too. A `tf.function`
    that was traced before keeps its values. Within `true_gradients`, or around it, nothing changes:
    the gradient is the true one already.

    Args:
        model: a Keras layer or model.

    Raises:
        ValueError: `model` is not a Keras layer or model.

    Source: Gygax and Zenke 2025, arXiv:2404.14964, who take the backward's function for the
    probability of a spike; here it is the mean that such spikes have.
    """
    _check_layer("smooth_forward", model)
    with smoothly(), _new_functions(model):
        yield


@contextlib.contextmanager
def truly() -> Iterator[None]:
    """`true_gradients` for what is computed and traced here, without new functions of a model."""
    token = _TRUE_GRADIENTS.set(True)
    try:
        yield
    finally:
        _TRUE_GRADIENTS.reset(token)


def smoothly() -> contextlib.AbstractContextManager[None]:
    """`smooth_forward` for what is computed and traced here, without new functions of a model."""
    return replaced(_smoothed)


def _smoothed(use: Use) -> tf.Tensor:
    return use.smooth(use.x)


@contextlib.contextmanager
def replaced(replacement: Replacement) -> Iterator[None]:
    """A context in which every surrogate computes `replacement(use)`, in this thread."""
    token = _REPLACEMENT.set(replacement)
    try:
        yield
    finally:
        _REPLACEMENT.reset(token)


@contextlib.contextmanager
def inlined_functions() -> Iterator[None]:
    """A context in which a `tf.function` runs its Python code instead of a trace.

    So the contexts of this module reach into functions that were traced before, and no trace of
    them is kept. It holds for all threads.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def applied(use: Use) -> tf.Tensor:
    """The output of a surrogate: the usual one, or that of the context."""
    replacement = _REPLACEMENT.get()
    if replacement is None:
        return use.usual(use.x)
    return replacement(use)


def constant(x: tf.Tensor) -> tf.Tensor:
    """`x` without a gradient, except within `smooth_forward`."""
    if _REPLACEMENT.get() is _smoothed:
        return x
    return tf.stop_gradient(x)


def _check_layer(name: str, model: object) -> None:
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"{name} needs a Keras layer or model, but got {model!r}.")


_FUNCTIONS = ("train_function", "test_function", "predict_function")


@contextlib.contextmanager
def _new_functions(model: keras.layers.Layer) -> Iterator[None]:
    """A context in which `fit`, `evaluate` and `predict` of a model trace new functions."""
    is_model = isinstance(model, keras.Model)
    before = {name: getattr(model, name, None) for name in _FUNCTIONS if is_model}
    for name in before:
        setattr(model, name, None)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(model, name, function)


def gradients_are_true() -> bool:
    """Tell if the code runs within `true_gradients`."""
    return _TRUE_GRADIENTS.get()


@contextlib.contextmanager
def noted_custom_gradients() -> Iterator[list[bool]]:
    """A context that gives a list with an item for each custom gradient that is made inside.

    If it is empty at the end, `true_gradients` would have changed nothing that this thread computed
    or traced.
    """
    noted: list[bool] = []
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)


def _note_custom_gradient() -> None:
    noted = _NOTED.get()
    if noted is not None:
        noted.append(True)


def with_gradient(
    x: tf.Tensor,
    evaluate: Callable[[tf.Tensor], tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]],
    primitive: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """A value with a custom gradient in every mode of differentiation.

    Within `true_gradients` it has its true gradient.

    Args:
        x: a floating tensor.
        evaluate: a function from `x` to the value and to a function from the gradient of the value
            to the gradient of `x`.
        primitive: a function of `x` whose true derivative is the same gradient, for forward mode.
    """
    if gradients_are_true():
        return evaluate(x)[0]
    _note_custom_gradient()

    # Not empty as soon as a gradient has been requested.
    requests = []

    def run(hide):
        @tf.custom_gradient
        def operation(x):
            y, gradient = evaluate(x)

            def noted_gradient(upstream):
                requests.append(True)
                return gradient(upstream)

            return hide(y), noted_gradient

        return operation(x)

    y = run(tf.stop_gradient)
    # A tape requests the gradient later. Only a forward accumulator requests it during the call.
    # In graphs the answer to an accumulator is lost, so the value itself must have the tangent of
    # the primitive.
    if not requests:
        return y
    return run(lambda y: tf.stop_gradient(y) + _zero_with_tangent_of(primitive(x)))


def with_slope(
    x: tf.Tensor,
    value: Callable[[tf.Tensor], tf.Tensor],
    slope: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """A value with another slope, of plain operations alone, for the bodies of loops.

    There a SavedModel loses custom gradients. It has its slope in every mode of differentiation. A
    second derivative takes the slope for a constant. Infinite `x` gives NaN. Within
    `true_gradients` it has its true gradient.

    Args:
        x: a floating tensor.
        value: an elementwise function of `x`.
        slope: an elementwise function of `x`.
    """
    if gradients_are_true():
        return value(x)
    _note_custom_gradient()
    # x - stop_gradient(x) is 0, with derivative 1.
    return tf.stop_gradient(value(x)) + tf.stop_gradient(slope(x)) * (x - tf.stop_gradient(x))


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """A context in which surrogates compute by `with_slope`, for loops that are exported."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def operations_are_plain() -> bool:
    """True within `plain_operations`."""
    return _PLAIN.get()


def _zero_with_tangent_of(primitive: tf.Tensor) -> tf.Tensor:
    """0, with the tangent of `primitive` where it is finite."""
    finite = tf.math.is_finite(primitive)
    return tf.where(finite, primitive - tf.stop_gradient(primitive), tf.zeros_like(primitive))
