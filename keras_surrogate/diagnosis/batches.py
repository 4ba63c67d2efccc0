"""The batch: checked, turned into tensors, and measured as the layers' outputs are."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.diagnosis import measuring


@dataclasses.dataclass(frozen=True)
class Feature:
    """A column of an input, along its last axis.

    input: the name of the input.
    index: its place along the last axis.
    size: the root mean square of those of its numbers that are not 0.
    """

    input: str
    index: int
    size: float


@dataclasses.dataclass(frozen=True, repr=False)
class Batch:
    """What is said of the inputs, of the targets and of the model's answers; None where there are no such numbers.

    Of the inputs, as in `Row`, over all features together. Features are what the model computes
    with as real numbers. Token ids are not among them: whole numbers that are only looked up, as by
    an Embedding; nor are strings.
        size: the number of examples.
        mean, variance, zero_centredness, effective_rank, spread: of the features.
        largest_feature, typical_feature: the `Feature` of the largest size, and that of the (lower)
            median size, among those that are not constant; None where an input has fewer than two.
        others_differ: whether what is no feature, as token ids, differs between examples; None
            where there is nothing.
    Of the targets, if they and the outputs are numbers of one shape; not of labels, one-hot vectors
    or probabilities:
        target: where there are several outputs, the name of the one whose targets are furthest off.
        target_mean, target_deviation: over all elements.
        output_mean, output_deviation: of the model's outputs, likewise.
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

    def __repr__(self):
        numbers = (
            "" if self.mean is None else f", mean {self.mean:.2g}, variance {self.variance:.2g}"
        )
        return f"Batch({self.size} examples{numbers})"


def measured(model, x, gradients):
    """The `Batch` that the inputs make.

    Args:
        model: the model, for its inputs' names.
        x: the tensors.
        gradients: of the output with respect to them, by their ids; None or missing where there is
            none.
    """
    leaves = keras.tree.flatten(x)
    parts = [_split(leaf, gradients.get(id(leaf))) for leaf in leaves]
    others = [other for _, _, other in parts if other is not None]
    found = {"others_differ": any(map(_differs, others)) if others else None}
    features = [feature for feature, _, _ in parts if feature is not None]
    if features:
        everything = tf.concat(
            [tf.cast(tf.reshape(f, [f.shape[0], -1]), tf.float32) for f in features], axis=1
        )
        mean, variance = measuring.mean_and_variance(everything)
        rank, spread = measuring.effective_rank_and_spread(everything)
        centred = measuring.centredness(mean, variance)
        found |= {"mean": mean, "variance": variance, "zero_centredness": centred}
        found |= {"effective_rank": rank, "spread": spread} | _extremes(_names(model, x), parts)
    return Batch(leaves[0].shape[0], **found)


def features_beside_others(x, gradients):
    """The features among inputs of which others are none, as `measured` tells them: a list of tensors."""
    parts = [_split(leaf, gradients.get(id(leaf))) for leaf in keras.tree.flatten(x)]
    is_mixed = any(other is not None for _, _, other in parts)
    return [feature for feature, _, _ in parts if is_mixed and feature is not None]


def _split(leaf, gradient):
    """The features in an input, their places along the last axis, and what else is in it; None for nothing.

    Token ids are whole numbers of at least 0 on which the output depends by no derivative, since it
    is looked up what stands at their places. In one array with features they fill columns of their
    own.
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
    feature = (
        tf.boolean_mask(leaf, is_feature, axis=leaf.shape.rank - 1) if is_feature.any() else None
    )
    other = (
        None if is_feature.all() else tf.boolean_mask(leaf, ~is_feature, axis=leaf.shape.rank - 1)
    )
    return feature, np.flatnonzero(is_feature), other


def _differs(tensor):
    """Whether an example is unlike the first."""
    return bool(tf.reduce_any(tensor != tensor[:1]))


def _extremes(names, parts):
    """The features of the largest and of the median size, of the input in which these differ most."""
    found = []
    for name, (feature, places, _) in zip(names, parts, strict=True):
        sizes = {} if feature is None or feature.shape.rank < 2 else measuring.sizes(feature)
        features = [Feature(name, int(places[column]), size) for column, size in sizes.items()]
        features.sort(key=lambda feature: feature.size)
        if len(features) > 1:
            found.append(
                {
                    "largest_feature": features[-1],
                    "typical_feature": features[(len(features) - 1) // 2],
                }
            )
    return max(
        found, key=lambda one: one["largest_feature"].size / one["typical_feature"].size, default={}
    )


def _names(model, x):
    """A name for each input: its key in a dictionary, or the name that the model has for it."""
    paths = [_joined(path) for path, _ in keras.tree.flatten_with_path(x)]
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if isinstance(x, dict) or len(inputs) != len(paths):
        return [path or "x" for path in paths]
    return [tensor.name for tensor in inputs]


def with_targets(batch, y, outputs):
    """The batch with the moments of targets and outputs, where these can be compared.

    Args:
        batch: a `Batch`.
        y: the targets' tensors; None where there are none.
        outputs: the model's floating outputs.
    """
    targets = [] if y is None else keras.tree.flatten_with_path(y)
    if len(targets) != len(outputs):
        return batch
    pairs = [
        (_joined(path), target, output)
        for (path, target), output in zip(targets, outputs, strict=True)
    ]
    compared = [_moments(*pair) for pair in pairs if _comparable(*pair[1:])]
    worst = max(compared, key=lambda found: _distance(**found), default={})
    return dataclasses.replace(batch, **worst)


def _joined(path):
    return ".".join(map(str, path))


def _comparable(target, output):
    """Whether the targets are of the outputs' shape, up to a last axis of 1, and no labels or probabilities."""
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
    target, output = np.asarray(target, float), np.asarray(output, float)
    return {
        "target": name or None,
        "target_mean": float(target.mean()),
        "target_deviation": float(target.std()),
        "output_mean": float(output.mean()),
        "output_deviation": float(output.std()),
    }


def _distance(target_mean, target_deviation, output_mean, **_):
    """Root mean square of the targets, measured from the outputs' mean."""
    return float(np.hypot(target_mean - output_mean, target_deviation))


def tensors(x, name="x"):
    """`x` as tensors, all with one number of examples.

    Raises:
        ValueError: something is no array of numbers, has no examples or another number of them, or
            is not finite.
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
        raise ValueError(
            f"diagnose: {name} is empty: its shape is {_shapes(leaves)}. Give some examples, 32 or more."
        )
    _check_finite(leaves, name)
    return x


def as_taken(model, x):
    """`x` with integers as floats where the model's inputs are floats, as Keras makes them before the first layer."""
    inputs, leaves = keras.tree.flatten(getattr(model, "inputs", None) or []), keras.tree.flatten(x)
    if len(inputs) != len(leaves):
        return x
    by_name = {tensor.name: tensor for tensor in inputs}
    paths = [_joined(path) for path, _ in keras.tree.flatten_with_path(x)]
    # Keras takes a dictionary's entries by their names, if the inputs have these, and else in
    # order.
    taken = [by_name[path] for path in paths] if set(paths) == set(by_name) else inputs
    cast = [_as_float(leaf, tensor.dtype) for leaf, tensor in zip(leaves, taken, strict=True)]
    return keras.tree.pack_sequence_as(x, cast)


def _as_float(leaf, dtype):
    return (
        tf.cast(leaf, dtype) if leaf.dtype.is_integer and tf.as_dtype(dtype).is_floating else leaf
    )


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
