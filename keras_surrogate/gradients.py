"""The record of gradient norms for a training loop of one's own.

For `model.fit` there is `callbacks.GradientNormLogger`.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.recording.buffers import RowBuffer
from keras_surrogate.recording.names import layer_variables, unused
from keras_surrogate.recording.norms import norms, totals
from keras_surrogate.records import Recorded, Series


class GradientNorms(Recorded):
    """Records gradient norms in a training loop of one's own.

        norms = GradientNorms(model)

        @tf.function
        def step(x, y):
            ...
            norms.record(zip(gradients, model.trainable_variables))
            optimizer.apply(gradients, model.trainable_variables)

    They are L2 norms of the gradients as they are given. In a replica of a `tf.distribute` strategy
    they are those of the replicas' sum, which is what Keras's optimizers apply; so every replica
    and every worker records the same. Free them of a loss scale before.

    Args:
        variables_or_model: a built model, whose layers are measured, in the order of its attributes
            where it has a call of its own; or variables, each of which is measured by itself.
        capacity: the steps kept until they are read, default 1024. Reading waits for the device.

    Attributes:
        recorded: everything recorded, as a `records.Record`.
        layer_names: the names of the layers, or of the variables.
        steps: the numbers of the recorded steps, counted from 0, shape (steps,).
        norms: shape (steps, layers).
        global_norms: over all layers, shape (steps,).
        kind: "raw"; "applied" where there are several replicas.

    `to_csv`, `to_npz` and `to_dataframe` are those of the `Record`. `record` is a method here, and
    not the `Record` as in `callbacks.GradientNormLogger`; `recorded` is it in both.

    Raises:
        ValueError: there are no variables, as in a model that is not built; a gradient of another
            variable; gradients and variables turned round; it was not made under the strategy that
            it is used in.
    """

    def __init__(self, variables_or_model, capacity=1024):
        self._groups = _groups(variables_or_model)
        self.kind = "applied" if tf.distribute.get_strategy().num_replicas_in_sync > 1 else "raw"
        self._known = {id(variable) for group in self._groups.values() for variable in group}
        self._strategy = tf.distribute.get_strategy()
        self._buffer = RowBuffer(1 + len(self._groups), capacity)
        self._series = Series()

    def record(self, grads_and_vars):
        """Records one step, in graph or in eager mode, on one replica or on each.

        Args:
            grads_and_vars: pairs of a gradient (a tensor, `tf.IndexedSlices`, or None, which is
                left out) and its variable.
        """
        pairs = [
            (gradient, variable) for gradient, variable in grads_and_vars if gradient is not None
        ]
        if any(isinstance(gradient, keras.Variable | tf.Variable) for gradient, _ in pairs):
            raise ValueError(
                "GradientNorms: each pair is a gradient and its variable, in this order, but a variable came first: "
                "record(zip(gradients, variables))."
            )
        self._check([variable for _, variable in pairs])
        tensors, variables = zip(*pairs, strict=True)
        squares = tf.square(norms(self._over_replicas(map(tf.convert_to_tensor, tensors))))
        self._buffer.write(tf.sqrt(totals(squares, variables, self._groups)))

    def _check(self, variables):
        if not variables:
            raise ValueError(
                "GradientNorms: there are no gradients. A zip can be used only once: make one for each use."
            )
        unknown = [variable.name for variable in variables if id(variable) not in self._known]
        if unknown:
            raise ValueError(
                f"GradientNorms: no such variables were given to it: {', '.join(unknown)}. Give record() the variables "
                "themselves, as in zip(gradients, model.trainable_variables)."
            )

    def _over_replicas(self, tensors):
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return list(tensors)
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                "GradientNorms: make it within `with strategy.scope():`, as the model."
            )
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))

    @property
    def recorded(self):
        rows = self._buffer.read()
        steps = np.arange(self._buffer.count - len(rows), self._buffer.count)
        if len(rows):
            self._series.append(steps, np.zeros(len(rows), int), rows)
        return self._series.record(
            [f"gradient_norm/{name}" for name in ("global", *self._groups)], self.kind
        )


def _groups(variables_or_model):
    """Names and variables, as `layer_variables` gives them."""
    if isinstance(variables_or_model, keras.Model):
        groups = layer_variables(variables_or_model)
    else:
        groups = {}
        for variable in variables_or_model:
            groups[unused(getattr(variable, "path", variable.name), groups)] = [variable]
    if not groups:
        raise ValueError(
            "GradientNorms: there are no trainable variables. Build the model before, or call it once."
        )
    return groups
