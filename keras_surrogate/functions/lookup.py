"""From a name, a configuration or any callable to a `Function`."""

import dataclasses
import difflib

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import COLLECTION, Function


class FromCallable(Function, collect=False):
    """Any elementwise callable on tensors; its slope comes from automatic differentiation.

    Args:
        function: maps a floating tensor to one of the same shape and dtype, each element on its own. To be saved with
            a model it must be one of Keras's activations, or registered by
            `keras.saving.register_keras_serializable`.
    """

    function: object

    def __post_init__(self):
        try:
            elementwise = _is_elementwise(self.function)
        except Exception as error:
            raise ValueError(f"{_name_of(self.function)} fails on a float32 tensor of shape (1, 4): {error}") from error
        if not elementwise:
            raise ValueError(
                f"{_name_of(self.function)} is not elementwise (each output must depend on its own input only, and "
                "have its shape and dtype), so it has no slope to replace. Use it as a layer of its own."
            )

    @property
    def title(self):
        return _name_of(self.function)

    def value(self, x):
        return self.function(x)

    def get_config(self):
        name = _saved_name(self.function)
        if name is None:
            raise ValueError(
                f"{_name_of(self.function)} cannot be saved, because a name to find it by is missing. Decorate it with "
                "@keras.saving.register_keras_serializable() (make a lambda a function first), then save again."
            )
        return {"name": name}


def _is_elementwise(function):
    """Whether part of an input gives that part of the output, judged on four numbers."""
    with tf.init_scope():
        x = tf.constant([[-1.5, -0.5, 0.5, 1.5]])
        whole, part = function(x), function(x[:, :2])
        if getattr(whole, "dtype", None) != x.dtype or whole.shape != x.shape or part.shape != (1, 2):
            return False
        return np.allclose(whole[:, :2], part, equal_nan=True)


def _name_of(function):
    return getattr(function, "__name__", repr(function))


def _named_callable(name):
    """The Keras activation or the registered callable of that name, else None."""
    try:
        return keras.activations.get(name)
    except ValueError:
        return keras.saving.get_registered_object(name)


def _saved_name(function):
    """The name under which `_named_callable` finds `function` again, else None."""
    candidates = (_name_of(function), keras.saving.get_registered_name(function))
    return next((name for name in candidates if _named_callable(name) is function), None)


def names():
    """The names in the collection, sorted."""
    return sorted(COLLECTION)


def is_known(name):
    """Whether `get` finds a function of that name: in the collection, in Keras, or registered with Keras."""
    return name in COLLECTION or _named_callable(name) is not None


def get(identifier, **parameters):
    """The `Function` that `identifier` stands for.

    Args:
        identifier: a name in the collection ("softplus"), the name of a Keras activation ("sparse_plus"), a
            configuration made by `Function.get_config`, an elementwise callable on tensors, or a `Function`.
        parameters: for a name in the collection, its parameters: `get("leaky_relu", negative_slope=0.1)`.

    Raises:
        ValueError: nothing goes by that name, or a parameter is unknown or out of range.
    """
    if isinstance(identifier, str):
        return _from_name(identifier, parameters)
    if isinstance(identifier, dict) and "name" in identifier:
        return get(**{"identifier": identifier["name"], **_without_name(identifier), **parameters})
    if parameters:
        raise ValueError(f"Parameters {sorted(parameters)} go with a name, but the function given is {identifier!r}.")
    if isinstance(identifier, Function):
        return identifier
    if not callable(identifier):
        raise ValueError(f"A function must be a name, a configuration, a callable or a Function, not {identifier!r}.")
    return _from_callable(identifier)


def unknown_name(kind, name, valid):
    """The ValueError for a name that nothing goes by; it gives the three nearest valid ones, and all."""
    nearest = difflib.get_close_matches(str(name), valid, n=3, cutoff=0)
    return ValueError(
        f"No {kind} is called {name!r}. Did you mean {', '.join(map(repr, nearest))}? Known are: {', '.join(valid)}."
    )


def _from_name(name, parameters):
    if name in COLLECTION:
        return _build(COLLECTION[name], parameters)
    function = _named_callable(name)
    if function is None:
        raise unknown_name("function", name, names())
    if parameters:
        raise ValueError(f"{name!r} takes no parameters here, but was given {sorted(parameters)}.")
    return FromCallable(function)


def _build(cls, parameters):
    fields = [field.name for field in dataclasses.fields(cls)]
    renamed = {cls.aliases.get(name, name): value for name, value in parameters.items()}
    unknown = sorted(set(renamed) - set(fields))
    if unknown:
        raise ValueError(f"{cls.registered_name()} has no parameter {unknown}; it has {fields or 'none'}.")
    return cls(**renamed)


def _from_callable(function):
    """Keras's own activations that are in the collection are taken from there."""
    name = _saved_name(function)
    return get(name) if name in COLLECTION else FromCallable(function)


def _without_name(config):
    return {key: value for key, value in config.items() if key != "name"}
