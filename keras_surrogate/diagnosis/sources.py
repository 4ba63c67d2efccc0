"""Data as users give it: arrays, or a source of batches, of which the first is taken."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


def first_batch(x: object, y: object = None) -> tuple[object, object, bool]:
    """`x`, `y`, and True if they come from a source of batches. Sample weights are left out.

    Raises:
        ValueError: `y` is given besides a source, or the source has no batch.
        TypeError: `x` is neither arrays nor a source.
    """
    if _is_arrays(x):
        return x, y, False
    if y is not None:
        raise ValueError(
            f"diagnose: x is a {type(x).__name__}, a source of batches, so y must be left out. "
            "Put the targets into its batches, (x, y), or give both as arrays."
        )
    x, y, _ = keras.utils.unpack_x_y_sample_weight(_first_of(x))
    return x, y, True


def _is_arrays(x: object) -> bool:
    """True for numbers and arrays, and for lists, tuples and dictionaries of them."""
    return (
        x is None
        or tf.is_tensor(x)
        or hasattr(x, "__array__")
        or isinstance(x, list | tuple | dict | str | bytes)
        or np.isscalar(x)
    )


def _first_of(source: object) -> object:
    if isinstance(source, keras.utils.PyDataset):
        batches = (source[number] for number in range(min(1, source.num_batches or 1)))
    else:
        try:
            batches = iter(source)
        except TypeError as error:
            raise TypeError(
                "diagnose: x must be an array, a list or dictionary of arrays, a tf.data.Dataset, "
                f"a keras.utils.PyDataset or another iterable of batches, but is {source!r}."
            ) from error
    batch = next(batches, None)
    if batch is None:
        raise ValueError(
            f"diagnose: x, a {type(source).__name__}, gives no batch. A generator can be used only "
            "once: make a new one."
        )
    return batch


def check_batched(model: keras.Model, x: object) -> None:
    """Raise a ValueError if the first element of a source has the shape of a single example."""
    expected = keras.tree.flatten(getattr(model, "inputs", None) or [])
    given = keras.tree.flatten(x)
    if len(expected) != len(given):
        return
    for tensor, leaf in zip(expected, given, strict=True):
        shape = np.shape(leaf)
        if len(shape) == len(tensor.shape) - 1 and _fits(shape, tensor.shape[1:]):
            raise ValueError(
                f"diagnose: the first element of x has shape {tuple(shape)}, which is that of a "
                "single example for this model. Give batches: dataset.batch(64)."
            )


def _fits(shape, expected):
    return all(size is None or size == given for given, size in zip(shape, expected, strict=True))
