"""What a function is: a frozen dataclass with a value and a slope, that enters the collection by being defined."""

import dataclasses
import math
import re
from types import MappingProxyType

import numpy as np
import tensorflow as tf

# Every function by name; the order of definition is the order of the documentation.
COLLECTION = {}


@dataclasses.dataclass(frozen=True)
class Function:
    """An elementwise function of one real variable, with the slope to use in the backward pass.

    A subclass defines `value(x)`. It should define `slope(x)`, which is otherwise found by
    automatic differentiation. Fields are parameters, declared by `positive`, `nonnegative`,
    `above`, `between`, `real` or `flag`.

    What a class may declare:
        odd: `value(x) - value(0)` changes its sign with `x`, so that the slope is even.
        increasing: the slope is nowhere negative.
        keeps_sign: the value is positive exactly where `x` is.
        slope_needs_only_sign: the slope depends on nothing but whether `x` is positive. Together
            with the forward's `keeps_sign` it lets a `Surrogate` keep the output in memory instead
            of the input.
        aliases: other names under which `get` takes a parameter.
    """

    odd = False
    increasing = False
    keeps_sign = False
    slope_needs_only_sign = False
    aliases = MappingProxyType({})

    def __init_subclass__(cls, collect=True):
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)
        if collect:
            _collect(cls)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _validate(self, field)

    @classmethod
    def registered_name(cls):
        """The name in the collection: the class's name in snake_case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def title(self):
        """The name to show to people, in tables and pictures."""
        return self.registered_name()

    def value(self, x):
        raise TypeError(f"{type(self).__name__} defines no value(x).")

    def slope(self, x):
        """The derivative of `value` at `x`, by automatic differentiation."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = self.value(x)
        return tape.gradient(value, x, unconnected_gradients="zero") + zero(x)

    def gradient(self, upstream, x):
        """`upstream * slope(x)`; overridden where TensorFlow has one kernel for it."""
        return upstream * self.slope(x)

    def gradient_from_output(self, upstream, y, of):
        """`upstream * slope(x)` from the output `y = of.value(x)` of a function; None where that does not suffice.

        A surrogate whose forward is `of` then keeps its output in memory and not its input.
        """
        return self.gradient(upstream, y) if of.keeps_sign and self.slope_needs_only_sign else None

    @classmethod
    def documented(cls, key):
        """What the docstring says after `key:` ("value", "slope", "Source"), on one line; None if it does not."""
        found = re.search(
            rf"^\s*{key}:(.*?)(?=^\s*\w+:|\Z)", cls.__doc__ or "", flags=re.MULTILINE | re.DOTALL
        )
        return found and " ".join(found.group(1).split())

    def get_config(self):
        """A dictionary that `get` turns into an equal function."""
        return {"name": self.registered_name(), **dataclasses.asdict(self)}


def _collect(cls):
    name = cls.registered_name()
    if COLLECTION.get(name, cls).__module__ != cls.__module__:
        raise ValueError(
            f"A function called {name!r} exists already ({COLLECTION[name]}); choose another class name."
        )
    COLLECTION[name] = cls


def _parameter(default, accepts, meaning):
    return dataclasses.field(default=default, metadata={"accepts": accepts, "meaning": meaning})


def positive(default):
    """A parameter in (0, inf)."""
    return _parameter(default, lambda number: number > 0, "a positive number")


def nonnegative(default):
    """A parameter in [0, inf)."""
    return _parameter(default, lambda number: number >= 0, "a number of at least 0")


def above(low, default):
    """A parameter in (low, inf)."""
    return _parameter(default, lambda number: number > low, f"a number greater than {low}")


def between(low, high, default):
    """A parameter in [low, high]."""
    return _parameter(
        default, lambda number: low <= number <= high, f"a number from {low} to {high}"
    )


def real(default):
    """A parameter that is any finite number."""
    return _parameter(default, lambda number: True, "a finite number")


def flag(default):
    """A parameter that is True or False."""
    return _parameter(default, None, "True or False")


def real_number(number, owner, name, meaning="a finite number", accepts=lambda number: True):
    """`number` as a Python float, or a ValueError that names `owner`, `name`, what was passed and what is valid."""
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(
        number, bool
    )
    if not is_number or not math.isfinite(number) or not accepts(number):
        raise ValueError(f"{owner}: {name} must be {meaning}, but is {number!r}.")
    return float(number)


def _validate(function, field):
    if not field.metadata:
        return
    number, meaning, accepts = (
        getattr(function, field.name),
        field.metadata["meaning"],
        field.metadata["accepts"],
    )
    if accepts is not None:
        number = real_number(number, function.registered_name(), field.name, meaning, accepts)
    elif not isinstance(number, bool):
        raise ValueError(
            f"{function.registered_name()}: {field.name} must be {meaning}, but is {number!r}."
        )
    object.__setattr__(function, field.name, number)


def finite(x, share=1.0):
    """`x` clipped to that share of its dtype's range: where infinities have a limit, or a multiple would overflow."""
    return tf.clip_by_value(x, share * x.dtype.min, share * x.dtype.max)


def zero(x):
    """0, with NaN sent to NaN and a derivative of 0 rather than None."""
    return tf.nn.relu(-tf.abs(x))


def outside(x, bound):
    """1 where `abs(x) > bound` and else 0, with NaN sent to NaN and a derivative of 0 rather than None."""
    return tf.nn.relu(tf.sign(tf.abs(x) - bound))
