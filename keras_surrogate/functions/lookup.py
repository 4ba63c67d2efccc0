"""Lookup: a `Function` for a name, a configuration or any callable."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import COLLECTION, Function

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike
    from keras_surrogate.surrogate import Surrogate

# The published pairs by name. `presets` fills it; errors here mention a pair that has the name.
PAIRS: dict[str, Callable[..., Surrogate]] = {}


class FromCallable(Function, collect=False):
    """Any elementwise callable on tensors; its slope comes from automatic differentiation.

    Args:
        function: maps a floating tensor to one of the same shape and dtype, element by element. A
            saved model needs one of Keras's activations, or a function registered by
            `keras.saving.register_keras_serializable`.

    Raises:
        ValueError: `function` fails, or is not elementwise.
    """

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        try:
            elementwise = _is_elementwise(self.function)
        except Exception as error:
            raise ValueError(
                f"{_name_of(self.function)} fails on a float32 tensor of shape (1, 4): {error}"
            ) from error
        if not elementwise:
            raise ValueError(
                f"{_name_of(self.function)} is not elementwise: each output must depend on its own "
                "input only, and have its shape and dtype. Its slope cannot be replaced; use it as "
                "a layer of its own."
            )

    @property
    def title(self) -> str:
        return _name_of(self.function)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return self.function(x)

    def get_config(self) -> dict[str, Any]:
        name = _saved_name(self.function)
        if name is None:
            raise ValueError(
                f"{_name_of(self.function)} cannot be saved, because it has no registered name. "
                "Decorate it with @keras.saving.register_keras_serializable() (a lambda must "
                "become a function first), then save again."
            )
        return {"name": name}


def _is_elementwise(function: Callable[..., Any]) -> bool:
    """Compare the output of part of an input with that part of the output, for four numbers."""
    # Outside of any graph that is being traced, so that there are numbers to compare.
    with tf.init_scope():
        x = tf.constant([[-1.5, -0.5, 0.5, 1.5]])
        whole = function(x)
        part = function(x[:, :2])
        has_dtype = getattr(whole, "dtype", None) == x.dtype
        if not has_dtype or whole.shape != x.shape or part.shape != (1, 2):
            return False
        return np.allclose(whole[:, :2], part, equal_nan=True)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _named_callable(name: str) -> Callable[..., Any] | None:
    """The Keras activation or the registered callable of that name, else None."""
    try:
        return keras.activations.get(name)
    except ValueError:
        return keras.saving.get_registered_object(name)


def _saved_name(function: Callable[..., Any]) -> str | None:
    """The name under which `_named_callable` finds `function` again, else None."""
    # Keras has no name for such a callable either, for example a functools.partial.
    if not hasattr(function, "__name__"):
        return None
    candidates = (_name_of(function), keras.saving.get_registered_name(function))
    return next((name for name in candidates if _named_callable(name) is function), None)


def names() -> list[str]:
    """The names in the collection, sorted."""
    return sorted(COLLECTION)


def is_known(name: str) -> bool:
    """Tell if `get` finds a function by name: in the collection, in Keras, or registered."""
    return name in COLLECTION or _named_callable(name) is not None


def get(identifier: FunctionLike, **parameters: float | bool) -> Function:
    """The `Function` for a name, a configuration or a callable.

    Args:
        identifier: a name in the collection ("softplus"), the name of a Keras activation
            ("sparse_plus"), a configuration made by `Function.get_config`, an elementwise callable
            on tensors, or a `Function`.
        parameters: the parameters of a function of the collection: `get("leaky_relu",
            negative_slope=0.1)`. Only with a name or a configuration.

    Raises:
        ValueError: an unknown name, an unknown parameter, a parameter out of range, or something
            that is not an elementwise function.
    """
    if isinstance(identifier, str):
        return _from_name(identifier, parameters)
    if isinstance(identifier, dict) and "name" in identifier:
        saved = {key: value for key, value in identifier.items() if key != "name"}
        return get(identifier["name"], **{**saved, **parameters})
    if parameters:
        raise ValueError(
            f"Parameters {sorted(parameters)} need a function's name, but the function given is "
            f"{identifier!r}."
        )
    if isinstance(identifier, Function):
        return identifier
    _refuse_other_callables(identifier)
    if not callable(identifier):
        raise ValueError(
            "A function must be a name, a configuration, a callable or a Function, not "
            f"{identifier!r}."
        )
    return _from_callable(identifier)


def _refuse_other_callables(identifier: object) -> None:
    """Refuse models, layers, pairs and classes, which are callable too.

    As a function, a layer would lose its weights, and a pair its slope.
    """
    if isinstance(identifier, keras.Model):
        raise ValueError(
            f"This needs an elementwise function, such as 'relu', but got the model "
            f"{identifier.name!r}. keras_surrogate.diagnosis.diagnose(model, x, y) examines a "
            'model, and keras_surrogate.conversion.swap(model, {"relu": "leaky_backward"}) puts '
            "surrogates into it."
        )
    if isinstance(identifier, keras.layers.Layer):
        layer = f"the layer {identifier.name!r} ({type(identifier).__name__})"
        raise ValueError(f"This needs a function, but got {layer}. {_advice_for(identifier)}")
    if hasattr(identifier, "forward") and hasattr(identifier, "backward"):
        raise ValueError(
            f"This needs one function, but got the pair {identifier.title}. Pass one of its two "
            "functions, pair.forward or pair.backward."
        )
    if isinstance(identifier, type):
        raise ValueError(
            f"This needs a function, such as 'relu', but got the class {identifier.__name__}. Pass "
            "the name of a function, or an instance of its class, such as functions.LeakyRelu(0.1)."
        )


def _advice_for(layer: keras.layers.Layer) -> str:
    if hasattr(layer, "surrogate"):
        return "Pass its surrogate, layer.surrogate."
    return (
        "Pass the name of the function, such as 'relu'. "
        'keras_surrogate.layers.SurrogateActivation("relu", "softplus") is a layer with a '
        "surrogate slope."
    )


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> ValueError:
    """The ValueError for an unknown name, to be raised.

    Its message has the three nearest of the valid names, or all of them if none is near.

    Args:
        kind: the kind of object that the name is looked up for, as "function".
        name: the unknown name.
        valid: the valid names.
    """
    valid = sorted(set(valid))
    if name in PAIRS and name not in valid:
        return ValueError(
            f"{name!r} is a published pair of two functions and not one function. "
            f"keras_surrogate.get({name!r}) gives the pair: {PAIRS[name]().title}."
        )
    nearest = difflib.get_close_matches(str(name).lower(), valid, n=3, cutoff=0.6)
    if nearest:
        hint = " or ".join(map(repr, nearest))
        return ValueError(f"No {kind} is called {name!r}. Did you mean {hint}?")
    return ValueError(
        f"No {kind} is called {name!r}. Known are: {', '.join(valid)}. The command "
        "`keras-surrogate list` describes them; keras_surrogate.functions.names() and "
        "keras_surrogate.presets.names() list them."
    )


def _from_name(name: str, parameters: Mapping[str, Any]) -> Function:
    if name in COLLECTION:
        return _build(COLLECTION[name], parameters)
    function = _named_callable(name)
    if function is None:
        raise unknown_name("function", name, names())
    if parameters:
        raise ValueError(f"{name!r} takes no parameters here, but was given {sorted(parameters)}.")
    return FromCallable(function)


def _build(cls: type[Function], parameters: Mapping[str, Any]) -> Function:
    fields = [field.name for field in dataclasses.fields(cls)]
    renamed = {cls.aliases.get(name, name): value for name, value in parameters.items()}
    unknown = sorted(set(renamed) - set(fields))
    if unknown:
        raise ValueError(
            f"{cls.registered_name()} has no parameter {unknown}; it has {fields or 'none'}."
        )
    return cls(**renamed)


def _from_callable(function: Callable[..., Any]) -> Function:
    # Keras's own activations are taken from the collection where it has them.
    name = _saved_name(function)
    if name is not None and name in COLLECTION:
        return get(name)
    return FromCallable(function)
