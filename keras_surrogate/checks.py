"""Checks of arguments that several rooms share."""

import difflib

import numpy as np


def integer(number, name, least=1):
    """`number` as an int, or a ValueError that says what it must be.

    Args:
        number: a Python or NumPy integer.
        name: what it is called in the message, as "GradientNormLogger: every".
        least: the smallest valid one, default 1.
    """
    is_integer = isinstance(number, int | np.integer) and not isinstance(number, bool)
    if not is_integer or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, but is {number!r}.")
    return int(number)


def one_of(value, name, valid):
    """`value` if it is among the valid ones, or a ValueError that lists them, the nearest first if one is near."""
    if value in valid:
        return value
    near = difflib.get_close_matches(
        str(value), [str(one) for one in valid if one is not None], n=1
    )
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{name} must be one of {', '.join(map(repr, valid))}, but is {value!r}.{hint}"
    )
