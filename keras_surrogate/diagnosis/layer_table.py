"""The table: one row for each layer that was called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import batches, flow, measuring, passes
from keras_surrogate.diagnosis.endings import Ending, Endings
from keras_surrogate.diagnosis.flow import Flow
from keras_surrogate.functions import tables
from keras_surrogate.layers import firing
from keras_surrogate.recording import names, norms

if TYPE_CHECKING:
    import keras

    from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True, repr=False)
class Row:
    """The numbers of one layer; None where there is no such number.

    Its outputs, over the batch:
        layer, type: its name, with the path in nested models, and the name of its class.
        activation: the name of the function that it applies last.
        signal_mean, signal_variance: over all elements.
        zero_centredness: abs(mean) / sqrt(mean square), from 0, centred, to 1, all elements equal.
        firing_rate: of a layer of spiking neurons, the mean of its spikes.
        dead_units: of a rectifier, the share of units that are 0 for every example; of spiking
            neurons, that never fire.
        dormant_units: of an activation, the share of units whose mean abs(output) is at most 0.025
            times that of the layer.
        saturated: of a squashing function, the share of elements where its slope is below 1 % of
            its largest; of spiking neurons, the share of units that fire in every time step of
            every example.
        effective_rank: exp of the entropy of the normalised singular values, examples as rows (the
            first 64).
        spread: the share of the mean square that differs between examples; 0 if all are equal.
        delta_norm: L2 norm of the gradient of the outputs.
    Its inputs (where they are features joined with other inputs of the model, only the features):
        reads: the names of the layers whose outputs they are. None stands for an operation between
            layers; the inputs of the model are left out.
        input_power, input_centredness: mean square, and as zero_centredness.
        input_sizes: where `is_first`, the largest root mean square of the nonzero numbers of a
            column over the median one.
        is_normalised: True if they are normalised after the last layer with a kernel, or within
            this layer.
    Its trainable weights together, without those of inner layers that have rows of their own:
        gradient_norm: L2 norm of the gradient.
        gradient_ratio: this norm over that of the last layer that has weights.
        cosine: between the gradient and the true one, that of the true derivatives.
        update_ratio: norm of the change in the optimizer's next step / norm of the weights.
    Its kernel, the first of these weights that has at least two axes:
        kernel_gradient_norm: L2 norm of the gradient; 0 also where none is defined.
        sign_agreement: the share of a unit's weight gradients with the same sign, mean over the
            units.
        weight_variance: fan_in * mean(weight**2), the theory's sigma_w**2.
        is_constant: True if all its elements are equal.
    Other:
        ending: the place and the cause where the kernel (or, without one, the weights) gets no
            gradient.
        ignores_input: True if its outputs are the same for all examples although the inputs differ
            and the weights are not all equal.
        normalises: True if it is or contains a normalisation.
        joins_skip: True if it joins a tensor with one computed from it: a residual connection.
        is_opaque: True if it contains layers with weights that have no row.
        is_first: True if it has a kernel and no layer before it computes with features.
        is_surrogate: True if its activation's slope in the backward pass is not the true one.
        is_output: True if the model returns its outputs.
        is_connected: True if the gradient of each of its weights is defined.
        is_finite: True if all its weights are finite, trainable or not.
    """

    layer: str
    type: str
    activation: str | None = None
    signal_mean: float | None = None
    signal_variance: float | None = None
    zero_centredness: float | None = None
    firing_rate: float | None = None
    dead_units: float | None = None
    dormant_units: float | None = None
    saturated: float | None = None
    effective_rank: float | None = None
    spread: float | None = None
    delta_norm: float | None = None
    reads: tuple[str | None, ...] = ()
    input_power: float | None = None
    input_centredness: float | None = None
    input_sizes: float | None = None
    is_normalised: bool | None = None
    gradient_norm: float | None = None
    gradient_ratio: float | None = None
    cosine: float | None = None
    update_ratio: float | None = None
    kernel_gradient_norm: float | None = None
    sign_agreement: float | None = None
    weight_variance: float | None = None
    is_constant: bool | None = None
    ending: Ending | None = None
    ignores_input: bool = False
    normalises: bool = False
    joins_skip: bool = False
    is_opaque: bool = False
    is_first: bool = False
    is_surrogate: bool = False
    is_output: bool = False
    is_connected: bool = True
    is_finite: bool = True

    def __repr__(self) -> str:
        numbers = {"variance": self.signal_variance, "gradient": self.gradient_norm}
        told = [f"{name} {number:.2g}" for name, number in numbers.items() if number is not None]
        return f"Row({', '.join([self.layer, self.type, *told])})"

    @property
    def fires(self) -> bool:
        """True for a layer of spiking neurons."""
        return self.firing_rate is not None

    @property
    def has_kernel(self) -> bool:
        return self.weight_variance is not None

    @property
    def signal_power(self) -> float | None:
        """The mean square of the outputs."""
        if self.signal_mean is None or self.signal_variance is None:
            return None
        return self.signal_mean**2 + self.signal_variance


def measured(
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    x: object,
    seen: passes.Pass,
    changes: Mapping[int, tf.Tensor],
) -> tuple[Row, ...]:
    """The rows: called layers in the order of their calls, then the others that have weights.

    Their cosines are added by `with_cosines`.

    Args:
        model: the model.
        layers: the layers that have a row, by name.
        x: the inputs of the model.
        seen: the pass with the model's surrogates.
        changes: from the id of each variable to its change in the optimizer's next step.
    """
    table = _Table(model, layers, x, seen, changes)
    called = [table.row(name) for name in table.flow.order]
    uncalled = [name for name in layers if name not in table.flow.order and table.flow.own[name]]
    rows = [*called, *map(table.row, uncalled), *table.rows_of_own_weights(model)]
    gradient_norms = [row.gradient_norm for row in called if row.gradient_norm is not None]
    last = gradient_norms[-1] if gradient_norms else None
    return tuple(
        dataclasses.replace(row, gradient_ratio=_ratio(row.gradient_norm, last)) for row in rows
    )


def with_cosines(
    rows: Sequence[Row],
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    gradients: Mapping[int, tf.Tensor | None],
    true: Mapping[int, tf.Tensor | None],
) -> tuple[Row, ...]:
    """The rows with the cosine between the gradients and the true ones.

    Args:
        rows: the rows.
        model, layers: as in `measured`.
        gradients: from the id of each trainable variable to its gradient.
        true: the same with the true derivatives; maybe the same object.
    """
    own = {**_own_weights(model, layers), **flow.own_variables(layers)}
    lengths = measuring.norms(gradients)
    true_lengths = lengths if true is gradients else measuring.norms(true)
    done = []
    for row in rows:
        keys = [id(variable) for variable in own[row.layer]]
        # Variables without one of the gradients are left out.
        keys = [key for key in keys if key in lengths and key in true_lengths]
        cosine = measuring.cosine(
            [gradients[key] for key in keys],
            [true[key] for key in keys],
            _joined(lengths, keys) or 0.0,
            _joined(true_lengths, keys) or 0.0,
        )
        done.append(dataclasses.replace(row, cosine=cosine))
    return tuple(done)


def _own_weights(
    model: keras.Model, layers: Mapping[str, keras.layers.Layer]
) -> dict[str, list[keras.Variable]]:
    """The weights that belong to the model and to none of its layers, by its name; or nothing."""
    groups = names.layer_variables(model)
    if model.name in layers or model.name not in groups:
        return {}
    return {model.name: groups[model.name]}


def _ratio(number: float | None, of: float | None) -> float | None:
    return None if number is None or not of else number / of


class _Table:
    """The rows, and the numbers that several of them need. Arguments as in `measured`."""

    def __init__(
        self,
        model: keras.Model,
        layers: Mapping[str, keras.layers.Layer],
        x: object,
        seen: passes.Pass,
        changes: Mapping[int, tf.Tensor],
    ) -> None:
        self.flow = Flow(seen.calls, x, layers)
        self._shown = {id(layer) for layer in layers.values()}
        self._seen = seen
        self._endings = Endings(
            seen, self.flow, lambda variables: passes.depends(model, x, variables)
        )
        self._features = set(_columns_of(batches.features_beside_others(x, seen.deltas)))
        self._gradients = measuring.norms(seen.gradients)
        self._deltas = measuring.norms(seen.deltas)
        self._changes = measuring.norms(changes)
        changed = [variable for variable in model.trainable_variables if id(variable) in changes]
        self._held = measuring.norms({id(v): tf.convert_to_tensor(v) for v in changed})
        self._moments = {}

    def row(self, name: str) -> Row:
        layer = self.flow.layers[name]
        activation = activation_of(layer)
        return Row(
            name,
            type(layer).__name__,
            activation and activation.forward.title,
            is_surrogate=_has_other_slope(activation),
            is_finite=all(map(measuring.is_finite, layer.weights)),
            ending=self._endings.of(name),
            normalises=flow.normalises(layer),
            is_opaque=flow.is_opaque(layer, self._shown),
            **self._of_output(layer, activation, self.flow.outputs(name)),
            **self._of_weights(self.flow.own[name]),
            **(self._of_place(name) if name in self.flow.reads else {}),
            **self._of_kernel_and_input(name, self.flow.kernel(name)),
        )

    def rows_of_own_weights(self, model: keras.Model) -> Iterator[Row]:
        """A row for the weights that belong to the model and to none of its layers, if any do."""
        for name, variables in _own_weights(model, self.flow.layers).items():
            yield Row(name, type(model).__name__, **self._of_weights(variables))

    def _of_place(self, name: str) -> dict[str, Any]:
        """The fields about the layer's place in the graph."""
        return {
            "reads": self.flow.reads[name],
            "joins_skip": self.flow.joins_skip(name),
            "is_first": self._is_first(name),
            "is_normalised": self._is_normalised(name),
            "ignores_input": self._endings.ignores_input(name),
        }

    def _computes(self, name):
        """True if a layer has a kernel and computes with real numbers, unlike an embedding."""
        inputs = self.flow.inputs(name)
        variables = self.flow.layers[name].trainable_variables
        has_kernel = measuring.kernel_of(variables) is not None
        return has_kernel and any(
            self._seen.deltas.get(id(tensor)) is not None for tensor in inputs
        )

    def _is_first(self, name):
        """True if a layer computes with features and no layer before it does.

        Behind operations between layers, the order of the calls decides.
        """
        earlier = self.flow.order[: self.flow.order.index(name)]
        if self.flow.kernel(name) is None or not self._computes(name):
            return False
        if not any(map(self._computes, earlier)):
            return True
        return self.flow.knows(name) and not self.flow.reaches(name, self._computes)

    def _is_normalised(self, name):
        """True if the inputs of a layer are normalised; None for model inputs and unknown ones."""
        if flow.normalises(self.flow.layers[name]):
            return True
        if not self.flow.reads[name] or None in self.flow.reads[name]:
            return None
        layers = self.flow.layers
        return self.flow.reaches(
            name,
            lambda other: flow.normalises(layers[other]),
            lambda other: measuring.kernel_of(layers[other].trainable_variables) is None,
        )

    def _of_output(
        self,
        layer: keras.layers.Layer,
        activation: Surrogate | None,
        tensors: Sequence[tf.Tensor],
    ) -> dict[str, Any]:
        tensor = measuring.main_tensor([[tensor] for tensor in tensors])
        if tensor is None:
            return {}
        mean, variance = self._mean_and_variance(tensor)
        rank, spread = measuring.effective_rank_and_spread(tensor)
        outputs = set(map(id, self._seen.outputs))
        return {
            "signal_mean": mean,
            "signal_variance": variance,
            "zero_centredness": measuring.centredness(mean, variance),
            "effective_rank": rank,
            "spread": spread,
            "delta_norm": _joined(self._deltas, list(map(id, tensors))),
            "is_output": any(id(tensor) in outputs for tensor in tensors),
            **_of_activation(layer, activation, tensor),
            **_of_spikes(layer, tensors),
        }

    def _mean_and_variance(self, tensor):
        if id(tensor) not in self._moments:
            # The tensor is kept too, because the id of a deleted one can be used again.
            self._moments[id(tensor)] = measuring.mean_and_variance(tensor), tensor
        return self._moments[id(tensor)][0]

    def _of_kernel_and_input(self, name, kernel):
        tensor = measuring.main_tensor([[tensor] for tensor in self.flow.inputs(name)])
        columns = None if tensor is None else self._feature_columns(tensor)
        if columns is not None:
            tensor = tf.boolean_mask(tensor, columns, axis=tensor.shape.rank - 1)
        found = {}
        if tensor is not None:
            is_first = name in self.flow.reads and self._is_first(name)
            found |= self._of_input(tensor, is_first)
        if kernel is not None:
            found |= self._of_kernel(kernel, columns)
        return found

    def _feature_columns(self, tensor):
        """True for each column of a layer's input that is a feature; None if all or none are."""
        if tensor.shape.rank < 2 or not self._features:
            return None
        columns = np.array([column in self._features for column in _columns_of([tensor])])
        return columns if columns.any() and not columns.all() else None

    def _of_input(self, tensor, is_first):
        mean, variance = self._mean_and_variance(tensor)
        centred = measuring.centredness(mean, variance)
        sizes = measuring.size_ratio(tensor) if is_first else None
        return {
            "input_power": mean**2 + variance,
            "input_centredness": centred,
            "input_sizes": sizes,
        }

    def _of_weights(self, variables):
        if not variables:
            return {}
        keys = list(map(id, variables))
        change = _joined(self._changes, keys)
        held = _joined(self._held, keys)
        return {
            "gradient_norm": _joined(self._gradients, keys),
            "update_ratio": _ratio(change, held),
            "is_connected": all(key in self._gradients for key in keys),
        }

    def _of_kernel(self, kernel, columns):
        weights = norms.at_least_float32(tf.convert_to_tensor(kernel))
        mean, variance = measuring.mean_and_variance(weights)
        gradient = self._seen.gradients[id(kernel)]
        if gradient is not None and columns is not None and gradient.shape[-2] == len(columns):
            gradient = tf.boolean_mask(gradient, columns, axis=gradient.shape.rank - 2)
        fan_in = float(np.prod(kernel.shape[:-1]))
        return {
            "kernel_gradient_norm": self._gradients.get(id(kernel), 0.0),
            "weight_variance": fan_in * (mean**2 + variance),
            "sign_agreement": None if gradient is None else measuring.sign_agreement(gradient),
            "is_constant": measuring.is_constant(weights),
        }


