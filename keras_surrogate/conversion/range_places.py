"""The places in a model where rounded activations need a range, and what can be folded."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import activations, functions
from keras_surrogate.conversion import folding, rebuilding
from keras_surrogate.layers.within import everything_within

# Layers that hand values on: no new range is needed after them. Their subclasses may do otherwise.
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
# Layers whose input is a number of a category or a mark, of which rounding would make another one.
_EXACT = (
    keras.layers.CategoryEncoding,
    keras.layers.Discretization,
    keras.layers.Embedding,
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.Masking,
    keras.layers.StringLookup,
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


def gives_probabilities(layer: Any) -> bool:
    """True for a layer whose last function is a softmax or sigmoid."""
    if isinstance(layer, keras.layers.Wrapper):
        return gives_probabilities(layer.layer)
    if isinstance(layer, keras.layers.Softmax):
        return True
    activation = getattr(layer, "activation", None)
    return activation in (keras.activations.softmax, keras.activations.sigmoid)


def as_functional(model: keras.Model) -> keras.Model:
    """A functional model with the layers of a Sequential or functional one."""
    if type(model) is keras.Sequential:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def _is_floating(tensor: keras.KerasTensor) -> bool:
    return tf.as_dtype(tensor.dtype).is_floating


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a layer, model or operation.

    Attributes:
        layer: what is called.
        arguments: its positional arguments, flattened.
        outputs: its outputs, flattened.
    """

    layer: Any
    arguments: Sequence[Any]
    outputs: Sequence[keras.KerasTensor]


def _taken_exactly(call: Call, is_exact: bool) -> tuple[bool, ...]:
    """For each argument of a call, True if it must not be rounded.

    Args:
        call: the call.
        is_exact: True if its outputs must not be rounded.
    """
    if rebuilding.is_graph(call.layer) and not is_exact:
        inner = Graph(as_functional(call.layer), False, {}).exact_inputs
        # Behind the inputs, `training` or a mask may follow.
        others = (False,) * len(call.arguments)
        return (*inner, *others)[: len(call.arguments)]
    is_taken = is_exact or _needs_exact(call)
    return (is_taken,) * len(call.arguments)


def _needs_exact(call: Call) -> bool:
    """True if the layer that is called, or one within it, must not get rounded numbers."""
    if not isinstance(call.layer, keras.layers.Layer):
        # A comparison, of which Keras makes masks, or a number of a category.
        return not any(_is_floating(tensor) for tensor in call.outputs)
    return any(isinstance(one, _EXACT) for one in (call.layer, *everything_within(call.layer)))


@dataclasses.dataclass(frozen=True)
class CallPlace:
    """The place of a call in a graph.

    Attributes:
        takes_exact: for each tensor or number in the arguments, True if it must not be rounded.
        is_exact: True if the outputs must not be rounded.
        named_output: the number of the output that is looked up by the layer's name; None without
            one.
    """

    takes_exact: tuple[bool, ...]
    is_exact: bool
    named_output: int | None


def all_calls(model: keras.Model) -> list[Call]:
    """The calls in a graph and in those within it, each of which is taken once."""
    calls: list[Call] = []
    graphs = {id(model): model}
    ahead = [model]
    while ahead:
        found = Graph(as_functional(ahead.pop()), False, {}).calls
        calls += found
        inner = {id(one.layer): one.layer for one in found if rebuilding.is_graph(one.layer)}
        ahead += [one for key, one in inner.items() if key not in graphs]
        graphs.update(inner)
    return calls


