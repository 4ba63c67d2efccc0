"""Gradients that the updates are made with: accumulated, clipped and reduced across replicas."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import at_least_float32, nonzero_rows

if TYPE_CHECKING:
    from keras_surrogate.recording.quantities import GradientQuantity


class AppliedGradients:
    """Measurements of the gradients that the updates are made with.

    Optimizers use these gradients within branches of the graph. Tensors cannot leave a branch, so
    the measurements are stored in a variable.

    Args:
        model: the model whose variables are updated.
        quantities: the `GradientQuantity` objects to measure.
    """

    def __init__(self, model: keras.Model, quantities: Sequence[GradientQuantity]) -> None:
        self._model = model
        ends = itertools.accumulate(quantity.width for quantity in quantities)
        self._columns = {
            quantity: slice(end - quantity.width, end)
            for quantity, end in zip(quantities, ends, strict=True)
        }
        self._values: tf.Variable | None = None
        self._count: int | None = None
        # The variable of each row that the step has written.
        self._seen: dict[int, keras.Variable] = {}

    def see(self, gradient: tf.Tensor | tf.IndexedSlices, variable: keras.Variable) -> None:
        """Store the measurements of one gradient.

        They are stored on the replica whose copy of the variable is updated.
        """
        if self._count != len(self._model.trainable_variables):
            self.allocate()
        if id(variable) not in self._places:
            self._warn_of(variable)
            return
        tensor = at_least_float32(nonzero_rows(gradient))
        measured = tf.concat([quantity.measure([tensor]) for quantity in self._columns], axis=1)
        # NaN means that nothing was updated. A gradient of NaN is stored as infinite.
        measured = tf.where(tf.math.is_nan(measured), tf.constant(np.inf, tf.float64), measured)
        row, replica, owner = self._places[id(variable)]
        self._seen[row] = owner
        _parts(self._values)[replica].scatter_update(tf.IndexedSlices(measured, tf.constant([row])))

    def allocate(self) -> None:
        """Create the storage for the model's variables, which must be built."""
        variables = self._model.trainable_variables
        self._count = len(variables)
        self._seen = {}
        width = max(columns.stop for columns in self._columns.values())
        self._values = local_variable(np.full((len(variables), width), np.nan))
        self._places = {
            id(part): (row, replica, variable)
            for row, variable in enumerate(variables)
            for replica, part in enumerate(_parts(variable.value))
        }

    def measured(self, quantity: GradientQuantity) -> tuple[tf.Tensor, list[keras.Variable]]:
        """The measurements of a quantity, one row for each variable, and the variables.

        NaN where the step updated nothing, and infinite where a gradient was NaN.
        """
        places = list(self._seen or range(self._count))
        return tf.gather(self._values[:, self._columns[quantity]], places), self.seen()

    def seen(self) -> list[keras.Variable]:
        """The variables that the step updates."""
        return list(self._seen.values()) or list(self._model.trainable_variables)

    def _warn_of(self, variable: keras.Variable) -> None:
        warnings.warn(
            f"GradientNormLogger: {variable.name} is updated and is not among the trainable "
            f'variables of {self._model.name}. With kind="applied" its gradient is not recorded, '
            "and the global norm is without it.",
            stacklevel=2,
        )

    def forget(self) -> None:
        """Reset the storage to NaN for the next step."""
        self._values.assign(tf.fill(self._values.shape, tf.constant(np.nan, tf.float64)))


def _parts(variable: tf.Variable) -> Sequence[tf.Variable]:
    """The copies of a variable on the local replicas."""
    return tf.distribute.get_strategy().experimental_local_results(variable)
