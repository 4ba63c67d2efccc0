"""Checks of arguments that several modules share."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Value = TypeVar("_Value")


def integer(number: object, name: str, least: int = 1) -> int:
    """Return `number` as an int.

    Args:
        number: a Python or NumPy integer; a bool is not valid.
        name: the argument's name in the message, such as "GradientNormLogger: every".
        least: the smallest valid number, default 1.

    Raises:
        ValueError: `number` is not an integer, or is below `least`.
    """
    # A bool is an int to Python.
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, but is {number!r}.")
    return int(number)


def one_tensor(shape: Sequence[object], name: str) -> None:
    """Refuse the shapes of several tensors, such as spikes and potentials.

    Args:
        shape: what Keras passes to `build`: the shape of the input, or those of several.
        name: the layer's name in the message, such as "SpikeCount".

    Raises:
        ValueError: there are several.
    """
    if shape and not isinstance(shape[0], int | None):
        raise ValueError(
            f"{name} needs one tensor, but got {len(shape)}. Of a layer with return_potential=True "
            "take one output: spikes, potentials = layer(x)."
        )


def one_of(value: _Value, name: str, valid: Sequence[_Value]) -> _Value:
    """Return `value` if it is one of the valid values.

    Args:
        value: any value.
        name: the argument's name in the message, such as "GradientNormLogger: kind".
        valid: the valid values.

    Raises:
        ValueError: `value` is not valid. The message lists the valid values, and suggests one of
            similar spelling.
    """
    if value in valid:
        return value
    spellings = [str(one) for one in valid if one is not None]
    near = difflib.get_close_matches(str(value), spellings, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(map(repr, valid))
    raise ValueError(f"{name} must be one of {listed}, but is {value!r}.{hint}")
