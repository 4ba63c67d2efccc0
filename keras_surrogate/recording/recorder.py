"""A second train function for a model, which also records what is asked for of each step it runs."""

import numpy as np
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.recording import names, quantities, taps
from keras_surrogate.recording.applied import AppliedGradients
from keras_surrogate.recording.buffers import RowBuffer
from keras_surrogate.recording.optimizers import optimizers_of


class StepRecorder:
    """A second train function for a compiled model, which also records quantities of each step it runs.

    The columns stand in the order in which the layers are called. It is known when the first step
    has been traced.

    Args:
        model: a compiled Keras model. Its own `train_function` is left as it was, and nothing stays
            patched.
        capacity: the number of steps kept until they are read.
        kind: whether gradients are measured as they reach the optimizer, "raw", or as they are
            used, "applied".
        also: names of further quantities, from `quantities.names()`.
        per: "layer" or "variable", whose gradients are put together.
        depth: how far to look into layers that hold layers, as in `names.layer_variables`.

    Attributes:
        plain: the model's own train function.
        function: the recording one; takes what the plain one takes, and trains the same.
        columns: names of the recorded columns; empty until the first step is traced.
        logged: for each column whether it goes into Keras's logs.
        last: for each column whether an epoch's value is that of its last step, and not the mean.
        saw_gradients: whether the traced step handed any gradients to an optimizer.
    """

    def __init__(self, model, capacity, kind="raw", also=(), per="layer", depth=1):
        model.make_train_function()
        self.plain = model.train_function
        self.columns = []
        self.logged = np.empty(0, bool)
        self.last = np.empty(0, bool)
        self.saw_gradients = False
        self._model = model
        self._capacity = capacity
        self._depth = depth
        self._depth_of_calls = names.EVERY_DEPTH if per == "variable" else depth
        self._variables_of = {"layer": names.layer_variables, "variable": names.variables_by_path}[
            per
        ]
        self.quantities = [
            quantities.GradientNorm(),
            *(new() for name in also for new in quantities.COLLECTION[name]),
        ]
        if any(quantities.clips(optimizer) for optimizer in optimizers_of(model)):
            self.quantities.append(quantities.GradientClipped())
        self._observes = any(one.outputs for one in self.quantities)
        self._layout = None
        self._calls = []
        self._tap(kind)
        if all(layer.built for layer in names.layers_by_name(model).values()):
            # Variables made while a step is traced would have it traced twice, and by each replica.
            with model.distribute_strategy.scope():
                self._allocate()
                if self._applied:
                    self._applied.allocate()
        self.function = self._make_function(model)

    def _tap(self, kind):
        of_gradients = [
            one for one in self.quantities if isinstance(one, quantities.GradientQuantity)
        ]
        self._applied = AppliedGradients(self._model, of_gradients) if kind == "applied" else None
        self._taps = taps.Taps(
            self._model,
            layers=names.layers_within(self._model, self._depth_of_calls),
            observed=self._observed().values(),
            deltas=any(one.deltas for one in self.quantities),
            weights=any(one.weights for one in self.quantities),
            applied=self._applied,
        )

    def _observed(self):
        """The layers whose outputs are measured, by name."""
        return names.layers_by_name(self._model, self._depth, self._calls) if self._observes else {}

    def _make_function(self, model):
        with methods.replaced([model], "train_step", self._recording):
            try:
                model.make_train_function(force=True)
                return model.train_function
            finally:
                model.train_function = self.plain

    def _recording(self, model, train_step):
        def recording_step(data):
            with self._taps.step() as step:
                outputs = train_step(data)
            if self._layout is None or not self._layout.is_of(self._model.trainable_variables):
                self._allocate()
            if step.calls and not self._calls:
                self._calls = list(step.calls)
                self._lay_out()
                self._taps.note_no_more_calls()
            self._write(step)
            return outputs

        return recording_step

    def _allocate(self):
        """Done before the first step is traced, or, of a model that is not built yet, in the course of it."""
        self._lay_out()
        self._buffer = RowBuffer(len(self.columns), self._capacity)

    def _lay_out(self):
        """Gives each column its place. Their number, and so the buffer, does not depend on the order of calls."""
        groups = self._variables_of(self._model, self._depth, self._calls)
        self._layout = quantities.Layout(groups, self._observed())
        columns = [
            (quantity, column)
            for quantity in self.quantities
            for column in quantity.columns(self._layout)
        ]
        self.columns = [column for _, column in columns]
        self.logged = np.array([quantity.logged for quantity, _ in columns])
        self.last = np.array([quantity.last for quantity, _ in columns])

    def _write(self, step):
        """One row; NaN where the step applied no gradients at all."""
        self.saw_gradients = bool(step.gradients)
        if not step.gradients:
            return self._buffer.write(tf.fill([len(self.columns)], tf.constant(np.nan, tf.float64)))
        row = tf.concat(
            [quantity.values(step, self._layout) for quantity in self.quantities], axis=0
        )
        self._buffer.write(row)
        if self._applied:
            self._applied.forget()

    def begin_epoch(self):
        for quantity in self.quantities:
            quantity.begin_epoch()

    def read(self):
        """The rows recorded since the last call, shape (steps, columns)."""
        return self._buffer.read() if self._layout else np.empty((0, 0))
