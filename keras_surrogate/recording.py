"""A second train function for a model, which also records what is asked for of each step it runs."""

import numpy as np
import tensorflow as tf

from keras_surrogate import gradients, quantities, taps
from keras_surrogate.buffers import RowBuffer


class StepRecorder:
    """A second train function for a compiled model, which also records quantities of each step it runs.

    Args:
        model: a compiled Keras model. Its own `train_function` is left as it was, and nothing stays patched.
        capacity: the number of steps kept until they are read.
        kind: whether gradients are measured as they reach the optimizer, "raw", or as they are used, "applied".
        also: names of further quantities, from `quantities.names()`.
        per: "layer" or "variable", whose gradients are put together.

    Attributes:
        plain: the model's own train function.
        function: the recording one; takes what the plain one takes, and trains the same.
        columns: names of the recorded columns; empty until the first step is traced.
        logged: for each column whether it goes into Keras's logs.
        last: for each column whether an epoch's value is that of its last step, and not the mean.
        saw_gradients: whether the traced step handed any gradients to an optimizer.
    """

    def __init__(self, model, capacity, kind="raw", also=(), per="layer"):
        model.make_train_function()
        self.plain = model.train_function
        self.columns, self.logged, self.last = [], np.empty(0, bool), np.empty(0, bool)
        self.saw_gradients = False
        self._model, self._capacity = model, capacity
        self._groups = {"layer": gradients.layer_variables, "variable": gradients.variables_by_name}[per]
        self.quantities = [quantities.GradientNorm(), *(new() for name in also for new in quantities.COLLECTION[name])]
        if any(quantities.clips(optimizer) for optimizer in taps.optimizers_of(model)):
            self.quantities.append(quantities.GradientClipped())
        self._tap(kind)
        self._layout = None
        if all(layer.built for layer in gradients.layers_by_name(model).values()):
            # Variables made while a step is traced would have it traced twice, and by each replica.
            with model.distribute_strategy.scope():
                self._allocate()
                if self._applied:
                    self._applied.allocate()
        self.function = self._make_function(model)

    def _tap(self, kind):
        of_gradients = [one for one in self.quantities if isinstance(one, quantities.GradientQuantity)]
        self._applied = taps.AppliedGradients(self._model, of_gradients) if kind == "applied" else None
        self._layers = gradients.layers_by_name(self._model) if any(one.outputs for one in self.quantities) else {}
        self._taps = taps.Taps(
            self._model,
            layers=self._layers.values(),
            deltas=any(one.deltas for one in self.quantities),
            weights=any(one.weights for one in self.quantities),
            applied=self._applied,
        )

    def _make_function(self, model):
        vars(model)["train_step"] = self._recording(model.train_step)
        try:
            model.make_train_function(force=True)
            return model.train_function
        finally:
            del vars(model)["train_step"]
            model.train_function = self.plain

    def _recording(self, train_step):
        def recording_step(data):
            with self._taps.step() as step:
                outputs = train_step(data)
            if self._layout is None or not self._layout.is_of(self._model.trainable_variables):
                self._allocate()
            self._write(step)
            return outputs

        return recording_step

    def _allocate(self):
        """Done before the first step is traced, or, of a model that is not built yet, in the course of it."""
        self._layout = quantities.Layout(self._groups(self._model), self._layers)
        columns = [(quantity, column) for quantity in self.quantities for column in quantity.columns(self._layout)]
        self.columns = [column for _, column in columns]
        self.logged = np.array([quantity.logged for quantity, _ in columns])
        self.last = np.array([quantity.last for quantity, _ in columns])
        self._buffer = RowBuffer(len(columns), self._capacity)

    def _write(self, step):
        """One row; NaN where the step applied no gradients at all."""
        self.saw_gradients = bool(step.gradients)
        if not step.gradients:
            return self._buffer.write(tf.fill([len(self.columns)], tf.constant(np.nan, tf.float64)))
        row = tf.concat([quantity.values(step, self._layout) for quantity in self.quantities], axis=0)
        self._buffer.write(row)
        if self._applied:
            self._applied.forget()

    def begin_epoch(self):
        for quantity in self.quantities:
            quantity.begin_epoch()

    def read(self):
        """The rows recorded since the last call, shape (steps, columns)."""
        return self._buffer.read() if self._layout else np.empty((0, 0))
