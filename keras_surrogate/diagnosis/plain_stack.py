"""Whether a model is one that the theory is about: dense layers of one activation, one after the other."""

import dataclasses
import functools

import keras
import numpy as np

from keras_surrogate import theory
from keras_surrogate.activations import activation_of
from keras_surrogate.surrogate import Surrogate

_PASSING = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout, keras.layers.Identity)
# Layers whose weights' variances differ by more than this are not one stack.
_ALIKE = 3.0


@dataclasses.dataclass(frozen=True)
class Stack:
    """The hidden layers of a plain network, in the theory's terms; variances are those of these weights and this batch.

    signal_variance: that of the pre-activations, the median over the layers.
    """

    surrogate: Surrogate
    depth: int
    weight_variance: float
    bias_variance: float
    input_variance: float
    input_correlation: float | None
    signal_variance: float

    @functools.cached_property
    def prediction(self):
        """`theory.predict` for it; None where that has no answer, as for a signal that explodes."""
        return self._predicted(self.surrogate)

    def _predicted(self, surrogate):
        try:
            return theory.predict(
                surrogate,
                self.depth,
                self.weight_variance,
                self.bias_variance,
                self.input_variance,
                input_correlation=self.input_correlation,
            )
        except ValueError:
            return None

    @functools.cached_property
    def critical_weight_variance(self):
        """The weights that keep signal and gradient with the ordinary slope; None where no weights do."""
        try:
            return theory.critical_weight_variance(
                self.surrogate.true(), input_variance=self.input_variance
            )
        except ValueError:
            return None

    @functools.cached_property
    def balanced(self):
        """The surrogate with the scale that keeps the gradient's norm, and its prediction; None where there is none."""
        try:
            pair = theory.balance(
                self.surrogate, self.weight_variance, signal_variance=self.signal_variance
            )
        except ValueError:
            return None
        prediction = self._predicted(pair)
        return None if prediction is None else (pair, prediction)


def plain(layers, batch, rows):
    """The `Stack` of two or more hidden dense layers that the called layers are; None where they are anything else.

    Args:
        layers: a dictionary from name to layer.
        batch, rows: what was measured.
    """
    called = [
        (row, layers[row.layer])
        for row in rows
        if row.signal_mean is not None and row.layer in layers
    ]
    dense = [(row, layer) for row, layer in called if type(layer) is keras.layers.Dense]
    if len(dense) < 3 or len(called) != len(rows) or not all(map(_is_plain, called)):
        return None
    activations = {_activation_after(row, called) for row, _ in dense[:-1]}
    variances = [row.weight_variance for row, _ in dense[:-1] if row.has_kernel]
    if len(activations) != 1 or None in activations or len(variances) < len(dense) - 1:
        return None
    if not np.isfinite(variances).all() or max(variances) > _ALIKE * min(variances):
        return None
    biases = [np.mean(np.square(layer.bias)) for _, layer in dense[:-1] if layer.bias is not None]
    bias = float(np.mean(biases)) if biases else 0.0
    signal = float(
        np.median([row.weight_variance * row.input_power + bias for row, _ in dense[:-1]])
    )
    correlation = None if batch.spread is None else max(-1.0, 1 - batch.spread)
    power = dense[0][0].input_power
    return Stack(
        *activations, len(dense) - 1, float(np.mean(variances)), bias, power, correlation, signal
    )


def _is_plain(item):
    row, layer = item
    is_activation = row.activation is not None and not layer.weights
    return type(layer) is keras.layers.Dense or is_activation or isinstance(layer, _PASSING)


def _activation_after(row, called):
    """The first activation that is not the identity from a dense layer on, before the next one."""
    place = next(number for number, (other, _) in enumerate(called) if other is row)
    for number, (_, layer) in enumerate(called[place:]):
        if number and type(layer) is keras.layers.Dense:
            return None
        activation = activation_of(layer)
        if activation is not None and activation.forward.title != "linear":
            return activation
    return None
