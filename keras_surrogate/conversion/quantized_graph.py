"""The quantised copy of a graph: a plan and a copy for each layer, and calls of rounded tensors."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.conversion import folding, layer_tree, rebuilding, reports, weight_bits
from keras_surrogate.conversion.range_places import (
    CallPlace,
    Graph,
    all_calls,
    as_functional,
    gives_probabilities,
    is_fused,
)
from keras_surrogate.layers import FakeQuantize


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The conversion of one layer.

    Attributes:
        layer: the layer of the float model.
        bits: those of its weights; None for float.
        normalization: the BatchNormalization that is folded into it, or None.
        is_folded: True for a BatchNormalization that is folded into the layer before it.
        activation: the activation that becomes a layer of its own, or None.
        is_rounded: True if a `FakeQuantize` follows.
    """

    layer: Any
    bits: int | None = None
    normalization: keras.layers.BatchNormalization | None = None
    is_folded: bool = False
    activation: Any = None
    is_rounded: bool = False


class Conversion:
    """The conversion of a model and of the models within it.

    Args:
        bits: the bits of each layer whose weights are rounded, by the layer's id.
        activation_bits: those of activations; None for float.
        backward: the function of the slope of rounded weights.
        fold: whether batch normalisation is folded into the layers before it.
        named_outputs: whether the outputs keep their names.

    Attributes:
        changes: what was done to the layers.
        kept: what stays in float or is left out, and why.
    """

    changes: list[reports.Change]
    kept: list[reports.Unreached]

    def __init__(
        self,
        bits: Mapping[int, int],
        activation_bits: int | None,
        backward: functions.Function,
        fold: bool,
        named_outputs: bool,
    ) -> None:
        self._bits = bits
        self._activation_bits = activation_bits
        self._backward = backward
        self._fold = fold
        self._named_outputs = named_outputs
        # From the ids of layers and models to their copies, of which there is one for all graphs.
        self._clones: dict[int, Any] = {}
        # From the ids of layers to their separate activations.
        self._activations: dict[int, keras.layers.Layer] = {}
        # Each plan with its new layer.
        self._made: list[tuple[_Plan, Any]] = []
        # Each tensor that is rounded only where a layer may take rounded numbers, with the name of
        # its range, by the tensor's id; and its rounded tensor, once there is one.
        self._exact: dict[int, tuple[keras.KerasTensor, str]] = {}
        self._rounded_later: dict[int, keras.KerasTensor] = {}
        # The number of calls of each layer, by its id.
        self._calls: collections.Counter[int] = collections.Counter()
        # The names of all layers and operations, old and new, which Keras demands to be different.
        self._names: set[str] = set()
        self.changes = []
        self.kept = []

    def run(self, model: keras.Model) -> keras.Model:
        """The quantised model, with the weights of the float model."""
        calls = all_calls(model)
        self._calls.update(id(call.layer) for call in calls)
        self._names.update(call.layer.name for call in calls)
        quantized = self._graph_of(model, is_outermost=True, is_last=True)
        for plan, layer in self._made:
            _transfer(plan, layer)
        return quantized

    def _graph_of(
        self, model: keras.Model, is_outermost: bool = False, is_last: bool = False
    ) -> keras.Model:
        """The quantised copy of a graph.

        Args:
            model: a Sequential or functional model.
            is_outermost: True for the whole model.
            is_last: True if its outputs are those of the whole model.
        """
        model = as_functional(model)
        named_outputs = is_outermost and self._named_outputs
        graph = Graph(model, self._fold, self._calls, named_outputs)
        places = iter(graph.call_places)
        # From the ids of copies to their plans in this graph.
        plans: dict[int, _Plan] = {}

        def cloned(layer: Any) -> Any:
            plan = self._plan(layer, graph, is_last)
            if id(layer) not in self._clones:
                self._clones[id(layer)] = self._cloned(plan, graph, is_last)
            clone = self._clones[id(layer)]
            plans[id(clone)] = plan
            return clone

        def called(clone: Any, *args: Any, **kwargs: Any) -> Any:
            # Keras makes the calls in the same order as before in `Graph`.
            return self._called(plans[id(clone)], next(places), clone, *args, **kwargs)

        inputs = keras.tree.map_structure(_new_input, model.input)
        for tensor, is_exact in zip(keras.tree.flatten(inputs), graph.exact_inputs, strict=True):
            if is_outermost or is_exact:
                self._add_exact(tensor, tensor.name)
            if is_outermost and not is_exact:
                self._of_exact(tensor)
        return keras.models.clone_model(
            model, input_tensors=inputs, clone_function=cloned, call_function=called
        )

    def _add_exact(self, tensor: keras.KerasTensor, name: str) -> None:
        """Let a floating tensor be rounded where it is first taken as a rounded one."""
        if self._activation_bits is not None and tf.as_dtype(tensor.dtype).is_floating:
            self._exact[id(tensor)] = (tensor, name)

    def _of_exact(self, tensor: Any) -> Any:
        """The rounded value of a tensor that is not rounded yet; all other values unchanged."""
        if id(tensor) not in self._exact:
            return tensor
        if id(tensor) not in self._rounded_later:
            self._rounded_later[id(tensor)] = self._rounded(*self._exact[id(tensor)])
        return self._rounded_later[id(tensor)]

    def _plan(self, layer: Any, graph: Graph, is_last: bool) -> _Plan:
        """What is done to a layer, a model or an operation in a graph."""
        is_rounded = self._activation_bits is not None and graph.is_rounded(layer)
        if is_last and graph.reaches_end(layer) and gives_probabilities(layer):
            # Keras finds the logits behind it, and LiteRT has a fixed range for it.
            is_rounded = False
        if not isinstance(layer, keras.layers.Layer) or rebuilding.is_graph(layer):
            return _Plan(layer, is_rounded=is_rounded)
        return _Plan(
            layer,
            bits=self._bits.get(id(layer)),
            normalization=graph.folds.get(id(layer)),
            is_folded=id(layer) in graph.folded,
            activation=self._separate_activation(layer),
            is_rounded=is_rounded,
        )

    def _cloned(self, plan: _Plan, graph: Graph, is_last: bool) -> Any:
        """The copy of a layer, a model or an operation."""
        layer = plan.layer
        if not isinstance(layer, keras.layers.Layer):
            # An operation, such as x + y.
            clone = type(layer).from_config(layer.get_config())
        elif rebuilding.is_graph(layer) and id(layer) in graph.exact:
            clone = rebuilding.rebuilt(layer, {}, {})
        elif rebuilding.is_graph(layer):
            clone = self._graph_of(layer, is_last=is_last and graph.reaches_end(layer))
        else:
            clone = self._new_layer(plan)
            self._made.append((plan, clone))
            self._note(plan)
        is_followed = plan.activation is not None or plan.is_rounded
        if is_followed and not plan.is_folded and graph.is_named(layer):
            # The last layer after it has its name.
            clone.name = self._free(f"{layer.name}_unrounded")
        return clone

    def _separate_activation(self, layer: keras.layers.Layer) -> Any:
        """The activation of a layer that needs rounded values before it, or None."""
        if self._activation_bits is None or type(layer) not in folding.FOLDABLE:
            return None
        return None if is_fused(layer.activation) else layer.activation

    def _new_layer(self, plan: _Plan) -> keras.layers.Layer:
        changes: dict[str, object] = {}
        if plan.normalization is not None:
            changes["use_bias"] = True
            # They were those of the kernel before the folding.
            changes.update(dict.fromkeys(_rules(plan.layer)))
        if plan.activation is not None:
            changes["activation"] = "linear"
        layer = rebuilding.layer_like(plan.layer, **changes)
        if plan.bits is None:
            return layer
        return weight_bits.wrapped(layer, plan.bits, self._backward)

    def _called(self, plan: _Plan, place: CallPlace, clone: Any, *args: Any, **kwargs: Any) -> Any:
        taken = [
            argument if is_exact else self._of_exact(argument)
            for argument, is_exact in zip(keras.tree.flatten(args), place.takes_exact, strict=True)
        ]
        args = keras.tree.pack_sequence_as(args, taken)
        outputs = args[0] if plan.is_folded else clone(*args, **kwargs)
        name = plan.layer.name
        if plan.activation is not None:
            outputs = self._rounded(outputs, f"{name}_before")
            has_name = place.named_output is not None and not plan.is_rounded
            activation_name = name if has_name else None
            outputs = self._activation_layer(plan, activation_name, outputs.dtype)(outputs)
        if plan.is_rounded:
            outputs = self._rounded(outputs, name, place.named_output)
        elif place.is_exact:
            for tensor in keras.tree.flatten(outputs):
                self._add_exact(tensor, name)
        return outputs

    def _activation_layer(self, plan: _Plan, name: str | None, dtype: str) -> keras.layers.Layer:
        """The layer of a separate activation, one for all calls of the layer before it."""
        key = id(plan.layer)
        if key not in self._activations:
            name = name or self._free(f"{plan.layer.name}_activation")
            layer = plan.activation
            if isinstance(layer, keras.layers.Layer):
                # A layer such as PReLU has weights, and stays that of the float model's copy.
                layer.name = name
            else:
                layer = keras.layers.Activation(layer, name=name, dtype=dtype)
            self._activations[key] = layer
        return self._activations[key]

    def _rounded(self, outputs: Any, name: str, named_output: int | None = None) -> Any:
        """The rounded values of one or several outputs.

        Args:
            outputs: tensors.
            name: the name of the layer that gives them.
            named_output: the number of the output whose range has this name too; default None. The
                name of another range is this one with "_range".
        """
        rounded = [
            self._range(name, name if number == named_output else None, tensor.dtype)(tensor)
            for number, tensor in enumerate(keras.tree.flatten(outputs))
        ]
        return keras.tree.pack_sequence_as(outputs, rounded)

    def _free(self, name: str) -> str:
        """The name, or with a number if another layer has it."""
        free = name
        number = 0
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free

    def _range(self, name: str, output_name: str | None, dtype: str) -> FakeQuantize:
        range_name = output_name or self._free(f"{name}_range")
        # The dtype is that of the tensor, whatever the global policy.
        return FakeQuantize(self._activation_bits, name=range_name, dtype=dtype)

    def _note(self, plan: _Plan) -> None:
        """Add what is done to a layer to the report."""
        layer = plan.layer
        rules = _rules(layer) if plan.normalization is not None else []
        if rules:
            reason = "left out, because they are for the kernel before the folding"
            self.kept.append(reports.Unreached(layer.name, f"{', '.join(rules)} {reason}"))
        if plan.is_folded:
            self.changes.append(reports.Change(layer.name, "BatchNormalization", "folded"))
        elif plan.bits is not None:
            unit = "bit" if plan.bits == 1 else "bits"
            self.changes.append(reports.Change(layer.name, "float weights", f"{plan.bits} {unit}"))
        elif weight_bits.has_kernel(layer):
            self.changes.append(reports.Change(layer.name, "float weights", "float, as asked"))
        elif isinstance(layer, keras.layers.BatchNormalization):
            reason = "this BatchNormalization stays in float"
            if self._fold:
                reason += (
                    ", because no convolution or Dense layer alone comes before it, or because it "
                    "is called with training=True"
                )
            self.kept.append(reports.Unreached(layer.name, reason))


def _rules(layer: keras.layers.Layer) -> list[str]:
    """The names of a layer's regularizers and constraints."""
    ends = ("_regularizer", "_constraint")
    config = layer.get_config()
    return [name for name, value in config.items() if name.endswith(ends) and value is not None]


def _new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _transfer(plan: _Plan, layer: keras.layers.Layer) -> None:
    """Give a new layer the weights of its float layer."""
    inner = layer.layer if plan.bits is not None else layer
    if plan.normalization is not None:
        inner.set_weights(folding.folded(plan.layer, plan.normalization))
    elif not plan.is_folded:
        for _, own, counterpart in layer_tree.pairs(plan.layer, inner):
            rebuilding.transfer_own_state(own, counterpart)
    layer.trainable = plan.layer.trainable
