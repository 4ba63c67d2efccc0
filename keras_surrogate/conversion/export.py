"""A SavedModel for serving, with the gradient that one chooses."""

import contextlib
import warnings

import keras
import tensorflow as tf

from keras_surrogate import files, methods
from keras_surrogate.conversion import choosing
from keras_surrogate.conversion.strip import strip
from keras_surrogate.custom_gradient import true_gradients

GRADIENTS = ("surrogate", "true", "none")


def export(model, path, gradient="surrogate", **kwargs):
    """Writes a model as a SavedModel that is served, or trained further, where keras_surrogate is not installed.

        loaded = tf.saved_model.load(path)                 # held: `serve` alone would not keep the variables alive
        with tf.GradientTape() as tape:
            loss = loss_function(y, loaded.serve(x))       # as in inference: no dropout, statistics as they are
        gradients = tape.gradient(loss, loaded.trainable_variables)

    For TFLite export with "none" or "true", then
    `tf.lite.TFLiteConverter.from_saved_model(path).convert()`: no custom operations are needed,
    unless for a forward that Keras does not have. With "surrogate", GELU would need one.

    For ONNX, likewise: `python -m tf2onnx.convert --saved-model path --output model.onnx`. tf2onnx
    is no dependency of this package; its version 1.17.0 converts ResNet50 with TensorFlow 2.21,
    Keras 3.15 and NumPy 2.4.

    Args:
        model: a Keras model, built.
        path: the folder. What it holds of an earlier SavedModel is replaced once the new one is
            complete.
        gradient: "surrogate", the default: the one that the model has here. "true": the ordinary
            one of the same values, as `strip` gives it; for a step or a sign it is 0 or None.
            "none": every gradient is None, of the inputs and of the variables; for serving alone.
        kwargs: for `model.export`, such as `input_signature`.

    Raises:
        ValueError: another `gradient`, something that is not a built Keras model, or a path that is
            a file or cannot be written to.
    """
    choosing.check_model("export", model)
    if gradient not in GRADIENTS:
        raise ValueError(
            f"export: gradient must be one of {', '.join(map(repr, GRADIENTS))}, but is {gradient!r}."
        )
    if not model.built:
        raise ValueError(
            f"export: {model.name} is not built. Give it an Input, or call it on data, first."
        )
    context = {
        "surrogate": contextlib.nullcontext,
        "true": true_gradients,
        "none": _without_gradient,
    }[gradient]
    with files.replacing_folder(path) as unfinished:
        exported = model if gradient == "surrogate" else _plain(model)
        with context(exported):
            exported.export(str(unfinished), **{"verbose": False, **kwargs})


def _plain(model):
    """The stripped model, whose kernels converters know; where Keras has no such activation, the model itself."""
    with warnings.catch_warnings():
        # What it warns of concerns training.
        warnings.simplefilter("ignore")
        try:
            return strip(model)
        except ValueError:
            return model


@contextlib.contextmanager
def _without_gradient(model):
    """A context in which no gradient goes back through the model's outputs."""
    with methods.replaced([model], "call", _stopped), true_gradients(model):
        yield


def _stopped(model, call):
    def stopped(*args, **kwargs):
        return keras.tree.map_structure(tf.stop_gradient, call(*args, **kwargs))

    return stopped
