"""From text to functions, optimizers and initializers, and to one spelling of each, by which cases are compared."""

import dataclasses
import functools

import keras

from keras_surrogate import functions
from keras_surrogate.initializers import CriticalNormal
from keras_surrogate.surrogate import Surrogate

# The backward that is the forward's own slope, and the initializer that is `CriticalNormal` for the
# forward.
TRUE, CRITICAL = "true", "critical"


def spelled(number):
    """A number as one writes it: 0.001, 1e-07."""
    return f"{number:.12g}"


@functools.lru_cache(maxsize=1024)
def function(text):
    """The `Function` that "name" or "name:number" stands for; the number is its first parameter."""
    name, colon, number = text.partition(":")
    found = functions.get(name)
    if not colon:
        return found
    fields = dataclasses.fields(found) if name in functions.names() else ()
    if not fields:
        raise ValueError(
            f"{name!r} has no parameter, so that {number!r} in {text!r} says nothing; leave it out."
        )
    return functions.get(name, **{fields[0].name: _number(number, text)})


def spelled_function(text):
    """One spelling for one function: "leaky_relu:.3" becomes "leaky_relu:0.3", and a default is left out."""
    name, colon, number = text.partition(":")
    found = function(text)
    if not colon or found == functions.get(name):
        return name
    return f"{name}:{spelled(_number(number, text))}"


def backward(text):
    """The factor and the function's text of "softplus", "4*true", "0.5*leaky_relu:0.3"."""
    factor, star, name = text.rpartition("*")
    return (_number(factor, text) if star else 1.0), name.strip()


def spelled_backward(text, forward):
    """One spelling for one slope, given the forward's: its own is called "true"."""
    factor, name = backward(text)
    name = TRUE if name in (TRUE, forward) else spelled_function(name)
    name = TRUE if name == forward else name
    return name if factor == 1 else f"{spelled(factor)}*{name}"


def pair(forward, text):
    """The `Surrogate` of a forward and a backward."""
    factor, name = backward(text)
    return Surrogate(function(forward), None if name == TRUE else function(name), factor)


def optimizer(text):
    """The class and the learning rate of "sgd:0.01"."""
    name, colon, rate = text.partition(":")
    cls = _optimizer_class(name)
    if not colon:
        raise ValueError(
            f"The optimizer {text!r} has no learning rate; write it behind, as in {name + ':0.01'!r}."
        )
    rate = _number(rate, text)
    if not 0 < rate < float("inf"):
        raise ValueError(f"The learning rate in {text!r} must be a positive number.")
    return cls, rate


@functools.lru_cache(maxsize=64)
def _optimizer_class(name):
    try:
        return type(keras.optimizers.get(name))
    except ValueError:
        raise ValueError(
            f"No optimizer is called {name!r}; write Keras's name and the learning rate, as in 'sgd:0.01'."
        ) from None


def spelled_optimizer(text):
    return f"{text.partition(':')[0].lower()}:{spelled(optimizer(text)[1])}"


def initializer(name, forward, input_variance=1.0):
    """The Keras initializer of that name; "critical" is `CriticalNormal` for the forward with its own slope."""
    if name == CRITICAL:
        return CriticalNormal(Surrogate(function(forward)), input_variance=input_variance)
    try:
        found = keras.initializers.get(name)
    except ValueError:
        found = None
    if not isinstance(found, keras.initializers.Initializer):
        raise ValueError(
            f"No initializer is called {name!r}; write Keras's name, as in 'he_normal', or {CRITICAL!r}."
        )
    return found


def _number(text, within):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {within!r} must be a number.") from None
