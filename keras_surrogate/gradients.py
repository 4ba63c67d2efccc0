"""Norms of gradients, whose they are, and their record for a training loop of one's own.

For `model.fit` there is `callbacks.GradientNormLogger`.
"""

import keras
import tensorflow as tf


def norms(gradients):
    """The L2 norms sqrt(sum(gradient**2)) of some tensors, in float64, shape (tensors,).

    One pass over each tensor as long as all sums of squares fit its dtype; otherwise, as in gradients that vanish or
    explode by twenty orders of magnitude, each tensor is scaled by its largest element before it is squared.

    Args:
        gradients: floating tensors of any shape, or `tf.IndexedSlices`, whose repeated rows are added up; at least one.
    """
    gradients = [at_least_float32(tf.convert_to_tensor(gradient)) for gradient in gradients]
    squares = tf.stack([tf.cast(tf.reduce_sum(tf.square(gradient)), tf.float64) for gradient in gradients])
    fit = tf.reduce_all((squares > _LEAST_SQUARE) & tf.math.is_finite(squares))
    return tf.cond(fit, lambda: tf.sqrt(squares), lambda: tf.stack([_scaled_norm(gradient) for gradient in gradients]))


# Sums of squares below this may have lost elements to underflow in float32, whose smallest normal number is 1.2e-38.
_LEAST_SQUARE = 1e-30


def at_least_float32(tensor):
    """In float32 where the dtype is a shorter one."""
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _scaled_norm(tensor):
    largest = tf.reduce_max(tf.abs(tensor))
    unit = tf.where(largest > 0, largest, tf.ones_like(largest))
    return tf.cast(unit, tf.float64) * tf.cast(tf.sqrt(tf.reduce_sum(tf.square(tensor / unit))), tf.float64)


def layer_variables(model):
    """The trainable variables of every layer that has some: a dictionary from name to list, first layer first.

    Layers of nested models are named by path, "encoder/dense"; a layer or variable that is used twice appears once;
    equal names are told apart by a number; variables that the model itself owns stand under the model's name.
    """
    groups, seen = {}, set()
    for name, owner in [*_named_layers(model), (model.name, model)]:
        variables = [variable for variable in owner.trainable_variables if id(variable) not in seen]
        seen.update(map(id, variables))
        if variables:
            groups[_unused(name, groups)] = variables
    return groups


def variables_by_name(model):
    """The trainable variables of a model, each under its layer's name and its own: "encoder/dense/kernel"."""
    groups = {}
    for name, variables in layer_variables(model).items():
        for variable in variables:
            groups[_unused(f"{name}/{variable.name}", groups)] = [variable]
    return groups


def layers_by_name(model):
    """The layers that compute something, each once: a dictionary from name, as in `layer_variables`, to layer."""
    layers = {}
    for name, layer in _named_layers(model):
        if not isinstance(layer, keras.Model | keras.layers.InputLayer) and layer not in layers.values():
            layers[_unused(name, layers)] = layer
    return layers


def _named_layers(model, prefix=""):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _named_layers(layer, f"{prefix}{layer.name}/")
        yield prefix + layer.name, layer


def _unused(name, taken):
    """`name`, with the first of _1, _2, ... that makes it new; "global" is taken by the norm over all layers."""
    candidates = [name, *(f"{name}_{number}" for number in range(1, len(taken) + 2))]
    return next(candidate for candidate in candidates if candidate not in {"global", *taken})
