"""The table: one row for each layer that was called."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from keras_surrogate import gradients
from keras_surrogate.activations import activation_of
from keras_surrogate.diagnosis import measuring
from keras_surrogate.functions import tables


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer's numbers; None where there is no such number.

    Of what comes out of the layer, over the batch:
        layer, type: its name, with the path in nested models, and its class's name.
        activation: the name of the function that it applies last.
        signal_mean, signal_variance: over all elements.
        zero_centredness: abs(mean) / sqrt(mean square), from 0, centred, to 1, all elements equal.
        dead_units: of a rectifier, the share of units that are 0 for every example.
        saturated: of a squashing function, the share of elements where its slope is below 1 % of its largest.
        effective_rank: exp of the entropy of the normalised singular values, examples as rows (the first 64).
        spread: the share of the mean square that differs between examples; 0 where all are alike.
        delta_norm: of the gradient that reaches the output, its L2 norm.
    Of what goes into it:
        input_power, input_centredness: mean square, and as above.
    Of its trainable weights together:
        gradient_norm: the L2 norm of the gradient.
        gradient_ratio: the same, divided by that of the last layer that has weights.
        cosine: between the gradient and the true one, that of the ordinary backward pass.
        update_ratio: norm of the change in the optimizer's next step / norm of the weights.
    Of its kernel, the first of its weights that has at least two axes:
        sign_agreement: the share of a unit's weight gradients that have the same sign, mean over the units.
        weight_variance: fan_in * mean(weight**2), the theory's sigma_w**2.
        is_constant: whether all its elements are equal.
    And:
        is_surrogate: whether it has an activation whose slope in the backward pass is not its own.
        is_output: whether the model returns what comes out.
        is_connected: whether all of its weights have an influence on the model's output by the backward pass.
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
    input_power: float | None = None
    input_centredness: float | None = None
    gradient_norm: float | None = None
    gradient_ratio: float | None = None
    cosine: float | None = None
    update_ratio: float | None = None
    sign_agreement: float | None = None
    weight_variance: float | None = None
    is_constant: bool | None = None
    is_surrogate: bool = False
    is_output: bool = False
    is_connected: bool = True
    is_finite: bool = True

    @property
    def has_kernel(self):
        return self.weight_variance is not None

    @property
    def signal_power(self):
        """The mean square of what comes out."""
        return None if self.signal_mean is None else self.signal_mean**2 + self.signal_variance


def measured(model, seen, true, changes):
    """The rows, in the order of the calls.

    Args:
        model: the model.
        seen, true: the `passes.Pass` with its surrogates, and that without.
        changes: of each variable, by its id, what the optimizer would add.
    """
    table = _Table(seen, true, changes, model.trainable_variables)
    layers = {id(layer): (name, layer) for name, layer in gradients.layers_by_name(model).items()}
    rows = [table.row(*layers[key]) for key in seen.calls]
    uncalled = [item for key, item in layers.items() if key not in seen.calls and item[1].trainable_variables]
    last = next((row.gradient_norm for row in reversed(rows) if row.gradient_norm is not None), None)
    rows += [*itertools.starmap(table.row, uncalled), *table.rows_of_own_weights(model)]
    return tuple(dataclasses.replace(row, gradient_ratio=_ratio(row.gradient_norm, last)) for row in rows)


def _ratio(number, of):
    return None if number is None or not of else number / of


class _Table:
    """Makes the rows; what is looked at more than once is measured once."""

    def __init__(self, seen, true, changes, variables):
        self._seen, self._true = seen, true
        self._gradients, self._deltas = measuring.norms(seen.gradients), measuring.norms(seen.deltas)
        self._changes = measuring.norms(changes)
        held = {id(variable): tf.convert_to_tensor(variable) for variable in variables if id(variable) in changes}
        self._held, self._moments = measuring.norms(held), {}

    def row(self, name, layer):
        calls = self._seen.calls.get(id(layer), [])
        activation = activation_of(layer)
        return Row(
            name,
            type(layer).__name__,
            activation and activation.forward.title,
            is_surrogate=activation is not None
            and (activation.backward != activation.forward or activation.scale != 1),
            is_finite=all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in _floating(layer.weights)),
            **self._of_output(layer, activation, calls),
            **self._of_input(calls),
            **self._of_weights(layer.trainable_variables),
            **_of_kernel(layer, self._seen),
        )

    def rows_of_own_weights(self, model):
        """A row for the weights that belong to the model itself and to none of its layers, if there are any."""
        groups = gradients.layer_variables(model)
        if model.name in groups and model.name not in gradients.layers_by_name(model):
            yield Row(model.name, type(model).__name__, **self._of_weights(groups[model.name]))

    def _of_output(self, layer, activation, calls):
        tensor = measuring.main_tensor([outputs for _, outputs in calls])
        if tensor is None:
            return {}
        mean, variance = self._mean_and_variance(tensor)
        rank, spread = measuring.effective_rank_and_spread(tensor)
        tensors = [tensor for _, outputs in calls for tensor in outputs]
        return {
            "signal_mean": mean,
            "signal_variance": variance,
            "zero_centredness": measuring.centredness(mean, variance),
            "effective_rank": rank,
            "spread": spread,
            "delta_norm": measuring.joined([self._deltas[id(one)] for one in tensors if id(one) in self._deltas]),
            "is_output": any(id(tensor) in self._seen.outputs for tensor in tensors),
            **_of_activation(layer, activation, tensor),
        }

    def _mean_and_variance(self, tensor):
        if id(tensor) not in self._moments:
            # With the tensor, so that its id is not used again.
            self._moments[id(tensor)] = measuring.mean_and_variance(tensor), tensor
        return self._moments[id(tensor)][0]

    def _of_input(self, calls):
        tensor = measuring.main_tensor([inputs for inputs, _ in calls])
        if tensor is None:
            return {}
        mean, variance = self._mean_and_variance(tensor)
        return {"input_power": mean**2 + variance, "input_centredness": measuring.centredness(mean, variance)}

    def _of_weights(self, variables):
        if not variables:
            return {}
        keys = list(map(id, variables))
        found, ordinary = ([side.gradients[key] for key in keys] for side in (self._seen, self._true))
        change, held = (
            measuring.joined([norms[key] for key in keys if key in norms]) for norms in (self._changes, self._held)
        )
        return {
            "gradient_norm": measuring.joined([self._gradients[key] for key in keys if key in self._gradients]),
            "cosine": measuring.cosine(found, ordinary),
            "update_ratio": _ratio(change, held),
            "is_connected": all(gradient is not None for gradient in found),
        }


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


def _of_kernel(layer, seen):
    kernel = next((variable for variable in layer.trainable_variables if len(variable.shape) >= 2), None)
    if kernel is None:
        return {}
    weights = gradients.at_least_float32(tf.convert_to_tensor(kernel))
    mean, variance = measuring.mean_and_variance(weights)
    gradient = seen.gradients[id(kernel)]
    return {
        "weight_variance": (mean**2 + variance) * float(np.prod(kernel.shape[:-1])),
        "sign_agreement": None if gradient is None else measuring.sign_agreement(gradient),
        "is_constant": bool(tf.reduce_all(weights == tf.reshape(weights, [-1])[0])) and int(tf.size(weights)) > 1,
    }
