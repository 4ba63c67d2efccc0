"""What is asked of Keras's optimizers, also of those that hold another one."""

import keras
import tensorflow as tf


def optimizers_of(model):
    """Every optimizer that the model holds: the compiled one, and those a custom train step uses."""
    held = [model.optimizer, *vars(model).values()]
    return list(
        {id(item): item for item in held if isinstance(item, keras.optimizers.Optimizer)}.values()
    )


def iterations(optimizer):
    """The number of updates that an optimizer has made, also where each replica has a copy of it."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def innermost(optimizer):
    """The optimizer itself, or the one within a `LossScaleOptimizer`."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def with_inner(optimizers):
    """The optimizers, and those that they hand their gradients on to."""
    inner = [
        optimizer.inner_optimizer
        for optimizer in optimizers
        if hasattr(optimizer, "inner_optimizer")
    ]
    return [*optimizers, *inner]


def changed_since_built(model):
    """The paths of variables whose `trainable` is not what it was when the compiled optimizer made its own variables.

    That shows by momenta and the like, which are named after the variable they belong to. For an
    optimizer that has none, such as SGD without momentum, nothing is known, and the list is empty.
    """
    # "adam/dense_kernel_momentum" belongs to the variable "dense/kernel".
    slots = [
        slot.path.split("/", 1)[-1].split("_") for slot in innermost(model.optimizer).variables
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


def _flat_name(variable):
    return variable.path.replace("/", "_")


def loss_scale(optimizer):
    """The factor that the loss, and so every gradient, is multiplied by."""
    return optimizer.scale_loss(tf.constant(1.0))
