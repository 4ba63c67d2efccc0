"""The batch: checked, turned into tensors, and measured as the layers' outputs are."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.diagnosis import measuring


@dataclasses.dataclass(frozen=True)
class Batch:
    """What is said of the inputs: as in `Row`, over all inputs together; None where they hold no floating numbers.

    size: the number of examples.
    """

    size: int
    mean: float | None = None
    variance: float | None = None
    zero_centredness: float | None = None
    effective_rank: float | None = None
    spread: float | None = None


def measured(x):
    """The `Batch` that tensors make."""
    tensors = [tensor for tensor in keras.tree.flatten(x) if tensor.dtype.is_floating or tensor.dtype.is_integer]
    size = keras.tree.flatten(x)[0].shape[0]
    if not tensors:
        return Batch(size)
    everything = tf.concat([tf.cast(tf.reshape(tensor, [size, -1]), tf.float32) for tensor in tensors], axis=1)
    rank, spread = measuring.effective_rank_and_spread(everything)
    found = {"effective_rank": rank, "spread": spread}
    if all(tensor.dtype.is_floating for tensor in tensors):
        mean, variance = measuring.mean_and_variance(everything)
        centred = measuring.centredness(mean, variance)
        found |= {"mean": mean, "variance": variance, "zero_centredness": centred}
    return Batch(size, **found)


def tensors(x, name="x"):
    """`x` as tensors, all with one number of examples.

    Raises:
        ValueError: something is no array of numbers, has no examples or another number of them, or is not finite.
    """
    try:
        x = keras.tree.map_structure(_tensor, x)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"diagnose: {name} must be an array of numbers, or a list or dictionary of such arrays ({error})."
        ) from error
    leaves = keras.tree.flatten(x)
    sizes = {leaf.shape[0] if leaf.shape.rank else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            f"diagnose: {name} must have one number of examples along its first axis, but its shape is "
            f"{_shapes(leaves)}. A single example needs an axis in front, x[np.newaxis]."
        )
    if sizes == {0}:
        raise ValueError(f"diagnose: {name} is empty: its shape is {_shapes(leaves)}. Give some examples, 32 or more.")
    _check_finite(leaves, name)
    return x


def _tensor(leaf):
    leaf = leaf if tf.is_tensor(leaf) else np.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64:
        leaf = leaf.astype(keras.config.floatx())
    return tf.convert_to_tensor(leaf)


def _check_finite(leaves, name):
    wrong = sum(
        int(tf.reduce_sum(tf.cast(~tf.math.is_finite(leaf), tf.int32))) for leaf in leaves if leaf.dtype.is_floating
    )
    if wrong:
        raise ValueError(
            f"diagnose: {name} holds {wrong} numbers that are NaN or infinite. No model can make anything of these: "
            "find where they come from, or replace them, np.nan_to_num(x)."
        )


def _shapes(leaves):
    return ", ".join(str(tuple(leaf.shape)) for leaf in leaves)


def shapes(x):
    """The shapes in `x`, to be shown to people."""
    return _shapes(keras.tree.flatten(x))


def size(x):
    """The number of examples."""
    return keras.tree.flatten(x)[0].shape[0]
