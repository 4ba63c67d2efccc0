"""The places in a model where rounded activations need a range, and what can be folded."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import activations, functions
from keras_surrogate.conversion import folding, rebuilding

# Layers that hand values on: no new range is needed after them.
_PASSING = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.ActivityRegularization,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
)
# Activations that LiteRT computes together with the layer before them.
_FUSED = (functions.Relu, functions.Relu6, functions.Linear)


def is_fused(activation: Any) -> bool:
    """True for an activation that LiteRT computes together with the layer before it."""
    applied = activations.of_callable(activation)
    return applied is not None and type(applied.function) in _FUSED


def _is_fused_layer(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return is_fused(layer.activation)
    applied = activations.of_layer(layer)
    return applied is not None and type(applied.function) in _FUSED


class Graph:
    """The calls of the layers of a functional model, and the normalisations that are folded.

    Args:
        model: a functional model.
        fold: True folds each BatchNormalization that can be folded.

    Attributes:
        folds: from the id of a layer to the BatchNormalization after it that is folded into it.
        folded: the ids of these normalisations.
    """

    folds: dict[int, keras.layers.BatchNormalization]
    folded: set[int]

    def __init__(self, model: keras.Model, fold: bool) -> None:
        self._consumers: dict[int, list[Any]] = collections.defaultdict(list)
        self._outputs: dict[int, list[keras.KerasTensor]] = collections.defaultdict(list)
        clone = keras.models.clone_model(
            model, clone_function=lambda layer: layer, call_function=self._note
        )
        self._ends = {id(tensor) for tensor in clone.outputs}
        self.folds = {}
        if fold:
            for layer in model.layers:
                following = self.consumers(layer)
                if self._can_fold(layer, following):
                    self.folds[id(layer)] = following[0]
        self.folded = {id(layer) for layer in self.folds.values()}

    def _note(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        for tensor in keras.tree.flatten((args, kwargs)):
            self._consumers[id(tensor)].append(layer)
        self._outputs[id(layer)] += keras.tree.flatten(outputs)
        return outputs

    def consumers(self, layer: Any) -> list[Any]:
        """The layers that take the outputs of a layer; [] if an output is one of the model."""
        outputs = [id(tensor) for tensor in self._outputs[id(layer)]]
        if self._ends.intersection(outputs):
            return []
        return [consumer for output in outputs for consumer in self._consumers[output]]

    def _can_fold(self, layer: Any, following: Sequence[Any]) -> bool:
        if len(following) != 1 or type(following[0]) is not keras.layers.BatchNormalization:
            return False
        calls = [len(self._outputs[id(one)]) for one in (layer, following[0])]
        return calls == [1, 1] and folding.is_foldable(layer, following[0])

    def is_rounded(self, layer: Any) -> bool:
        """True if the output of a layer needs a range of its own."""
        if isinstance(layer, _PASSING) or rebuilding.is_graph(layer):
            return False
        outputs = self._outputs[id(layer)]
        if not all(tf.as_dtype(tensor.dtype).is_floating for tensor in outputs):
            return False
        following = self.consumers(layer)
        is_taken_over = [
            id(consumer) in self.folded or _is_fused_layer(consumer) for consumer in following
        ]
        return not following or not all(is_taken_over)
