"""`diagnose`: from a model and a batch to a `Diagnosis`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import keras
import tensorflow as tf

from keras_surrogate import checks
from keras_surrogate.custom_gradient import true_gradients
from keras_surrogate.diagnosis import (
    batches,
    findings,
    layer_table,
    objectives,
    passes,
    plain_stack,
    report,
    sources,
)
from keras_surrogate.recording import names

_Result = TypeVar("_Result")


def diagnose(
    model: keras.Model, x: object, y: object = None, seed: int = 0, depth: int = 1
) -> report.Diagnosis:
    """Measure a model on one batch, without training: a table of its layers, and findings in words.

        diagnose(model, x_train[:256], y_train[:256]).print()

    Runs two forward and backward passes in training mode: one with the model's surrogates and one
    with the true derivatives. A model that is not built gets one more forward pass before them.
    Weights, moving averages, seeds, metrics and the optimizer's state are restored to the bit.

    Args:
        model: a Keras model of any kind, compiled or not, built or not. This call builds it.
        x: one batch, as the model takes it: an array, or a list, tuple or dictionary of arrays. Or
            a source of batches, as `model.fit` takes it: a batched tf.data.Dataset, a
            keras.utils.PyDataset, a generator or any other iterable of x, (x, y) or
            (x, y, sample_weight). Only the first batch is used. Its sample weight is ignored; its
            targets are ignored if the model is not compiled with a loss. Use 64 examples or more:
            with few examples, a unit can be 0 for all of them and still not be dead.
        y: targets for the compiled loss; only together with arrays. The gradients are then those of
            the loss. Default None: each example's outputs receive a random gradient of norm
            1 / examples. No loss is needed, and ratios between layers keep their meaning. The
            absolute size of gradients has none, and neither has the update of an optimizer that
            does not rescale gradients (SGD).
        seed: seed of these random gradients, an integer of at least 0, default 0.
        depth: how far to look into layers that hold layers, such as the blocks of a transformer; an
            integer of at least 1, default 1: such a layer has one row. With 2 the layers that it
            holds have rows of their own, "block/dense", and its own row counts only the weights
            that belong to none of them. Models within a model are always looked into, the cell of
            an RNN never.

    Layers that are called only within a `tf.function` have no numbers about their outputs.

    Returns:
        A `Diagnosis`.

    Raises:
        TypeError: `model` is not a Keras model; `x` is neither arrays nor a source of batches.
        ValueError: `x` does not fit the model, is empty, not finite or not batched; `y` does not
            fit the loss, there is no loss, or `x` already contains targets; the model has no
            trainable weights or no floating output; the compiled optimizer cannot be copied;
            `depth` is not an integer of at least 1.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"diagnose: model must be a Keras model, but is {model!r}. Wrap a layer: "
            "keras.Sequential([keras.Input(shape), layer])."
        )
    depth = checks.integer(depth, "diagnose: depth")

    x, y, is_source = sources.first_batch(x, y)
    if is_source:
        sources.check_batched(model, x)
        y = y if _has_loss(model) else None
    x = batches.tensors(x)
    if y is not None:
        y = _targets(model, x, y, is_source)
    _build(model, x)
    x = batches.as_taken(model, x)

    layers = names.layers_by_name(model, depth)
    objective = _objective(model, x, y, seed)
    with passes.unchanged(model):
        seen = _reporting(model, x, lambda: passes.run(model, x, objective, layers.values()))
    with passes.unchanged(model), true_gradients(model):
        true = passes.run(model, x, objective, ())

    changes = passes.updates(model, seen.gradients)
    batch = batches.with_targets(batches.measured(model, x, seen.deltas), y, seen.outputs)
    table = layer_table.measured(model, layers, x, seen, true, changes)
    stack = plain_stack.plain(layers, batch, table)
    losses = objectives.of(model, layers, seen, y)
    found = findings.find(model, batch, table, stack, y is not None, losses)
    return report.Diagnosis(model.name, batch, table, found, y is not None)


def _has_loss(model: keras.Model) -> bool:
    has_own = type(model).compute_loss is not keras.Model.compute_loss
    return model.compiled and (model.loss is not None or has_own)


def _targets(model: keras.Model, x: object, y: object, is_source: bool) -> object:
    """The targets as tensors, or a ValueError where they do not fit."""
    if not _has_loss(model):
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
        _reporting(model, x, lambda: model(x, training=False))
    if not model.trainable_variables:
        raise ValueError(
            "diagnose: the model has no trainable weights and therefore no gradients. Set "
            "trainable = True for some of its layers."
        )


def _reporting(model: keras.Model, x: object, call: Callable[[], _Result]) -> _Result:
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


def _objective(
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