class Graph:
    """The calls of the layers of a functional model, and the normalisations that are folded.

    Args:
        model: a functional model.
        fold: True folds each BatchNormalization that can be folded.
        calls: the number of calls of each layer, by its id, in all graphs of a model.
        named_outputs: True if losses and targets look up the outputs by the names of the layers
            that give them; default False.

    Attributes:
        folds: from the id of a layer to the BatchNormalization after it that is folded into it.
        folded: the ids of these normalisations.
        exact: the ids of the layers whose outputs must not be rounded, because a layer such as
            Embedding takes them, maybe after other layers without weights.
        exact_inputs: for each input of the model, True if the same holds for it.
        calls: the calls of the model, in their order.
        call_places: the place of each call, in the order of the calls.
    """

    folds: dict[int, keras.layers.BatchNormalization]
    folded: set[int]
    exact: set[int]
    exact_inputs: tuple[bool, ...]
    calls: list[Call]
    call_places: list[CallPlace]

    def __init__(
        self,
        model: keras.Model,
        fold: bool,
        calls: Mapping[int, int],
        named_outputs: bool = False,
    ) -> None:
        self._calls_in_all = calls
        self._named_outputs = named_outputs
        self._consumers: dict[int, list[Any]] = collections.defaultdict(list)
        self._outputs: dict[int, list[keras.KerasTensor]] = collections.defaultdict(list)
        # The ids of layers that are called with training=True, whatever the model is called with.
        self._always_training: set[int] = set()
        self.calls = []
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
        self._find_exact(clone.inputs)

    def _note(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if kwargs.get("training") is True or any(one is True for one in args[1:]):
            self._always_training.add(id(layer))
        for tensor in keras.tree.flatten((args, kwargs)):
            self._consumers[id(tensor)].append(layer)
        self._outputs[id(layer)] += keras.tree.flatten(outputs)
        call = Call(layer, keras.tree.flatten(args), keras.tree.flatten(outputs))
        self.calls.append(call)
        return outputs

    def _find_exact(self, inputs: Sequence[keras.KerasTensor]) -> None:
        """Follow the calls back from each layer that needs exact numbers."""
        exact: set[int] = set()
        self.exact = set()
        self.call_places = []
        for call in reversed(self.calls):
            # The output of a layer with weights, which are rounded, is not exact anyway.
            has_weights = bool(getattr(call.layer, "weights", ()))
            is_exact = not has_weights and any(id(tensor) in exact for tensor in call.outputs)
            if is_exact:
                self.exact.add(id(call.layer))
            taken = _taken_exactly(call, is_exact)
            arguments = zip(call.arguments, taken, strict=True)
            exact.update(id(argument) for argument, is_taken in arguments if is_taken)
            self.call_places.append(CallPlace(taken, is_exact, self._named_output(call)))
        self.call_places.reverse()
        self.exact_inputs = tuple(id(tensor) in exact for tensor in inputs)

    def consumers(self, layer: Any) -> list[Any]:
        """The layers that take the outputs of a layer; [] if an output is one of the model."""
        if self.is_output(layer):
            return []
        outputs = [id(tensor) for tensor in self._outputs[id(layer)]]
        return [consumer for output in outputs for consumer in self._consumers[output]]

    def is_output(self, layer: Any) -> bool:
        """True if an output of a layer is one of the model."""
        return any(id(tensor) in self._ends for tensor in self._outputs[id(layer)])

    def is_named(self, layer: Any) -> bool:
        """True if an output of a layer is one of the model that is looked up by its name.

        Of several outputs none can be looked up.
        """
        ends = [tensor for tensor in self._outputs[id(layer)] if id(tensor) in self._ends]
        return self._named_outputs and len(ends) == 1

    def _named_output(self, call: Call) -> int | None:
        if not self.is_named(call.layer):
            return None
        ends = (number for number, one in enumerate(call.outputs) if id(one) in self._ends)
        return next(ends, None)

    def reaches_end(self, layer: Any) -> bool:
        """True if an output of a layer is one of the model, maybe after layers that pass it on."""
        if self.is_output(layer):
            return True
        passing = [one for one in self.consumers(layer) if type(one) in _PASSING]
        return any(self.reaches_end(one) for one in passing)

    def _can_fold(self, layer: Any, following: Sequence[Any]) -> bool:
        if len(following) != 1 or type(following[0]) is not keras.layers.BatchNormalization:
            return False
        if id(following[0]) in self._always_training:
            return False
        calls = [self._calls_in_all[id(one)] for one in (layer, following[0])]
        return calls == [1, 1] and folding.is_foldable(layer, following[0])

    def is_rounded(self, layer: Any) -> bool:
        """True if the output of a layer needs a range of its own."""
        if type(layer) in _PASSING or rebuilding.is_graph(layer):
            return False
        if id(layer) in self.exact:
            return False
        outputs = self._outputs[id(layer)]
        if not all(_is_floating(tensor) for tensor in outputs):
            return False
        following = self.consumers(layer)
        is_taken_over = [
            id(consumer) in self.folded or _is_fused_layer(consumer) for consumer in following
        ]
        return not following or not all(is_taken_over)
