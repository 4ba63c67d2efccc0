"""The package's only custom gradient, and the contexts that turn it off or note its uses."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

_TRUE_GRADIENTS: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "true_gradients", default=False
)

# What `noted_uses` gives; None outside of it.
_USES: contextvars.ContextVar[list[bool] | None] = contextvars.ContextVar("uses", default=None)


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
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"true_gradients needs a Keras layer or model, but got {model!r}.")
    # Without its train_function, `fit` traces a new one inside.
    train_function = getattr(model, "train_function", None)
    token = _TRUE_GRADIENTS.set(True)
    _set_train_function(model, None)
    try:
        yield
    finally:
        _TRUE_GRADIENTS.reset(token)
        _set_train_function(model, train_function)


def _set_train_function(model: keras.layers.Layer, function: Callable | None) -> None:
    if isinstance(model, keras.Model):
        model.train_function = function


def gradients_are_true() -> bool:
    """Tell if the code runs within `true_gradients`."""
    return _TRUE_GRADIENTS.get()


@contextlib.contextmanager
def noted_uses() -> Iterator[list[bool]]:
    """A context that gives a list with an item for each custom gradient that is made inside.

    If it is empty at the end, `true_gradients` would have changed nothing that this thread computed
    or traced.
    """
    uses: list[bool] = []
    token = _USES.set(uses)
    try:
        yield uses
    finally:
        _USES.reset(token)


def _note_use() -> None:
    uses = _USES.get()
    if uses is not None:
        uses.append(True)


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
    _note_use()

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
    _note_use()
    # x - stop_gradient(x) is 0, with derivative 1.
    return tf.stop_gradient(value(x)) + tf.stop_gradient(slope(x)) * (x - tf.stop_gradient(x))


def _zero_with_tangent_of(primitive: tf.Tensor) -> tf.Tensor:
    """0, with the tangent of `primitive` where it is finite."""
    finite = tf.math.is_finite(primitive)
    return tf.where(finite, primitive - tf.stop_gradient(primitive), tf.zeros_like(primitive))
