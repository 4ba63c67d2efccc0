"""What may be given as data: arrays, or something that gives batches of them, of which the first is taken."""

import keras
import numpy as np
import tensorflow as tf


def first_batch(x, y=None):
    """`x`, `y` and whether they come from a source of batches; the sample weight of such a batch is left out.

    Raises:
        ValueError: `y` is given besides a source, or the source has no batch.
        TypeError: `x` is neither arrays nor a source.
    """
    if _is_arrays(x):
        return x, y, False
    if y is not None:
        raise ValueError(
            f"diagnose: x is a {type(x).__name__}, which gives batches with their targets, and so y must be left out. "
            "Put the targets into it, as (x, y) batches, or give both as arrays."
        )
    return *keras.utils.unpack_x_y_sample_weight(_first_of(x))[:2], True


def _is_arrays(x):
    """Whether it is numbers or arrays, or a list, tuple or dictionary of them, as a model takes it."""
    return (
        x is None
        or tf.is_tensor(x)
        or hasattr(x, "__array__")
        or isinstance(x, list | tuple | dict | str | bytes)
        or np.isscalar(x)
    )


def _first_of(source):
    if isinstance(source, keras.utils.PyDataset):
        batches = (source[number] for number in range(min(1, source.num_batches or 1)))
    else:
        try:
            batches = iter(source)
        except TypeError as error:
            raise TypeError(
                "diagnose: x must be an array, a list or dictionary of arrays, a tf.data.Dataset, a "
                f"keras.utils.PyDataset or something else that gives batches, but is {source!r}."
            ) from error
    batch = next(batches, None)
    if batch is None:
        raise ValueError(
            f"diagnose: x, a {type(source).__name__}, gives no batch. A generator can be used only once: make a new "
            "one."
        )
    return batch


def check_batched(model, x):
    """Raises a ValueError where the first element of a source has the shape of a single example for the model."""
    expected, given = (
        keras.tree.flatten(getattr(model, "inputs", None) or []),
        keras.tree.flatten(x),
    )
    if len(expected) != len(given):
        return
    for tensor, leaf in zip(expected, given, strict=True):
        shape = np.shape(leaf)
        if len(shape) == len(tensor.shape) - 1 and _fits(shape, tensor.shape[1:]):
            raise ValueError(
                f"diagnose: the first element that x gives has shape {tuple(shape)}, which is that of a single "
                f"example for this model. Give batches: dataset.batch(64)."
            )


def _fits(shape, expected):
    return all(size is None or size == given for given, size in zip(shape, expected, strict=True))
