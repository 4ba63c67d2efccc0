"""What the simulations accept, and what they say when it is something else."""

import numpy as np

from keras_surrogate.functions import real_number


def nonnegative(number, name):
    """`number` as a float that is finite and at least 0, or a ValueError."""
    return real_number(
        number, "simulation", name, "a number of at least 0", lambda number: number >= 0
    )


def positive(number, name):
    """`number` as a float that is finite and above 0, or a ValueError."""
    return real_number(number, "simulation", name, "a positive number", lambda number: number > 0)


def numbers(values, name):
    """`values` as a float64 array of one dimension, neither empty nor with infinities or NaN, or a ValueError."""
    array = np.asarray(values)
    if (
        array.dtype.kind not in "iuf"
        or array.ndim != 1
        or not array.size
        or not np.isfinite(array).all()
    ):
        raise ValueError(f"{name} must be a list of finite numbers, but is {values!r}.")
    return array.astype(float)
