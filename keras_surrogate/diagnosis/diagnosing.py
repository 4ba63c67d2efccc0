"""`diagnose`: from a model and a batch to a `Diagnosis`."""

import re

import keras

from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.diagnosis import (
    batches,
    findings,
    layer_table,
    passes,
    plain_stack,
    report,
    sources,
)
from keras_surrogate.recording import names


def diagnose(model, x, y=None, seed=0):
    """What a batch shows of a model, without training: a table of its layers, and findings in plain words.

        diagnose(model, x_train[:256], y_train[:256]).print()

    Two forward and backward passes in training mode, one with the model's surrogates and one with
    the true derivatives, and before them a forward pass if the model is not built. Weights, moving
    averages, seeds, metrics and the optimizer are afterwards what they were before, to the bit.

    Args:
        model: a Keras model of any kind; compiled or not; built, or built by this.
        x: a batch as the model takes it: an array, or a list, tuple or dictionary of arrays. Or
            what gives batches of x, (x, y) or (x, y, sample_weight), as `model.fit` takes it: a
            batched tf.data.Dataset, a keras.utils.PyDataset, a generator or any other iterable. The
            first batch is used (and of a generator used up), and the sample weight is ignored; so
            is y if the model is not compiled with a loss. 64 examples or more are sensible: with
            one there is nothing to compare, and a unit that is off for few is not therefore dead.
        y: targets of the compiled loss, whose gradient is then measured; only beside arrays.
            Default None: each example's outputs get a random gradient of norm 1 / examples. That
            needs no loss, and its ratios tell the same; but the absolute size of gradients, and so
            of the update of an optimizer that does not rescale them (SGD), then means nothing.
        seed: fixes these random gradients; an integer of at least 0, default 0.

    Layers within layers that are no models (a cell in an RNN, a Dense in a layer of one's own) have
    no row of their own, as in `callbacks.GradientNormLogger`; nor has what is called only within a
    `tf.function`.

    Returns:
        A `Diagnosis`.

    Raises:
        TypeError: `model` is not a Keras model, or `x` none of these things.
        ValueError: `x` does not fit the model, is empty, not finite or not batched; `y` does not
            fit the loss, there is no loss, or `x` gives targets itself; the model has no trainable
            weights or no floating output; the compiled optimizer cannot be copied.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"diagnose: model must be a Keras model, but is {model!r}. Wrap a layer: "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    x, y, is_source = sources.first_batch(x, y)
    if is_source:
        sources.check_batched(model, x)
        y = y if _has_loss(model) else None
    x = batches.tensors(x)
    y = None if y is None else _targets(model, x, y, is_source)
    _build(model, x)
    x = batches.as_taken(model, x)
    layers, objective = names.layers_by_name(model), _objective(model, x, y, seed)
    with passes.unchanged(model):
        seen = _reporting(model, x, lambda: passes.run(model, x, objective, layers.values()))
    with passes.unchanged(model), true_gradients(model):
        true = passes.run(model, x, objective, ())
    batch = batches.with_targets(batches.measured(model, x, seen.deltas), y, seen.outputs)
    table = layer_table.measured(
        model, layers, x, seen, true, passes.updates(model, seen.gradients)
    )
    stack = plain_stack.plain(layers, batch, table)
    found = findings.find(model, batch, table, stack, y is not None)
    return report.Diagnosis(model.name, batch, table, found, y is not None)


def _has_loss(model):
    own = type(model).compute_loss is not keras.Model.compute_loss
    return model.compiled and (model.loss is not None or own)


def _targets(model, x, y, is_source):
    if not _has_loss(model):
        raise ValueError(
            "diagnose: y was given, but the model has no compiled loss. Compile it, model.compile(optimizer, loss), or "
            "leave out y: random gradients at the output take the loss's place."
        )
    y = batches.tensors(y, "y")
    if batches.size(y) != batches.size(x):
        hint = " Data sets must be batched: dataset.batch(64)." if is_source else ""
        raise ValueError(
            f"diagnose: x has {batches.size(x)} examples, but y has {batches.size(y)}.{hint}"
        )
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
