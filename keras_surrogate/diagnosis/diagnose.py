"""`diagnose`: from a model and a batch to a `Diagnosis`."""

from __future__ import annotations

import keras

from keras_surrogate import checks
from keras_surrogate.custom_gradient import noted_custom_gradients, true_gradients
from keras_surrogate.diagnosis import (
    batches,
    findings,
    layer_table,
    objectives,
    passes,
    plain_stack,
    preparing,
    report,
)
from keras_surrogate.recording import names


def diagnose(
    model: keras.Model, x: object, y: object = None, seed: int = 0, depth: int = 1
) -> report.Diagnosis:
    """Measure a model on one batch, without training: a table of its layers, and findings in words.

        diagnose(model, x_train[:256], y_train[:256]).print()

    Runs one forward and backward pass in training mode and, if the model has surrogates, a second
    one with the true derivatives. A model that is not built gets one more forward pass before them.
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

    x, y = preparing.batch(model, x, y)
    layers = names.layers_by_name(model, depth)
    objective = preparing.objective(model, x, y, seed)
    with passes.unchanged(model), noted_custom_gradients() as noted:
        seen = preparing.reporting(
            model, x, lambda: passes.run(model, x, objective, layers.values())
        )
    gradients = seen.gradients
    changes = passes.updates(model, gradients)
    is_list = isinstance(getattr(model, "output", None), list | tuple)
    output_names = model.output_names if is_list else ()
    batch = batches.measured(model, x, seen.deltas)
    batch = batches.with_targets(batch, y, seen.outputs, output_names)
    table = layer_table.measured(model, layers, x, seen, changes)

    losses = objectives.of(model, layers, seen, y)
    # The memory of the first pass is free for the second.
    del seen
    true = gradients
    if noted:
        with passes.unchanged(model), true_gradients(model):
            true = passes.weight_gradients(model, x, objective)
    table = layer_table.with_cosines(table, model, layers, gradients, true)
    stack = plain_stack.plain(layers, batch, table)
    found = findings.find(model, batch, table, stack, y is not None, losses)
    return report.Diagnosis(model.name, batch, table, found, y is not None)
