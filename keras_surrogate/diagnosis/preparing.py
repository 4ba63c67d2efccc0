"""A model and a batch as users give them, made ready for forward and backward passes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import keras
import tensorflow as tf

from keras_surrogate.diagnosis import batches, passes, sources

_Result = TypeVar("_Result")


def batch(model: keras.Model, x: object, y: object) -> tuple[object, object]:
    """The inputs and targets of one batch as tensors. The model is built if it is not.

    Args:
        model: a Keras model.
        x, y: as in `diagnose`.

    Returns:
        The inputs, and the targets or None.

    Raises:
        TypeError, ValueError: as in `diagnose`.
    """
    x, y, is_source = sources.first_batch(x, y)
    if is_source:
        sources.check_batched(model, x)
        y = y if has_loss(model) else None
    x = batches.tensors(x)
    if y is not None:
        y = _targets(model, x, y, is_source)
    _build(model, x)
    return batches.as_taken(model, x), y


def batch_with_targets(
    name: str, model: keras.Model, x: object, y: object
) -> tuple[object, object]:
    """As `batch`, for a function that needs a loss.

    Args:
        name: the name of the function, for messages.
        model, x, y: as in `batch`.

    Raises:
        TypeError: `model` is not a Keras model.
        TypeError, ValueError: as in `diagnose`; or there are no targets or no loss.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{name}: model must be a Keras model, but is {model!r}. Wrap a layer: "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    if not has_loss(model):
        raise ValueError(
            f"{name} needs a loss, but the model is not compiled with one: "
            "model.compile(optimizer, loss)."
        )
    with speaking_as(name):
        x, y = batch(model, x, y)
    if y is None:
        raise ValueError(f"{name} needs targets for the loss: give y, or batches of (x, y).")
    return x, y


@contextlib.contextmanager
def speaking_as(name: str) -> Iterator[None]:
    """A context in which messages that begin with "diagnose: " begin with another name."""
    try:
        yield
    except (ValueError, TypeError) as error:
        message = str(error)
        if not message.startswith("diagnose: "):
            raise
        raise type(error)(f"{name}: {message.removeprefix('diagnose: ')}") from error


def has_loss(model: keras.Model) -> bool:
    has_own = type(model).compute_loss is not keras.Model.compute_loss
    return model.compiled and (model.loss is not None or has_own)


def _targets(model: keras.Model, x: object, y: object, is_source: bool) -> object:
    """The targets as tensors, or a ValueError where they do not fit."""
    if not has_loss(model):
        raise ValueError(
            "diagnose: y was given, but the model has no compiled loss. Compile it, "
            "model.compile(optimizer, loss), or leave out y: the outputs then receive random "
            "gradients."
        )
    y = batches.tensors(y, "y")
    if batches.size(y) != batches.size(x):
        hint = " Data sets must be batched: dataset.batch(64)." if is_source else ""
        raise ValueError(
            f"diagnose: x has {batches.size(x)} examples, but y has {batches.size(y)}.{hint}"
        )
    return y


def _build(model: keras.Model, x: object) -> None:
    """Call the model once if it or a layer in it is not built."""
    if not model.built or not all(layer.built for layer in model.layers):
        reporting(model, x, lambda: model(x, training=False))
    if not model.trainable_variables:
        raise ValueError(
            "diagnose: the model has no trainable weights and therefore no gradients. Set "
            "trainable = True for some of its layers."
        )


def reporting(model: keras.Model, x: object, call: Callable[[], _Result]) -> _Result:
    """The result of a call of the model on `x`, or a ValueError that says what does not fit."""
    try:
        return call()
    except Exception as error:
        if str(error).startswith("diagnose: "):
            raise
        raise ValueError(f"diagnose: {_misfit(model, x)}: {_first_line(error)}") from error


def _misfit(model: keras.Model, x: object) -> str:
    expected = getattr(model, "input_shape", None)
    takes = "" if expected is None else f", whose input shape is {expected},"
    return f"the model{takes} cannot be called on x of shape {batches.shapes(x)}"


def _first_line(error: Exception) -> str:
    """The first informative line of an error, without the colours that Keras adds."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines()]
    informative = [line for line in lines if line and not line.startswith("Exception encountered")]
    return informative[0] if informative else type(error).__name__


def objective(
    model: keras.Model, x: object, y: object, seed: int
) -> Callable[[object], tuple[tf.Tensor, float]]:
    """The function from outputs to a scalar and its factor that `passes.run` takes."""

    def objective(outputs):
        if y is None:
            return passes.random_cotangents(outputs, seed), 1.0
        try:
            return passes.compiled_loss(model, x, y, outputs)
        except Exception as error:
            raise ValueError(
                "diagnose: the compiled loss cannot be computed from y of shape "
                f"{batches.shapes(y)} and outputs of shape {batches.shapes(outputs)}: "
                f"{_first_line(error)}"
            ) from error

    return objective
