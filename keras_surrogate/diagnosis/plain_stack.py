"""The plain stack that a model is, if it is one: dense layers of one activation in sequence.

The theory is about such networks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_surrogate import theory
from keras_surrogate.activations import activation_of
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.batches import Batch
    from keras_surrogate.diagnosis.layer_table import Row

_PASSING = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout, keras.layers.Identity)
# Layers whose weight variances differ by more than this factor are not one stack.
_ALIKE = 3.0


@dataclasses.dataclass(frozen=True)
class Stack:
    """The hidden layers of a plain network, in the theory's terms.

    Attributes:
        surrogate: the activation.
        depth: the number of hidden layers.
        weight_variance: fan_in * mean(weight**2), mean over the layers.
        bias_variance: mean(bias**2), mean over the layers.
        input_variance: mean square of the inputs of the first layer.
        input_correlation: mean cosine of two inputs, or None.
        signal_variance: variance of the pre-activations, median over the layers.
    """

    surrogate: Surrogate
    depth: int
    weight_variance: float
    bias_variance: float
    input_variance: float
    input_correlation: float | None
    signal_variance: float

    @functools.cached_property
    def prediction(self) -> theory.Prediction | None:
        """The result of `theory.predict`; None where it has none, as for a signal that explodes."""
        return self._predicted(self.surrogate)

    def _predicted(self, surrogate: Surrogate) -> theory.Prediction | None:
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
    def critical_weight_variance(self) -> float | None:
        """The weight variance that keeps signal and gradient with the true slope, or None."""
        try:
            return theory.critical_weight_variance(
                self.surrogate.true(), input_variance=self.input_variance
            )
        except ValueError:
            return None

    @functools.cached_property
    def balanced(self) -> tuple[Surrogate, theory.Prediction] | None:
        """The surrogate with the scale that keeps the gradient's norm, and its prediction."""
        try:
            pair = theory.balance(
                self.surrogate, self.weight_variance, signal_variance=self.signal_variance
            )
        except ValueError:
            return None
        prediction = self._predicted(pair)
        return None if prediction is None else (pair, prediction)


def plain(
    layers: Mapping[str, keras.layers.Layer], batch: Batch, rows: Sequence[Row]
) -> Stack | None:
    """The plain stack of at least two hidden dense layers, or None for any other model.

    Args:
        layers: the layers, by name.
        batch: the numbers of the batch.
        rows: the table.
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
    squares = [np.mean(np.square(layer.bias)) for _, layer in dense[:-1] if layer.bias is not None]
    bias = float(np.mean(squares)) if squares else 0.0
    # sigma_w**2 * mean(x**2) + sigma_b**2, the theory's variance of a pre-activation.
    signals = [row.weight_variance * row.input_power + bias for row, _ in dense[:-1]]
    # 1 minus the mean cosine of two inputs is their spread, if all have one norm.
    correlation = None if batch.spread is None else max(-1.0, 1 - batch.spread)
    return Stack(
        surrogate=activations.pop(),
        depth=len(dense) - 1,
        weight_variance=float(np.mean(variances)),
        bias_variance=bias,
        input_variance=dense[0][0].input_power,
        input_correlation=correlation,
        signal_variance=float(np.median(signals)),
    )


def _is_plain(item):
    row, layer = item
    is_activation = row.activation is not None and not layer.weights
    return type(layer) is keras.layers.Dense or is_activation or isinstance(layer, _PASSING)


def _activation_after(row, called):
    """The first activation that is not linear, from a dense layer to the next one, or None."""
    place = next(number for number, (other, _) in enumerate(called) if other is row)
    for number, (_, layer) in enumerate(called[place:]):
        if number and type(layer) is keras.layers.Dense:
            return None
        activation = activation_of(layer)
        if activation is not None and activation.forward.title != "linear":
            return activation
    return None
