"""Checks of the simulations' arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_surrogate.functions import real_number


def nonnegative(number: float, name: str) -> float:
    """`number` as a float that is finite and at least 0, or a ValueError."""
    return real_number(
        number, "simulation", name, "a number of at least 0", lambda number: number >= 0
    )


def positive(number: float, name: str) -> float:
    """`number` as a float that is finite and above 0, or a ValueError."""
    return real_number(number, "simulation", name, "a positive number", lambda number: number > 0)


def numbers(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    """`values` as a float64 array of one dimension, not empty and all finite, or a ValueError."""
    array = np.asarray(values)
    is_list = array.dtype.kind in "iuf" and array.ndim == 1 and array.size > 0
    if not is_list or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a list of finite numbers, but is {values!r}.")
    return array.astype(float)
