"""The package's only custom gradient, and the context that turns it off."""

import contextlib
import contextvars

import keras
import tensorflow as tf

_TRUE_GRADIENTS = contextvars.ContextVar("true_gradients", default=False)


@contextlib.contextmanager
def true_gradients(model):
    """A context in which the backward pass of `model` is the ordinary one: for saliency, or for comparison.

        with ks.true_gradients(model), tf.GradientTape() as tape:
            loss = loss_function(y, model(x))
        gradients = tape.gradient(loss, model.trainable_variables)

    It holds for whatever is computed or traced inside, in this thread: eager calls, new
    `tf.function`s, `model.fit`. A `tf.function` traced before keeps the derivative it was traced
    with; other models are ordinary inside as well.

    Raises:
        ValueError: `model` is not a Keras layer or model.
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"true_gradients needs a Keras layer or model, but got {model!r}.")
    train_function = getattr(model, "train_function", None)
    token = _TRUE_GRADIENTS.set(True)
    _set_train_function(model, None)
    try:
        yield
    finally:
        _TRUE_GRADIENTS.reset(token)
        _set_train_function(model, train_function)


def _set_train_function(model, function):
    if isinstance(model, keras.Model):
        model.train_function = function


def with_gradient(x, evaluate, primitive):
    """A value with a gradient of its own, in every mode of differentiation; within `true_gradients`, its ordinary one.

    Args:
        x: a floating tensor.
        evaluate: from `x` to the value and to a function from the gradient of the value to the
            gradient of `x`.
        primitive: a function of `x` whose ordinary derivative is the same gradient, for forward
            mode.
    """
    if _TRUE_GRADIENTS.get():
        return evaluate(x)[0]
    asked = []

    def run(hide):
        @tf.custom_gradient
        def operation(x):
            y, gradient = evaluate(x)

            def noticed_gradient(upstream):
                asked.append(True)
                return gradient(upstream)

            return hide(y), noticed_gradient

        return operation(x)

    y = run(tf.stop_gradient)
    # A tape asks for the gradient later; only a forward accumulator asks at once. It is answered by
    # the tangent of the value itself, which must be the primitive's: what a custom gradient tells
    # an accumulator is lost in graphs.
    return run(lambda y: tf.stop_gradient(y) + _zero_with_tangent_of(primitive(x))) if asked else y


def _zero_with_tangent_of(primitive):
    finite = tf.math.is_finite(primitive)
    return tf.where(finite, primitive - tf.stop_gradient(primitive), tf.zeros_like(primitive))