def _columns_of(tensors):
    """The columns of some matrices, for the first examples, as bytes to compare them by."""
    few = [
        np.asarray(tensor[: measuring.COMPARED], "float32")
        for tensor in tensors
        if tensor.shape.rank == 2
    ]
    return [column.tobytes() for array in few for column in np.ascontiguousarray(array.T)]


def _joined(norms_by_id: Mapping[int, float], keys: Sequence[int]) -> float | None:
    """The norm over some tensors; those without a norm are left out, and None if all are."""
    return measuring.joined([norms_by_id[key] for key in keys if key in norms_by_id])


def _has_other_slope(activation: Surrogate | None) -> bool:
    if activation is None:
        return False
    return activation.backward != activation.forward or activation.scale != 1


def _of_spikes(layer: keras.layers.Layer, tensors: Sequence[tf.Tensor]) -> dict[str, float | None]:
    """The fields of a layer of spiking neurons, of its first call."""
    if not firing.fires(layer):
        return {}
    spikes = firing.spikes_among(layer, tensors)[0]
    return {
        "firing_rate": measuring.mean_and_variance(norms.at_least_float32(spikes))[0],
        "dead_units": measuring.dead_units(spikes),
        # A unit that always fires has no zero.
        "saturated": measuring.dead_units(1 - spikes),
    }


def _of_activation(
    layer: keras.layers.Layer, activation: Surrogate | None, tensor: tf.Tensor
) -> dict[str, float | None]:
    if activation is None:
        return {}
    function = activation.forward
    found = {}
    if tensor.shape.rank > 1 and function.title != "linear":
        found["dormant_units"] = measuring.dormant_units(layer, tensor)
    if tables.is_rectifier(function) and tensor.shape.rank > 1:
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        found["dead_units"] = measuring.dead_units(tensor, channels_first)
    if tables.saturation(function):
        found["saturated"] = measuring.saturated(tensor, function)
    return found
