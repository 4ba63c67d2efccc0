"""The table: one row for each layer that was called."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import batches, flow, measuring, passes
from keras_surrogate.diagnosis.endings import Ending, Endings
from keras_surrogate.diagnosis.flow import Flow
from keras_surrogate.functions import tables
from keras_surrogate.recording import names, norms


@dataclasses.dataclass(frozen=True, repr=False)
class Row:
    """One layer's numbers; None where there is no such number.

    Of what comes out of the layer, over the batch:
        layer, type: its name, with the path in nested models, and its class's name.
        activation: the name of the function that it applies last.
        signal_mean, signal_variance: over all elements.
        zero_centredness: abs(mean) / sqrt(mean square), from 0, centred, to 1, all elements equal.
        dead_units: of a rectifier, the share of units that are 0 for every example.
        saturated: of a squashing function, the share of elements where its slope is below 1 % of
            its largest.
        effective_rank: exp of the entropy of the normalised singular values, examples as rows (the
            first 64).
        spread: the share of the mean square that differs between examples; 0 where all are alike.
        delta_norm: of the gradient that reaches the output, its L2 norm.
    Of what goes into it (where it is features of the model's, joined with something else, of these
    features alone):
        reads: the names of the layers whose outputs these are; None among them is an operation
            between layers, and the inputs of the model are left out.
        input_power, input_centredness: mean square, and as above.
        input_sizes: where `is_first`, the largest root mean square of a column (of what is not 0 in
            it) over the median one.
        is_normalised: whether it has been normalised since the last layer with a kernel, or is
            within the layer.
    Of its trainable weights together:
        gradient_norm: the L2 norm of the gradient.
        gradient_ratio: the same, divided by that of the last layer that has weights.
        cosine: between the gradient and the true one, that of the ordinary backward pass.
        update_ratio: norm of the change in the optimizer's next step / norm of the weights.
    Of its kernel, the first of its weights that has at least two axes:
        kernel_gradient_norm: the L2 norm of the gradient; 0 also where none is defined.
        sign_agreement: the share of a unit's weight gradients that have the same sign, mean over
            the units.
        weight_variance: fan_in * mean(weight**2), the theory's sigma_w**2.
        is_constant: whether all its elements are equal.
    And:
        ending: where the kernel (or what weights it has) gets no gradient, an `endings.Ending`:
            where and why it ends.
        ignores_input: whether its outputs are the same for all examples although they and its
            weights differ.
        normalises: whether it is a normalisation, or has one within.
        joins_skip: whether it joins something with what was made from it: a residual connection.
        is_opaque: whether it holds layers with weights that have no row.
        is_first: whether it has a kernel, and none comes before it that computes with features.
        is_surrogate: whether it has an activation whose slope in the backward pass is not its own.
        is_output: whether the model returns what comes out.
        is_connected: whether all of its weights have an influence on the model's output by the
            backward pass.
        is_finite: whether all its weights are, trainable or not.
    """

    layer: str
    type: str
    activation: str | None = None
    signal_mean: float | None = None
    signal_variance: float | None = None
    zero_centredness: float | None = None
    dead_units: float | None = None
    saturated: float | None = None
    effective_rank: float | None = None
    spread: float | None = None
    delta_norm: float | None = None
    reads: tuple = ()
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

    def __repr__(self):
        numbers = {"variance": self.signal_variance, "gradient": self.gradient_norm}
        told = [f"{name} {number:.2g}" for name, number in numbers.items() if number is not None]
        return f"Row({', '.join([self.layer, self.type, *told])})"

    @property
    def has_kernel(self):
        return self.weight_variance is not None

    @property
    def signal_power(self):
        """The mean square of what comes out."""
        return None if self.signal_mean is None else self.signal_mean**2 + self.signal_variance


def measured(model, layers, x, seen, true, changes):
    """The rows, in the order of the calls.

    Args:
        model: the model.
        layers: a dictionary from name to layer, of those that are to have a row.
        x: the tensors that it was called on.
        seen, true: the `passes.Pass` with its surrogates, and that without.
        changes: of each variable, by its id, what the optimizer would add.
    """
    table = _Table(model, layers, x, seen, true, changes)
    called = [table.row(name) for name in table.flow.order]
    uncalled = [name for name in layers if name not in table.flow.order and table.flow.own[name]]
    last = next(
        (row.gradient_norm for row in reversed(called) if row.gradient_norm is not None), None
    )
    rows = [*called, *map(table.row, uncalled), *table.rows_of_own_weights(model)]
    return tuple(
        dataclasses.replace(row, gradient_ratio=_ratio(row.gradient_norm, last)) for row in rows
    )


def _ratio(number, of):
    return None if number is None or not of else number / of


class _Table:
    """Makes the rows; what is looked at more than once is measured once."""

    def __init__(self, model, layers, x, seen, true, changes):
        self.flow = Flow(seen.calls, x, layers)
        self._shown = {id(layer) for layer in layers.values()}
        self._seen, self._true = seen, true
        self._endings = Endings(
            seen, self.flow, lambda variables: passes.depends(model, x, variables)
        )
        self._features = set(_columns_of(batches.features_beside_others(x, seen.deltas)))
        self._gradients, self._deltas = (
            measuring.norms(seen.gradients),
            measuring.norms(seen.deltas),
        )
        self._changes = measuring.norms(changes)
        held = {
            id(v): tf.convert_to_tensor(v) for v in model.trainable_variables if id(v) in changes
        }
        self._held, self._moments = measuring.norms(held), {}

    def row(self, name):
        layer = self.flow.layers[name]
        activation = activation_of(layer)
        return Row(
            name,
            type(layer).__name__,
            activation and activation.forward.title,
            is_surrogate=activation is not None
            and (activation.backward != activation.forward or activation.scale != 1),
            is_finite=all(
                bool(tf.reduce_all(tf.math.is_finite(weight)))
                for weight in _floating(layer.weights)
            ),
            ending=self._endings.of(name),
            normalises=flow.normalises(layer),
            is_opaque=flow.is_opaque(layer, self._shown),
            **self._of_output(layer, activation, self.flow.outputs(name)),
            **self._of_weights(self.flow.own[name]),
            **(self._of_place(name) if name in self.flow.reads else {}),
            **self._of_kernel_and_input(name, self.flow.kernel(name)),
        )

    def rows_of_own_weights(self, model):
        """A row for the weights that belong to the model itself and to none of its layers, if there are any."""
        groups = names.layer_variables(model)
        if model.name in groups and model.name not in self.flow.layers:
            yield Row(model.name, type(model).__name__, **self._of_weights(groups[model.name]))

    def _of_place(self, name):
        """What it reads, and what that means."""
        return {
            "reads": self.flow.reads[name],
            "joins_skip": self.flow.joins_skip(name),
            "is_first": self._is_first(name),
            "is_normalised": self._is_normalised(name),
            "ignores_input": self._endings.ignores_input(name),
        }

    def _computes(self, name):
        """Whether a layer has a kernel and computes with real numbers, unlike an embedding."""
        inputs = self.flow.inputs(name)
        variables = self.flow.layers[name].trainable_variables
        has_kernel = measuring.kernel_of(variables) is not None
        return has_kernel and any(
            self._seen.deltas.get(id(tensor)) is not None for tensor in inputs
        )

    def _is_first(self, name):
        """Whether a layer computes, and none before it; behind operations between layers, by the order of the calls."""
        earlier = self.flow.order[: self.flow.order.index(name)]
        if self.flow.kernel(name) is None or not self._computes(name):
            return False
        if not any(map(self._computes, earlier)):
            return True
        return self.flow.knows(name) and not self.flow.reaches(name, self._computes)

    def _is_normalised(self, name):
        """Of what goes into a layer; None where that is not known, or where it is the model's inputs."""
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

    def _of_output(self, layer, activation, tensors):
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
            "delta_norm": measuring.joined(
                [self._deltas[id(one)] for one in tensors if id(one) in self._deltas]
            ),
            "is_output": any(id(tensor) in outputs for tensor in tensors),
            **_of_activation(layer, activation, tensor),
        }

    def _mean_and_variance(self, tensor):
        if id(tensor) not in self._moments:
            # With the tensor, so that its id is not used again.
            self._moments[id(tensor)] = measuring.mean_and_variance(tensor), tensor
        return self._moments[id(tensor)][0]

    def _of_kernel_and_input(self, name, kernel):
        tensor = measuring.main_tensor([[tensor] for tensor in self.flow.inputs(name)])
        columns = None if tensor is None else self._feature_columns(tensor)
        if columns is not None:
            tensor = tf.boolean_mask(tensor, columns, axis=tensor.shape.rank - 1)
        found = (
            {}
            if tensor is None
            else self._of_input(tensor, name in self.flow.reads and self._is_first(name))
        )
        return found if kernel is None else {**found, **self._of_kernel(kernel, columns)}

    def _feature_columns(self, tensor):
        """Which columns of a layer's input are features of the model's, where others are not; else None."""
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
        found, ordinary = (
            [side.gradients[key] for key in keys] for side in (self._seen, self._true)
        )
        change, held = (
            measuring.joined([norms[key] for key in keys if key in norms])
            for norms in (self._changes, self._held)
        )
        return {
            "gradient_norm": measuring.joined(
                [self._gradients[key] for key in keys if key in self._gradients]
            ),
            "cosine": measuring.cosine(found, ordinary),
            "update_ratio": _ratio(change, held),
            "is_connected": all(gradient is not None for gradient in found),
        }

    def _of_kernel(self, kernel, columns):
        weights = norms.at_least_float32(tf.convert_to_tensor(kernel))
        mean, variance = measuring.mean_and_variance(weights)
        gradient = self._seen.gradients[id(kernel)]
        if gradient is not None and columns is not None and gradient.shape[-2] == len(columns):
            gradient = tf.boolean_mask(gradient, columns, axis=gradient.shape.rank - 2)
        return {
            "kernel_gradient_norm": self._gradients.get(id(kernel), 0.0),
            "weight_variance": (mean**2 + variance) * float(np.prod(kernel.shape[:-1])),
            "sign_agreement": None if gradient is None else measuring.sign_agreement(gradient),
            "is_constant": measuring.is_constant(weights),
        }


def _columns_of(tensors):
    """The columns of some tensors along their last axes, as bytes by which to compare them; of a few examples."""
    few = [
        np.asarray(tensor[: measuring.COMPARED], "float32")
        for tensor in tensors
        if tensor.shape.rank == 2
    ]
    return [column.tobytes() for array in few for column in np.ascontiguousarray(array.T)]


def _floating(weights):
    return [weight for weight in map(tf.convert_to_tensor, weights) if weight.dtype.is_floating]


def _of_activation(layer, activation, tensor):
    if activation is None:
        return {}
    function, found = activation.forward, {}
    if tables.is_rectifier(function) and tensor.shape.rank > 1:
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        found["dead_units"] = measuring.dead_units(tensor, channels_first)
    if tables.saturation(function):
        found["saturated"] = measuring.saturated(tensor, function)
    return found
