"""What the updates are made with: gradients that are accumulated, clipped and reduced across replicas."""

import itertools

import numpy as np
import tensorflow as tf

from keras_surrogate.recording.buffers import local_variable
from keras_surrogate.recording.norms import at_least_float32


class AppliedGradients:
    """Measurements of the gradients that the updates are made with: accumulated, clipped and reduced across replicas.

    Optimizers use them within branches of the graph, which tensors cannot leave; so what is
    measured is stored at once.

    Args:
        model: whose variables are updated.
        quantities: the `GradientQuantity` objects to measure.
    """

    def __init__(self, model, quantities):
        self._model = model
        self._columns = {
            quantity: slice(end - quantity.width, end)
            for quantity, end in _ends(quantities).items()
        }
        self._values, self._count = None, None
        self._seen = {}

    def see(self, gradient, variable):
        """Stores the measurements of one gradient, on the replica whose part of the variable it updates."""
        if self._count != len(self._model.trainable_variables):
            self.allocate()
        tensor = at_least_float32(tf.convert_to_tensor(gradient))
        measured = tf.concat([quantity.measure([tensor]) for quantity in self._columns], axis=1)
        row, replica, owner = self._places[id(variable)]
        self._seen[row] = owner
        _parts(self._values)[replica].scatter_update(tf.IndexedSlices(measured, tf.constant([row])))

    def allocate(self):
        """Makes place for the model's variables, which are built."""
        variables = self._model.trainable_variables
        self._count, self._seen = len(variables), {}
        width = max(columns.stop for columns in self._columns.values())
        self._values = local_variable(np.full((len(variables), width), np.nan))
        self._places = {
            id(part): (row, replica, variable)
            for row, variable in enumerate(variables)
            for replica, part in enumerate(_parts(variable.value))
        }

    def measured(self, quantity):
        """One row a variable, and the variables; NaN where the step updated nothing."""
        seen = self._seen or dict(enumerate(self._model.trainable_variables))
        return tf.gather(self._values[:, self._columns[quantity]], list(seen)), list(seen.values())

    def forget(self):
        """Makes the next step begin with NaN."""
        self._values.assign(tf.fill(self._values.shape, tf.constant(np.nan, tf.float64)))


def _ends(quantities):
    return dict(
        zip(
            quantities, itertools.accumulate(quantity.width for quantity in quantities), strict=True
        )
    )


def _parts(variable):
    """The parts of a variable on the local replicas."""
    return tf.distribute.get_strategy().experimental_local_results(variable)
