"""From a name, a configuration or any callable to a `Function`."""

import dataclasses
import difflib

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import COLLECTION, Function

# The published pairs by name. `presets` enters them here, so that an error can tell a pair from a
# function.
PAIRS = {}


class FromCallable(Function, collect=False):
    """Any elementwise callable on tensors; its slope comes from automatic differentiation.

    Args:
        function: maps a floating tensor to one of the same shape and dtype, each element on its
            own. To be saved with a model it must be one of Keras's activations, or registered by
            `keras.saving.register_keras_serializable`.
    """

    function: object

    def __post_init__(self):
        try:
            elementwise = _is_elementwise(self.function)
        except Exception as error:
            raise ValueError(
                f"{_name_of(self.function)} fails on a float32 tensor of shape (1, 4): {error}"
            ) from error
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
        if (
            getattr(whole, "dtype", None) != x.dtype
            or whole.shape != x.shape
            or part.shape != (1, 2)
        ):
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
    if not hasattr(function, "__name__"):
        return None  # such as a functools.partial, for which Keras has no name either
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
        identifier: a name in the collection ("softplus"), the name of a Keras activation
            ("sparse_plus"), a configuration made by `Function.get_config`, an elementwise callable
            on tensors, or a `Function`.
        parameters: for a name in the collection, its parameters: `get("leaky_relu",
            negative_slope=0.1)`.

    Raises:
        ValueError: nothing goes by that name, or a parameter is unknown or out of range.
    """
    if isinstance(identifier, str):
        return _from_name(identifier, parameters)
    if isinstance(identifier, dict) and "name" in identifier:
        return get(**{"identifier": identifier["name"], **_without_name(identifier), **parameters})
    if parameters:
        raise ValueError(
            f"Parameters {sorted(parameters)} go with a name, but the function given is {identifier!r}."
        )
    if isinstance(identifier, Function):
        return identifier
    _refuse_what_only_looks_like_a_function(identifier)
    if not callable(identifier):
        raise ValueError(
            f"A function must be a name, a configuration, a callable or a Function, not {identifier!r}."
        )
    return _from_callable(identifier)


def _refuse_what_only_looks_like_a_function(identifier):
    """Layers, pairs and classes are callable too, but a layer's weights would be lost, and so would a pair's slope."""
    if isinstance(identifier, keras.Model):
        raise ValueError(
            f"This needs a function of one number, such as 'relu', but got the model {identifier.name!r}. "
            "keras_surrogate.diagnosis.diagnose(model, x, y) looks at a model, and "
            'keras_surrogate.conversion.swap(model, {"relu": "leaky_backward"}) puts surrogates into it.'
        )
    if isinstance(identifier, keras.layers.Layer):
        layer = f"the layer {identifier.name!r} ({type(identifier).__name__})"
        raise ValueError(f"This needs a function, but got {layer}. {_what_to_give_for(identifier)}")
    if hasattr(identifier, "forward") and hasattr(identifier, "backward"):
        raise ValueError(
            f"This needs one function, but got the pair {identifier.title}. Give one of the two, pair.forward or "
            "pair.backward."
        )
    if isinstance(identifier, type):
        raise ValueError(
            f"This needs a function, such as 'relu', but got the class {identifier.__name__}. Give the name of a "
            "function, or an instance of its class, such as functions.LeakyRelu(0.1)."
        )


def _what_to_give_for(layer):
    if hasattr(layer, "surrogate"):
        return "Give its surrogate, layer.surrogate."
    return (
        "Give the name of the function, such as 'relu'. "
        'keras_surrogate.layers.SurrogateActivation("relu", "softplus") is a layer with a surrogate slope.'
    )


def unknown_name(kind, name, valid):
    """The ValueError for a name that nothing goes by.

    It gives the three nearest of the valid names. Where none is near, it gives all of them.
    """
    if name in PAIRS and name not in valid:
        return ValueError(
            f"{name!r} is a published pair of two functions and not one function. "
            f"keras_surrogate.get({name!r}) gives the pair: {PAIRS[name]().title}."
        )
    nearest = difflib.get_close_matches(str(name).lower(), sorted(set(valid)), n=3, cutoff=0.6)
    if nearest:
        return ValueError(
            f"No {kind} is called {name!r}. Did you mean {' or '.join(map(repr, nearest))}?"
        )
    return ValueError(
        f"No {kind} is called {name!r}. Known are: {', '.join(sorted(set(valid)))}. The command `keras-surrogate list` "
        "describes them; keras_surrogate.functions.names() and keras_surrogate.presets.names() list them."
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
        raise ValueError(
            f"{cls.registered_name()} has no parameter {unknown}; it has {fields or 'none'}."
        )
    return cls(**renamed)


def _from_callable(function):
    """Keras's own activations that are in the collection are taken from there."""
    name = _saved_name(function)
    return get(name) if name in COLLECTION else FromCallable(function)


def _without_name(config):
    return {key: value for key, value in config.items() if key != "name"}
