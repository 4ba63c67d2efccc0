"""The batch: checked, converted to tensors, and measured like the outputs of layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.diagnosis import measuring


@dataclasses.dataclass(frozen=True)
class Feature:
    """A column of an input, along its last axis.

    Attributes:
        input: the name of the input.
        index: its place along the last axis.
        size: the root mean square of its nonzero numbers.
    """

    input: str
    index: int
    size: float


@dataclasses.dataclass(frozen=True, repr=False)
class Batch:
    """Numbers about the inputs, the targets and the model's outputs; None where there is no number.

    Inputs. Features are inputs that the model uses as real numbers. Token ids (whole numbers that
    are only looked up, as by an Embedding) and strings are not features.
        size: the number of examples.
        mean, variance, zero_centredness, effective_rank, spread: as in `Row`, over all features.
        largest_feature, typical_feature: the `Feature` of the largest and of the (lower) median
            size, without constant ones; None where an input has fewer than two.
        others_differ: True if inputs that are not features differ between examples; None without
            such inputs.
    Targets, if they and the outputs are numbers of one shape, and not labels, one-hot vectors or
    probabilities:
        target: with several outputs, the name of the one whose targets are the furthest off.
        target_mean, target_deviation: mean and standard deviation over all elements.
        output_mean, output_deviation: the same of the model's outputs.
    """

    size: int
    mean: float | None = None
    variance: float | None = None
    zero_centredness: float | None = None
    effective_rank: float | None = None
    spread: float | None = None
    largest_feature: Feature | None = None
    typical_feature: Feature | None = None
    others_differ: bool | None = None
    target: str | None = None
    target_mean: float | None = None
    target_deviation: float | None = None
    output_mean: float | None = None
    output_deviation: float | None = None

    def __repr__(self) -> str:
        numbers = ""
        if self.mean is not None:
            numbers = f", mean {self.mean:.2g}, variance {self.variance:.2g}"
        return f"Batch({self.size} examples{numbers})"


def measured(model: keras.Model, x: object, gradients: Mapping[int, tf.Tensor | None]) -> Batch:
    """The numbers of the inputs.

    Args:
        model: the model, for the names of its inputs.
        x: the tensors.
        gradients: from their ids to the gradients of the output by them; None or missing where
            there is none.
    """
    leaves = keras.tree.flatten(x)
    parts = [_split(leaf, gradients.get(id(leaf))) for leaf in leaves]
    others = [other for _, _, other in parts if other is not None]
    size = leaves[0].shape[0]
    others_differ = any(map(measuring.differs, others)) if others else None
    features = [feature for feature, _, _ in parts if feature is not None]
    if not features:
        return Batch(size, others_differ=others_differ)

    flat = [tf.cast(tf.reshape(one, [one.shape[0], -1]), tf.float32) for one in features]
    joined = tf.concat(flat, axis=1)
    mean, variance = measuring.mean_and_variance(joined)
    rank, spread = measuring.effective_rank_and_spread(joined)
    return Batch(
        size,
        mean=mean,
        variance=variance,
        zero_centredness=measuring.centredness(mean, variance),
        effective_rank=rank,
        spread=spread,
        others_differ=others_differ,
        **_extremes(_names(model, x), parts),
    )


def features_beside_others(x: object, gradients: Mapping[int, tf.Tensor | None]) -> list[tf.Tensor]:
    """The features, if other inputs are not features; else an empty list."""
    parts = [_split(leaf, gradients.get(id(leaf))) for leaf in keras.tree.flatten(x)]
    is_mixed = any(other is not None for _, _, other in parts)
    return [feature for feature, _, _ in parts if is_mixed and feature is not None]


def _split(leaf, gradient):
    """The features in an input, their places along the last axis, and its other columns, or None.

    Token ids are whole numbers of at least 0 without a gradient: an embedding looks them up. In one
    array with features they fill columns of their own.
    """
    if not leaf.dtype.is_floating:
        return None, None, leaf
    values = np.asarray(leaf)
    columns = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    is_used = np.zeros(columns.shape[1], bool)
    if gradient is not None:
        is_used = np.asarray(gradient).reshape(columns.shape).any(axis=0)
    is_feature = is_used | (columns < 0).any(axis=0) | (columns != np.round(columns)).any(axis=0)
    if values.ndim < 2:
        return (leaf, [0], None) if is_feature[0] else (None, None, leaf)
    return _columns(leaf, is_feature), np.flatnonzero(is_feature), _columns(leaf, ~is_feature)


def _columns(leaf, chosen):
    """Some columns of a tensor, or None for none."""
    if not chosen.any():
        return None
    return tf.boolean_mask(leaf, chosen, axis=leaf.shape.rank - 1)


def _extremes(names: Sequence[str], parts: Sequence[tuple]) -> dict[str, Feature]:
    """The largest and the typical feature, of the input in which their sizes differ most."""
    pairs = []
    for name, (feature, places, _) in zip(names, parts, strict=True):
        if feature is None or feature.shape.rank < 2:
            continue
        sizes = measuring.sizes(feature)
        features = [Feature(name, int(places[column]), size) for column, size in sizes.items()]
        features.sort(key=lambda feature: feature.size)
        if len(features) > 1:
            pairs.append((features[-1], features[(len(features) - 1) // 2]))
    if not pairs:
        return {}
    largest, typical = max(pairs, key=lambda pair: pair[0].size / pair[1].size)
    return {"largest_feature": largest, "typical_feature": typical}


def _names(model: keras.Model, x: object) -> list[str]:
    """A name for each input: its key in a dictionary, its name in the model, or its place in `x`.

    The only input is "x" if it has no name of its own: Keras calls it "keras_tensor_185" or so.
    """
    paths = [_joined(path) for path, _ in keras.tree.flatten_with_path(x)]
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if isinstance(x, dict) or len(inputs) != len(paths):
        return [path or "x" for path in paths]
    places = [f"x[{number}]" for number in range(len(paths))] if len(paths) > 1 else ["x"]
    return [
        place if tensor.name.startswith("keras_tensor") else tensor.name
        for tensor, place in zip(inputs, places, strict=True)
    ]


def with_targets(
    batch: Batch, y: object, outputs: Sequence[tf.Tensor], names: Sequence[str] = ()
) -> Batch:
    """The batch with the moments of targets and outputs, where these can be compared.

    Args:
        batch: the batch.
        y: the tensors of the targets, or None.
        outputs: the floating outputs of the model.
        names: their names if they are a list, to which a dictionary of targets refers.
    """
    targets = [] if y is None else _with_path(y, names)
    if len(targets) != len(outputs):
        return batch
    pairs = [
        (_joined(path), target, output)
        for (path, target), output in zip(targets, outputs, strict=True)
    ]
    compared = [_moments(*pair) for pair in pairs if _comparable(*pair[1:])]
    worst = max(compared, key=lambda found: _distance(**found), default={})
    return dataclasses.replace(batch, **worst)


def _with_path(y, names):
    """The targets with their paths, in the order of the outputs; [] if they do not fit."""
    if not isinstance(y, dict) or not names:
        return keras.tree.flatten_with_path(y)
    # Keras would flatten a dictionary in the order of its keys.
    return [((name,), y[name]) for name in names] if set(y) == set(names) else []


def _joined(path):
    return ".".join(map(str, path))


def _comparable(target, output):
    """True if targets can be compared with outputs: numbers of one shape, up to a last axis of 1.

    Labels and probabilities cannot.
    """
    if not (target.dtype.is_floating or target.dtype.is_integer):
        return False
    shapes = [
        shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
        for shape in (target.shape, output.shape)
    ]
    if shapes[0] != shapes[1]:
        return False
    values = np.asarray(target, float)
    is_label = np.isin(values, [0, 1]).all() or np.isin(values, [-1, 1]).all()
    is_distribution = (
        values.ndim > 1 and values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=1e-3)
    )
    return not is_label and not is_distribution


def _moments(name, target, output):
    target = np.asarray(target, float)
    output = np.asarray(output, float)
    return {
        "target": name or None,
        "target_mean": float(target.mean()),
        "target_deviation": float(target.std()),
        "output_mean": float(output.mean()),
        "output_deviation": float(output.std()),
    }


def _distance(target_mean, target_deviation, output_mean, **_):
    """The root mean square of the targets minus the mean of the outputs."""
    return float(np.hypot(target_mean - output_mean, target_deviation))


def tensors(x: object, name: str = "x") -> object:
    """`x` as tensors, all with one number of examples.

    Raises:
        ValueError: a part is not an array of numbers, is not finite, has no examples, or has
            another number of them than the others.
    """
    try:
        x = keras.tree.map_structure(_tensor, x)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"diagnose: {name} must be an array of numbers, or a list or dictionary of such arrays "
            f"({error})."
        ) from error
    leaves = keras.tree.flatten(x)
    sizes = {leaf.shape[0] if leaf.shape.rank else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            f"diagnose: {name} must have one number of examples along its first axis, but its "
            f"shape is {_shapes(leaves)}. A single example needs an axis in front, x[np.newaxis]."
        )
    if sizes == {0}:
        raise ValueError(
            f"diagnose: {name} is empty: its shape is {_shapes(leaves)}. Give some examples, 64 or "
            "more."
        )
    _check_finite(leaves, name)
    return x


def as_taken(model: keras.Model, x: object) -> object:
    """`x` with integers as floats where the model's inputs are floats, as Keras converts them."""
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    leaves = keras.tree.flatten(x)
    if len(inputs) != len(leaves):
        return x
    by_name = {tensor.name: tensor for tensor in inputs}
    paths = [_joined(path) for path, _ in keras.tree.flatten_with_path(x)]
    # Keras takes the entries of a dictionary by name if the inputs have these names, else in order.
    taken = [by_name[path] for path in paths] if set(paths) == set(by_name) else inputs
    cast = [_as_float(leaf, tensor.dtype) for leaf, tensor in zip(leaves, taken, strict=True)]
    return keras.tree.pack_sequence_as(x, cast)


def _as_float(leaf, dtype):
    is_cast = leaf.dtype.is_integer and tf.as_dtype(dtype).is_floating
    return tf.cast(leaf, dtype) if is_cast else leaf


def _tensor(leaf):
    leaf = leaf if tf.is_tensor(leaf) else np.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype == np.float64:
        leaf = leaf.astype(keras.config.floatx())
    return tf.convert_to_tensor(leaf)


def _check_finite(leaves, name):
    wrong = sum(
        int(tf.reduce_sum(tf.cast(~tf.math.is_finite(leaf), tf.int32)))
        for leaf in leaves
        if leaf.dtype.is_floating
    )
    if wrong:
        raise ValueError(
            f"diagnose: {name} holds {wrong} numbers that are NaN or infinite. Find their source, "
            "or replace them: np.nan_to_num(x)."
        )


def _shapes(leaves):
    return ", ".join(str(tuple(leaf.shape)) for leaf in leaves)


def shapes(x: object) -> str:
    """The shapes in `x`, for messages."""
    return _shapes(keras.tree.flatten(x))


def size(x: object) -> int:
    """The number of examples."""
    return keras.tree.flatten(x)[0].shape[0]
