"""Gradient norms in a custom training loop.

For `model.fit` there is `callbacks.GradientNormLogger`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate.checks import integer
from keras_surrogate.recording.buffers import RowBuffer
from keras_surrogate.recording.names import layer_variables, unused
from keras_surrogate.recording.norms import norms, totals
from keras_surrogate.records import Record, Recorded, Series

_Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None
_Variable: TypeAlias = keras.Variable | tf.Variable


class GradientNorms(Recorded):
    """Records gradient norms in a custom training loop.

        norms = GradientNorms(model)

        @tf.function
        def step(x, y):
            ...
            norms.record(zip(gradients, model.trainable_variables))
            optimizer.apply(gradients, model.trainable_variables)

    They are the L2 norms of the gradients that `record` receives. In a replica of a `tf.distribute`
    strategy they are the norms of the sum over the replicas, which Keras's optimizers apply. So
    every replica and every worker records the same. Divide the gradients by any loss scale before.

    The method `record` records a step. The property `recorded` is the `records.Record` of all
    steps, here and in `callbacks.GradientNormLogger`. `to_csv`, `to_npz` and `to_dataframe` are
    methods of that `Record`.

    Args:
        variables_or_model: a built model, whose layers are measured, in the order of its attributes
            if it is a subclass with its own `call`; or variables, each of which is measured by
            itself.
        capacity: the number of steps kept until they are read, an integer of at least 1, default
            1024. Reading waits for the device.

    Attributes:
        recorded: everything recorded, a `records.Record`.
        layer_names: names of the layers, or of the variables.
        steps: numbers of the recorded steps, from 0, shape (steps,).
        norms: gradient norms, shape (steps, layers).
        global_norms: gradient norms over all layers, shape (steps,).
        kind: "raw"; "applied" on several replicas.

    Raises:
        ValueError: there are no variables, as in a model that is not built; a gradient is of
            another variable; a pair begins with its variable; it was not created under the strategy
            that it is used in.
    """

    kind: Literal["raw", "applied"]

    def __init__(
        self,
        variables_or_model: keras.Model | Iterable[_Variable],
        capacity: int | np.integer = 1024,
    ) -> None:
        capacity = integer(capacity, "GradientNorms: capacity")
        self._groups = _groups(variables_or_model)
        self._strategy = tf.distribute.get_strategy()
        self.kind = "applied" if self._strategy.num_replicas_in_sync > 1 else "raw"
        self._known = {id(variable) for group in self._groups.values() for variable in group}
        self._buffer = RowBuffer(1 + len(self._groups), capacity)
        self._series = Series(kind=self.kind)

    def record(self, grads_and_vars: Iterable[tuple[_Gradient, _Variable]]) -> None:
        """Record one step, in graph or in eager mode, on one replica or on each.

        Args:
            grads_and_vars: pairs of a gradient (a tensor, `tf.IndexedSlices`, or None, which is
                left out) and its variable.
        """
        pairs = [
            (gradient, variable) for gradient, variable in grads_and_vars if gradient is not None
        ]
        if any(isinstance(gradient, keras.Variable | tf.Variable) for gradient, _ in pairs):
            raise ValueError(
                "GradientNorms: each pair is a gradient and its variable, in this order, but a "
                "variable came first. Write record(zip(gradients, variables))."
            )
        variables = [variable for _, variable in pairs]
        self._check(variables)
        summed = self._over_replicas([gradient for gradient, _ in pairs])
        squares = tf.square(norms(summed))
        self._buffer.write(tf.sqrt(totals(squares, variables, self._groups)))

    def _check(self, variables: list[_Variable]) -> None:
        if not variables:
            raise ValueError(
                "GradientNorms: there are no gradients. A zip can be used only once: make one for "
                "each use."
            )
        unknown = [variable.name for variable in variables if id(variable) not in self._known]
        if unknown:
            raise ValueError(
                f"GradientNorms was created without these variables: {', '.join(unknown)}. Call "
                "record() with the same variable objects, as in zip(gradients, "
                "model.trainable_variables)."
            )

    def _over_replicas(self, gradients: list[_Gradient]) -> list[_Gradient]:
        """The sums over the replicas."""
        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return gradients
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                "GradientNorms: create it within `with strategy.scope():`, as the model."
            )
        tensors = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    @property
    def recorded(self) -> Record:
        """Everything recorded. Reading it waits for the device."""
        rows = self._buffer.read()
        steps = np.arange(self._buffer.count - len(rows), self._buffer.count)
        if self.kind == "applied":
            # As in the records of the callback, where NaN says that nothing was updated.
            rows = np.where(np.isnan(rows), np.inf, rows)
        if len(rows):
            self._series.append(steps, np.zeros(len(rows), int), rows)
        columns = [f"gradient_norm/{name}" for name in ("global", *self._groups)]
        return self._series.record(columns)


def _groups(variables_or_model: keras.Model | Iterable[_Variable]) -> dict[str, list[_Variable]]:
    """A dictionary from name to variables, as `layer_variables` returns it."""
    if isinstance(variables_or_model, keras.Model):
        groups = layer_variables(variables_or_model)
    else:
        groups = {}
        for variable in variables_or_model:
            # A Keras variable has a path, and a TensorFlow variable a name only.
            name = getattr(variable, "path", variable.name)
            groups[unused(name, groups)] = [variable]
    if not groups:
        raise ValueError(
            "GradientNorms: there are no trainable variables. Build the model before, or call it "
            "once."
        )
    return groups
