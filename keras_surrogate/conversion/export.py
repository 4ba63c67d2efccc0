"""Export as a SavedModel for serving, with a chosen gradient."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from keras_surrogate import checks, files, methods
from keras_surrogate.conversion import choosing
from keras_surrogate.conversion.strip import strip
from keras_surrogate.custom_gradient import plain_operations, true_gradients
from keras_surrogate.layers.within import everything_within

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike

GRADIENTS = ("surrogate", "true", "none")


def export(
    model: keras.Model,
    path: PathLike,
    gradient: Literal["surrogate", "true", "none"] = "surrogate",
    **kwargs: Any,
) -> None:
    """Write a SavedModel that can be served or trained where keras_surrogate is not installed.

        loaded = tf.saved_model.load(path)            # keep it: `serve` does not hold the variables
        with tf.GradientTape() as tape:
            loss = loss_function(y, loaded.serve(x))  # inference mode: no dropout, fixed statistics
        gradients = tape.gradient(loss, loaded.trainable_variables)

    For TFLite, export with "none" or "true", then call
    `tf.lite.TFLiteConverter.from_saved_model(path).convert()`. Custom operations are needed only
    for a forward that Keras does not have. With "surrogate", GELU needs one too.

    For ONNX, do the same and run `python -m tf2onnx.convert --saved-model path --output
    model.onnx`. tf2onnx is not a dependency of this package. Version 1.17.0 converts ResNet50 with
    TensorFlow 2.21, Keras 3.15 and NumPy 2.4.

    Args:
        model: a Keras model, built.
        path: the folder. An earlier SavedModel in it is replaced when the new one is complete.
        gradient: "surrogate", the default: the gradient that the model has here. "true": the true
            gradient of the same values, as after `strip`; for a step or a sign it is 0 or None.
            "none": all gradients, of inputs and variables, are None; for serving only.
        kwargs: for `model.export`, such as `input_signature`.

    Raises:
        ValueError: `gradient` is not one of these, `model` is not a built Keras model, or `path` is
            a file or cannot be written to.
    """
    choosing.check_model("export", model)
    checks.one_of(gradient, "export: gradient", GRADIENTS)
    if not model.built:
        raise ValueError(
            f"export: {model.name} is not built. Give it an Input, or call it on data first."
        )
    context = {
        "surrogate": contextlib.nullcontext,
        "true": true_gradients,
        "none": _without_gradient,
    }[gradient]
    with files.replacing_folder(path) as unfinished:
        exported = model if gradient == "surrogate" else _plain(model)
        loops = [one for one in everything_within(exported) if isinstance(one, keras.layers.RNN)]
        with context(exported), methods.replaced(loops, "call", _by_plain_operations):
            exported.export(str(unfinished), **{"verbose": False, **kwargs})


def _plain(model: keras.Model) -> keras.Model:
    """The stripped model, which converters know; the model itself where Keras has no equal one."""
    with warnings.catch_warnings():
        # The warnings of strip are about training.
        warnings.simplefilter("ignore")
        try:
            return strip(model)
        except ValueError:
            return model


@contextlib.contextmanager
def _without_gradient(model: keras.Model) -> Iterator[None]:
    """A context in which no gradient passes the model's outputs."""
    with methods.replaced([model], "call", _stopped), true_gradients(model):
        yield


def _by_plain_operations(layer, call):
    # A SavedModel loses custom gradients within loops.
    @functools.wraps(call)
    def plain(*args, **kwargs):
        with plain_operations():
            return call(*args, **kwargs)

    return plain


def _stopped(model, call):
    def stopped(*args, **kwargs):
        return keras.tree.map_structure(tf.stop_gradient, call(*args, **kwargs))

    return stopped
