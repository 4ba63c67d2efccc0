"""The notation of functions, optimizers and other settings as text, one spelling of each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

from keras_surrogate import checks, functions
from keras_surrogate.initializers import CriticalNormal
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate.functions.base import Function

# The backward that is the forward's own slope.
TRUE = "true"
# In the place of a factor: the scales are those of `diagnosis.calibrate`, of each start its own.
CALIBRATED = "calibrated"
# The optimizer that is SGD with a momentum of 0.9.
MOMENTUM = "momentum"
# The initializer that is `CriticalNormal` for the forward.
CRITICAL = "critical"
# The normalizations of pre-activations.
NORMALIZATIONS = ("none", "batch", "layer")
# Keras's momentum of the moving averages of a batch normalisation.
_BATCH_MOMENTUM = 0.99
# Before the number that is the weights' variance times fan_in.
_VARIANCE = "variance:"


def spelled(number: float) -> str:
    """A number in its short form: 0.001, 1e-07."""
    return f"{number:.12g}"


@functools.lru_cache(maxsize=1024)
def function(text: str) -> Function:
    """The `Function` of "name" or "name:number"; the number is its first parameter."""
    name, colon, number = text.partition(":")
    found = functions.get(name)
    if not colon:
        return found
    fields = dataclasses.fields(found) if name in functions.names() else ()
    if not fields:
        raise ValueError(
            f"{name!r} has no parameter, so that {number!r} in {text!r} has no meaning; leave it "
            "out."
        )
    return functions.get(name, **{fields[0].name: _number(number, text)})


def spelled_function(text: str) -> str:
    """One spelling for one function: "leaky_relu:.3" becomes "leaky_relu:0.3"."""
    name, colon, number = text.partition(":")
    found = function(text)
    if not colon or found == functions.get(name):
        return name
    return f"{name}:{spelled(_number(number, text))}"


def backward(text: str) -> tuple[float, str]:
    """The factor and the function's text of "softplus", "4*true", "0.5*leaky_relu:0.3".

    The factor of "calibrated*softplus" is 1: what is measured replaces it.
    """
    factor, star, name = text.rpartition("*")
    if not star or factor.strip() == CALIBRATED:
        return 1.0, name.strip()
    try:
        return float(factor), name.strip()
    except ValueError:
        raise ValueError(f"{factor!r} in {text!r} must be a number, or {CALIBRATED!r}.") from None


def is_calibrated(text: str) -> bool:
    """True for "calibrated*softplus"."""
    factor, star, _ = text.rpartition("*")
    return bool(star) and factor.strip() == CALIBRATED


def spelled_backward(text: str, forward: str) -> str:
    """One spelling for one slope; the forward's own slope is called "true"."""
    factor, name = backward(text)
    if name not in (TRUE, forward):
        name = spelled_function(name)
    if name == forward:
        name = TRUE
    if is_calibrated(text):
        return f"{CALIBRATED}*{name}"
    return name if factor == 1 else f"{spelled(factor)}*{name}"


def pair(forward: str, text: str) -> Surrogate:
    """The `Surrogate` of a forward and a backward."""
    factor, name = backward(text)
    return Surrogate(function(forward), None if name == TRUE else function(name), factor)


def optimizer(text: str) -> tuple[Callable[[float], keras.optimizers.Optimizer], float]:
    """What makes the optimizer of a learning rate, and the rate, of "sgd:0.01"."""
    name, colon, rate = text.partition(":")
    make = _maker(name)
    if not colon:
        raise ValueError(
            f"The optimizer {text!r} has no learning rate; append it, as in {name + ':0.01'!r}."
        )
    rate = _number(rate, text)
    if not 0 < rate < float("inf"):
        raise ValueError(f"The learning rate in {text!r} must be a positive number.")
    return make, rate


@functools.lru_cache(maxsize=64)
def _maker(name: str) -> Callable[[float], keras.optimizers.Optimizer]:
    if name.lower() == MOMENTUM:
        return functools.partial(keras.optimizers.SGD, momentum=0.9)
    try:
        return type(keras.optimizers.get(name))
    except ValueError:
        raise ValueError(
            f"No optimizer is called {name!r}; write Keras's name, or {MOMENTUM!r}, and the "
            "learning rate, as in 'sgd:0.01'."
        ) from None


def spelled_optimizer(text: str) -> str:
    """One spelling for one optimizer: "Adam:1e-3" becomes "adam:0.001"."""
    return f"{text.partition(':')[0].lower()}:{spelled(optimizer(text)[1])}"


def initializer(
    name: str, forward: str, input_variance: float = 1.0
) -> keras.initializers.Initializer:
    """The Keras initializer of a text.

    A name of Keras; or "critical", `CriticalNormal` for the forward; or "variance:3", normal
    weights of variance 3 / fan_in.
    """
    if name == CRITICAL:
        return CriticalNormal(Surrogate(function(forward)), input_variance=input_variance)
    if name.startswith(_VARIANCE):
        scale = _number(name.removeprefix(_VARIANCE), name)
        if not 0 < scale < float("inf"):
            raise ValueError(f"The variance in {name!r} must be a positive number.")
        return keras.initializers.VarianceScaling(scale, "fan_in", "untruncated_normal")
    try:
        found = keras.initializers.get(name)
    except ValueError:
        found = None
    if not isinstance(found, keras.initializers.Initializer):
        raise ValueError(
            f"No initializer is called {name!r}; write Keras's name, as in 'he_normal', or "
            f"{CRITICAL!r}, or a variance times fan_in, as in 'variance:3'."
        )
    return found


def spelled_initializer(text: str, forward: str) -> str:
    """One spelling for one initializer: "variance:3.0" becomes "variance:3"."""
    if text == CRITICAL:
        return text
    found = initializer(text, forward)
    return f"{_VARIANCE}{spelled(found.scale)}" if text.startswith(_VARIANCE) else text


def normalization(text: str) -> tuple[str, float]:
    """The kind of a normalization, and the momentum of its moving averages, of "batch:0.9"."""
    kind, colon, momentum = text.partition(":")
    checks.one_of(kind, "Case: normalization", NORMALIZATIONS)
    if not colon:
        return kind, _BATCH_MOMENTUM
    number = _number(momentum, text)
    if kind != "batch" or not 0 <= number < 1:
        raise ValueError(
            "Case: only a normalization by the batch has a momentum, a number from 0 to below 1, "
            f"as in 'batch:0.9', but normalization is {text!r}."
        )
    return kind, number


def spelled_normalization(text: str) -> str:
    """One spelling for one normalization: "batch:0.90" becomes "batch:0.9"."""
    kind, momentum = normalization(text)
    return kind if momentum == _BATCH_MOMENTUM else f"{kind}:{spelled(momentum)}"


def _number(text: str, within: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {within!r} must be a number.") from None
