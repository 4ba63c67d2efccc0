"""`diagnose`: from a model and a batch to a `Diagnosis`."""

import re

import keras

from keras_surrogate import gradients
from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.diagnosis import batches, findings, passes, report, rows, stacks


def diagnose(model, x, y=None, seed=0):
    """What a batch shows of a model, without training: a table of its layers, and findings in plain words.

        diagnose(model, x_train[:256], y_train[:256]).print()

    Two forward and backward passes in training mode, one with the model's surrogates and one with the true derivatives,
    and before them a forward pass if the model is not built. Weights, moving averages, seeds, metrics and the optimizer
    are afterwards what they were before, to the bit.

    Args:
        model: a Keras model of any kind; compiled or not; built, or built by this.
        x: a batch as the model takes it: an array, or a list, tuple or dictionary of arrays. 64 examples or more are
            sensible: with one there is nothing to compare, and a unit that is off for few is not therefore dead.
        y: targets of the compiled loss, whose gradient is then measured. Default None: each example's outputs get a
            random gradient of norm 1 / examples. That needs no loss, and its ratios tell the same; but the absolute
            size of gradients, and so of the update of an optimizer that does not rescale them (SGD), then means
            nothing.
        seed: fixes these random gradients; an integer of at least 0, default 0.

    Layers within layers that are no models (a cell in an RNN, a Dense in a layer of one's own) have no row of their
    own, as in `callbacks.GradientNormLogger`; nor has what is called only within a `tf.function`.

    Returns:
        A `Diagnosis`.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: `x` does not fit the model, is empty or not finite; `y` does not fit the loss, or there is no loss;
            the model has no trainable weights or no floating output; the compiled optimizer cannot be copied.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"diagnose: model must be a Keras model, but is {model!r}. Wrap a layer: "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    x = batches.tensors(x)
    y = None if y is None else _targets(model, x, y)
    _build(model, x)
    layers, objective = gradients.layers_by_name(model).values(), _objective(model, x, y, seed)
    with passes.unchanged(model):
        seen = _reporting(model, x, lambda: passes.run(model, x, objective, layers))
    with passes.unchanged(model), true_gradients(model):
        true = passes.run(model, x, objective, ())
    batch = batches.measured(x)
    table = rows.measured(model, seen, true, passes.updates(model, seen.gradients))
    stack = stacks.plain(model, batch, table)
    found = findings.find(model, batch, table, stack, y is not None)
    return report.Diagnosis(model.name, batch, table, found)


def _targets(model, x, y):
    own = type(model).compute_loss is not keras.Model.compute_loss
    if not model.compiled or (model.loss is None and not own):
        raise ValueError(
            "diagnose: y was given, but the model has no compiled loss. Compile it, model.compile(optimizer, loss), or "
            "leave out y: random gradients at the output take the loss's place."
        )
    y = batches.tensors(y, "y")
    if batches.size(y) != batches.size(x):
        raise ValueError(f"diagnose: x has {batches.size(x)} examples, but y has {batches.size(y)}.")
    return y


def _build(model, x):
    """Calls the model once if it or a layer within is not built."""
    if not model.built or not all(layer.built for layer in model.layers):
        _reporting(model, x, lambda: model(x, training=False))
    if not model.trainable_variables:
        raise ValueError(
            "diagnose: the model has no trainable weights, so that there are no gradients to look at. Set "
            "model.trainable = True, at least for some layers."
        )


def _reporting(model, x, call):
    """What a call of the model on `x` gives, or a ValueError that says what does not fit."""
    try:
        return call()
    except Exception as error:
        if str(error).startswith("diagnose: "):
            raise
        raise ValueError(f"diagnose: {_misfit(model, x)}: {_first_line(error)}") from error


def _misfit(model, x):
    expected = getattr(model, "input_shape", None)
    takes = "" if expected is None else f", whose input shape is {expected},"
    return f"the model{takes} cannot be called on x of shape {batches.shapes(x)}"


def _first_line(error):
    """The first line of an error that says something, without the colours that Keras gives it."""
    lines = [re.sub(r"\x1b\[\d+m", "", line).strip() for line in str(error).splitlines()]
    said = (line for line in lines if line and not line.startswith("Exception encountered"))
    return next(said, type(error).__name__)


def _objective(model, x, y, seed):
    def objective(outputs):
        if y is None:
            return passes.random_cotangents(outputs, seed), 1.0
        try:
            return passes.compiled_loss(model, x, y, outputs)
        except Exception as error:
            raise ValueError(
                f"diagnose: the compiled loss cannot be computed from y of shape {batches.shapes(y)} and outputs of "
                f"shape {batches.shapes(outputs)}: {_first_line(error)}"
            ) from error

    return objective
