"""Facts about Keras's optimizers, including those that contain another optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Every optimizer of a model: the compiled one, and those of a custom train step.

    These are attributes of the model, also in lists and dictionaries.
    """
    held = [getattr(model, "optimizer", None)]
    for value in vars(model).values():
        if isinstance(value, dict):
            held += value.values()
        elif isinstance(value, list | tuple):
            held += value
        else:
            held.append(value)
    found = {id(item): item for item in held if isinstance(item, keras.optimizers.Optimizer)}
    return list(found.values())


def iterations(optimizer: keras.optimizers.Optimizer) -> int:
    """The number of updates that an optimizer has made. It may have a copy on each replica."""
    # In old versions of Keras, 3.8 among them, that of a LossScaleOptimizer itself stays 0.
    return int(keras.ops.convert_to_numpy(innermost(optimizer).iterations))


def counting(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """The optimizer of a model whose number of updates counts the steps; None without optimizers.

    It is the compiled one. If a custom train step does not use it, it is the first that has made
    updates.
    """
    optimizers = optimizers_of(model)
    if len(optimizers) > 1:
        used = (optimizer for optimizer in optimizers if iterations(optimizer) > 0)
        return next(used, optimizers[0])
    return optimizers[0] if optimizers else None


def updates_made(model: keras.Model) -> int:
    """The number of updates that the `counting` optimizer of a model has made; 0 without one."""
    optimizer = counting(model)
    return 0 if optimizer is None else iterations(optimizer)


def innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer within a `LossScaleOptimizer` or `LayerRates`; any other optimizer itself."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def clipping(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer whose clipping acts: the innermost one, and in a `Bop` its `rest`."""
    inner = _within(optimizer)
    return optimizer if inner is None else clipping(inner)


def reaches(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """True if the gradient of a variable reaches the `clipping` optimizer within an optimizer."""
    inner = _within(optimizer)
    if inner is None:
        return True
    passes_on = getattr(optimizer, "passes_on", None)
    if passes_on is not None and not passes_on(variable):
        return False
    return reaches(inner, variable)


def _within(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer | None:
    return getattr(optimizer, "inner_optimizer", None) or getattr(optimizer, "rest", None)


def without_loss_scaling(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer within a `LossScaleOptimizer`; any other optimizer itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def with_inner(
    optimizers: Sequence[keras.optimizers.Optimizer],
) -> list[keras.optimizers.Optimizer]:
    """The optimizers, and those within them."""
    found = list(optimizers)
    for optimizer in found:
        # Of loss scaling and `LayerRates`, and of `Bop`, which leaves some weights to another one.
        inner = [getattr(optimizer, name, None) for name in ("inner_optimizer", "rest")]
        found += [one for one in inner if one is not None]
    return found


def changed_since_built(model: keras.Model) -> list[str]:
    """The paths of variables whose `trainable` was changed after the optimizer was built.

    The optimizer's own variables (such as momenta) are named after the variables that were
    trainable then. For an optimizer without such variables, such as SGD without momentum, the list
    is empty.
    """
    # "adam/dense_kernel_momentum" belongs to the variable "dense/kernel".
    slots = [
        slot.path.split("/", 1)[-1].split("_")
        for optimizer in optimizers_of(model)
        for slot in innermost(optimizer).variables
    ]
    owners = {"_".join(parts[:end]) for parts in slots for end in range(1, len(parts))}
    trained = {
        variable.path: _flat_name(variable) in owners for variable in model.trainable_variables
    }
    if not any(trained.values()):
        return []
    frozen = [
        variable.path
        for variable in model.non_trainable_variables
        if _flat_name(variable) in owners
    ]
    return [*frozen, *(path for path, was_trained in trained.items() if not was_trained)]


def _flat_name(variable: keras.Variable) -> str:
    """The path of a variable as it stands in the names of the optimizer's variables."""
    return variable.path.replace("/", "_")


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor | float:
    """The factor by which the optimizer multiplies the loss, and so every gradient."""
    return optimizer.scale_loss(tf.constant(1.0))
