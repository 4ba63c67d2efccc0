"""The base class of the collection: a frozen dataclass with a value and a slope.

A subclass enters the collection when it is defined.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    # Part of every type checker; Python 3.10 lacks the one in `typing`.
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_):
        return lambda cls: cls


# Every function by name; the order of definition is the order of the documentation.
COLLECTION: dict[str, type[Function]] = {}


# No function has more jumps for the theory: sums over them would take longer than a grid.
MOST_JUMPS = 4096


def _parameter(
    default: object,
    accepts: Callable[[float], bool] | None,
    meaning: str,
    kind: type[float] | type[int] = float,
) -> Any:
    metadata = {"accepts": accepts, "meaning": meaning, "kind": kind}
    return dataclasses.field(default=default, metadata=metadata)


# Type checkers see the default of a parameter only when it is passed by keyword.


def positive(default: float) -> Any:
    """A parameter in (0, inf)."""
    return _parameter(default, lambda number: number > 0, "a positive number")


def nonnegative(default: float) -> Any:
    """A parameter in [0, inf)."""
    return _parameter(default, lambda number: number >= 0, "a number of at least 0")


def above(low: float, default: float) -> Any:
    """A parameter in (low, inf)."""
    return _parameter(default, lambda number: number > low, f"a number greater than {low}")


def between(low: float, high: float, default: float) -> Any:
    """A parameter in [low, high]."""
    return _parameter(
        default, lambda number: low <= number <= high, f"a number from {low} to {high}"
    )


def real(default: float) -> Any:
    """A parameter that is any finite number."""
    return _parameter(default, lambda number: True, "a finite number")


def whole(low: int, high: int, default: int) -> Any:
    """A parameter that is a whole number from low to high."""
    return _parameter(
        default,
        lambda number: low <= number <= high and number == int(number),
        f"a whole number from {low} to {high}",
        kind=int,
    )


def flag(default: bool) -> Any:
    """A parameter that is True or False."""
    return _parameter(default, None, "True or False")


@dataclass_transform(
    frozen_default=True,
    field_specifiers=(positive, nonnegative, above, between, real, whole, flag),
)
@dataclasses.dataclass(frozen=True)
class Function:
    """An elementwise function of one real variable, with the slope to use in the backward pass.

    A subclass defines `value(x)`. It should define `slope(x)` too; the default is automatic
    differentiation. Fields are parameters, declared by `positive`, `nonnegative`, `above`,
    `between`, `real`, `whole` or `flag`: `width: float = positive(default=2.0)`.

    Declarations of a class, all optional:
        odd: `value(x) - value(0)` changes its sign with `x`, so that the slope is even.
        increasing: the slope is nowhere negative.
        keeps_sign: the value is positive exactly where `x` is.
        slope_needs_only_sign: the slope depends only on the sign of `x`. With a forward that has
            `keeps_sign`, a `Surrogate` then keeps the output in memory instead of the input.
        aliases: other names of parameters in `get`, from the alias to the parameter.
    """

    odd: ClassVar[bool] = False
    increasing: ClassVar[bool] = False
    keeps_sign: ClassVar[bool] = False
    slope_needs_only_sign: ClassVar[bool] = False
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, collect: bool = True) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True)(cls)
        if collect:
            _collect(cls)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _validate(self, field)

    @classmethod
    def registered_name(cls) -> str:
        """The name in the collection: the class's name in snake_case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def title(self) -> str:
        """The name in tables and pictures."""
        return self.registered_name()

    @property
    def described(self) -> str:
        """The title, with the parameters of a function of the collection."""
        parameters = [
            f"{field.name}={getattr(self, field.name)}" for field in dataclasses.fields(self)
        ]
        if not parameters or self.title not in COLLECTION:
            return self.title
        return f"{self.title}({', '.join(parameters)})"

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """The value at `x`, a floating tensor, in its shape and dtype."""
        raise TypeError(f"{type(self).__name__} does not define value(x).")

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        """The derivative of `value` at `x`, by automatic differentiation."""
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = self.value(x)
        return tape.gradient(value, x, unconnected_gradients="zero") + zero(x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """`upstream * slope(x)`; overridden where TensorFlow has one kernel for it."""
        return upstream * self.slope(x)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        """`upstream * slope(x)` from the output `y = of.value(x)`; None if `y` does not suffice.

        A surrogate whose forward is `of` then keeps its output in memory instead of its input.
        """
        if of.keeps_sign and self.slope_needs_only_sign:
            return self.gradient(upstream, y)
        return None

    def jumps(self, reach: float) -> np.ndarray | None:
        """The places in [-reach, reach] at which a piecewise constant function jumps, in order.

        None, the default: the function is not constant between its jumps, or has more than 4096
        of them. With them `theory` has its averages in closed form.

        Args:
            reach: a positive number; places further out may be included.
        """
        return None

    @classmethod
    def documented(cls, key: str) -> str | None:
        """The docstring's text after `key:` ("value", "slope", "Source") on one line, or None."""
        text = cls.__doc__ or ""
        # Up to the next line that begins with a key.
        pattern = rf"^\s*{key}:(.*?)(?=^\s*\w+:|\Z)"
        found = re.search(pattern, text, flags=re.MULTILINE | re.DOTALL)
        if found is None:
            return None
        return " ".join(found.group(1).split())

    def get_config(self) -> dict[str, Any]:
        """A dictionary of plain values that `get` turns into an equal function."""
        return {"name": self.registered_name(), **dataclasses.asdict(self)}


def _collect(cls: type[Function]) -> None:
    name = cls.registered_name()
    present = COLLECTION.get(name, cls)
    # The same module may define it again: a notebook's cell that is run twice.
    if present.__module__ != cls.__module__:
        raise ValueError(
            f"A function called {name!r} exists already ({present}); choose another class name."
        )
    COLLECTION[name] = cls


def real_number(
    number: float,
    owner: str,
    name: str,
    meaning: str = "a finite number",
    accepts: Callable[[float], bool] = lambda number: True,
) -> float:
    """`number` as a Python float.

    Args:
        number: a Python or NumPy number.
        owner: the function or class of the argument, for the message.
        name: the name of the argument, for the message.
        meaning: the valid numbers in words, default "a finite number".
        accepts: a function that is true for valid numbers; default: all finite ones.

    Raises:
        ValueError: `number` is not a finite number, or `accepts` is false.
    """
    is_number = isinstance(number, int | float | np.integer | np.floating)
    if isinstance(number, bool) or not is_number or not math.isfinite(number):
        raise ValueError(f"{owner}: {name} must be {meaning}, but is {number!r}.")
    if not accepts(number):
        raise ValueError(f"{owner}: {name} must be {meaning}, but is {number!r}.")
    return float(number)


def _validate(function: Function, field: dataclasses.Field) -> None:
    """Check a parameter, and store it as a Python float, int or bool."""
    if not field.metadata:
        return
    owner = function.registered_name()
    value = getattr(function, field.name)
    meaning = field.metadata["meaning"]
    accepts = field.metadata["accepts"]
    if accepts is not None:
        number = real_number(value, owner, field.name, meaning, accepts)
        value = field.metadata["kind"](number)
    elif not isinstance(value, bool):
        raise ValueError(f"{owner}: {field.name} must be {meaning}, but is {value!r}.")
    object.__setattr__(function, field.name, value)


def finite(x: tf.Tensor, share: float = 1.0) -> tf.Tensor:
    """`x` clipped to `share` times the range of its dtype.

    It is used where the limit at infinity is finite, and where a multiple of `x` would overflow.
    """
    return tf.clip_by_value(x, share * x.dtype.min, share * x.dtype.max)


def zero(x: tf.Tensor) -> tf.Tensor:
    """0, and NaN where `x` is NaN; its derivative is 0 and not None."""
    return tf.nn.relu(-tf.abs(x))


def outside(x: tf.Tensor, bound: float) -> tf.Tensor:
    """1 where `abs(x) > bound`, else 0, and NaN where `x` is NaN; its derivative is 0, not None."""
    return tf.nn.relu(tf.sign(tf.abs(x) - bound))
