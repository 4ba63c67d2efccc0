"""A second train function for a model, which also records the quantities of each step.

The order of events:

1.  `StepRecorder(model, settings)` taps the optimizers and layers, and lets Keras make a train
    function from a wrapped `train_step`. Nothing runs yet. For a built model the buffer is created.
2.  TensorFlow traces the step at the first batch. The taps show gradients and outputs as tensors of
    the graph, `quantities` makes a row of them, and the row's write becomes a part of the graph. An
    unbuilt model has its variables only now, so the buffer is created while the step is traced.
3.  The first trace also tells in which order the layers are called, and the columns are put into
    this order. Later traces, for another shape of the batch, keep it.
4.  At every further batch only the graph runs. `read` takes the rows out of the buffer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import weakref
from collections.abc import Callable
from typing import Any, Literal, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import methods
from keras_surrogate.recording import names, quantities, taps
from keras_surrogate.recording.applied import AppliedGradients
from keras_surrogate.recording.buffers import RowBuffer
from keras_surrogate.recording.optimizers import optimizers_of
from keras_surrogate.recording.rehearsal import Rehearsals

# The attribute of a model's own train function that holds its recorders, by their settings.
_RECORDERS = "_keras_surrogate_recorders"


class Reader(Protocol):
    """An object that reads the rows of a recorder."""

    def read(self) -> None:
        """Read the rows that were recorded since the last call."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything besides the model on which the recorded step depends.

    Attributes:
        capacity: the number of steps kept until they are read.
        kind: "raw", the default: gradients as they reach the optimizer; or "applied": gradients
            that the updates are made with.
        also: names of further quantities, from `quantities.names()`; default none.
        per: "layer", the default, or "variable": the owner of each number.
        depth: the number of levels of layers that hold layers, as in `names.layer_variables`;
            default 1.
        alignment_every: the steps whose number is a multiple of it are rehearsed; default None, if
            no quantity needs rehearsals.
        stride: the difference between the numbers of two recorded steps, default 1; it matters for
            rehearsals only.
    """

    capacity: int
    kind: Literal["raw", "applied"] = "raw"
    also: tuple[str, ...] = ()
    per: Literal["layer", "variable"] = "layer"
    depth: int = 1
    alignment_every: int | None = None
    stride: int = 1


def find(model: keras.Model, settings: Settings) -> StepRecorder | None:
    """The recorder that a model already has for some settings, or None.

    Recorders are attributes of the model's own train function, and live as long as it does: Keras
    makes a new one after each `compile`. The model and they hold each other, so a model that is
    deleted takes them along; a dictionary elsewhere would hold both for ever.
    """
    recorders = getattr(model.train_function, _RECORDERS, {})
    outdated = [key for key, recorder in recorders.items() if not recorder.is_of(model)]
    for key in outdated:
        del recorders[key]
    return recorders.get(settings)


def create(model: keras.Model, settings: Settings) -> StepRecorder:
    """A new recorder for a compiled model, which `find` finds from now on."""
    recorder = StepRecorder(model, settings)
    recorders = getattr(recorder.plain, _RECORDERS, {})
    recorders[settings] = recorder
    # A method takes no attribute. A model with its own `make_train_function` may have one, and then
    # nothing is reused.
    with contextlib.suppress(AttributeError):
        setattr(recorder.plain, _RECORDERS, recorders)
    return recorder


class StepRecorder:
    """A second train function for a compiled model, which also records quantities of each step.

    The columns are in the order in which the layers are called. This order is known after the first
    step has been traced.

    Args:
        model: a compiled Keras model. Its own `train_function` is unchanged, and no method stays
            wrapped.
        settings: the `Settings`.

    Attributes:
        plain: the model's own train function.
        function: the recording train function. It takes the same argument, and trains the same.
        columns: names of the recorded columns; empty until the model is built.
        logged: for each column whether Keras's logs contain it.
        last: for each column whether its value for an epoch is that of the last step, instead of
            the mean.
        quantities: the recorded quantities.
        saw_gradients: whether the traced step passed any gradients to an optimizer; None before a
            step is traced.
    """

    plain: Callable[..., Any]
    function: Callable[..., Any]
    columns: list[str]
    logged: np.ndarray
    last: np.ndarray
    saw_gradients: bool | None

    def __init__(self, model: keras.Model, settings: Settings) -> None:
        model.make_train_function()
        self.plain = model.train_function
        self.columns = []
        self.logged = np.empty(0, bool)
        self.last = np.empty(0, bool)
        self.saw_gradients = None
        self._model = model
        self._settings = settings
        self._reader: Callable[[], Reader | None] = _nobody
        self._parts = []
        further = [new() for name in settings.also for new in quantities.COLLECTION[name]]
        self.quantities: list[quantities.Quantity] = [
            quantities.GradientNorm(bool(model.jit_compile)),
            *further,
        ]
        if any(quantities.clips(optimizer) for optimizer in optimizers_of(model)):
            self.quantities.append(quantities.GradientClipped())
        self._observes = any(one.outputs for one in self.quantities)
        self._rehearsals: Rehearsals | None = None
        if settings.alignment_every is not None:
            self._rehearsals = Rehearsals(model, settings.alignment_every, settings.stride)
        self._layout: quantities.Layout | None = None
        # Ids of the layers in the order of their calls; empty until the first step is traced.
        self._calls: list[int] = []
        self._tap()
        if all(layer.built for layer in names.layers_by_name(model).values()):
            # If variables were created while a step is traced, it would be traced twice, and by
            # each replica.
            with model.distribute_strategy.scope():
                self._allocate()
                if self._applied:
                    self._applied.allocate()
        self.function = self._make_function(model)

    def is_of(self, model: keras.Model) -> bool:
        """True for the recorder's model, while it has the parts that the step was traced with.

        These are its trainable variables, its layers and its optimizers.
        """
        if model is not self._model:
            return False
        if self._layout is None:
            return True
        now = _parts(model)
        return len(now) == len(self._parts) and all(map(operator.is_, now, self._parts))

    def begin(self, reader: Reader) -> None:
        """Give the rows from now on to a reader.

        The reader before it, whose `fit` may have been interrupted, first reads what is left.
        """
        before = self._reader()
        if before is not None and before is not reader:
            before.read()
        self.read()
        self._reader = weakref.ref(reader)
        for quantity in self.quantities:
            quantity.begin_fit()

    def is_read_by(self, reader: Reader) -> bool:
        """True for the reader that was given to the last `begin`."""
        return self._reader() is reader

    def _tap(self) -> None:
        self._applied: AppliedGradients | None = None
        if self._settings.kind == "applied":
            of_gradients = [
                one for one in self.quantities if isinstance(one, quantities.GradientQuantity)
            ]
            self._applied = AppliedGradients(self._model, of_gradients)
        # Variables are in the order of their own layers' calls, at every depth.
        depth_of_calls = self._settings.depth
        if self._settings.per == "variable":
            depth_of_calls = names.EVERY_DEPTH
        self._taps = taps.Taps(
            self._model,
            layers=names.layers_within(self._model, depth_of_calls),
            observed=self._observed().values(),
            deltas=any(one.deltas for one in self.quantities),
            input_deltas=any(one.input_deltas for one in self.quantities),
            weights=any(one.weights for one in self.quantities),
            applied=self._applied,
        )

    def _observed(self) -> dict[str, keras.layers.Layer]:
        """The layers whose outputs are measured, by name."""
        if not self._observes:
            return {}
        return names.layers_by_name(self._model, self._settings.depth, self._calls)

    def _make_function(self, model: keras.Model) -> Callable[..., Any]:
        with methods.replaced([model], "train_step", self._recording):
            try:
                model.make_train_function(force=True)
                return model.train_function
            finally:
                model.train_function = self.plain

    def _recording(self, model: keras.Model, train_step: Callable[..., Any]) -> Callable[..., Any]:
        def recording_step(data):
            # Before the step, which changes the weights.
            rehearsed = None
            if self._rehearsals is not None:
                rehearsed = self._rehearsals.products(train_step, data)
            with self._taps.step() as step:
                outputs = train_step(data)
            if rehearsed is not None:
                step.rehearsed = rehearsed
                step.rehearsed_variables = list(map(id, self._model.trainable_variables))
            # This code runs while the step is traced; only what it adds to the graph runs later.
            if self._layout is None or not self._layout.is_of(self._model.trainable_variables):
                self._allocate()
            if step.calls and not self._calls:
                self._calls = list(step.calls)
                self._lay_out()
                self._taps.note_no_more_calls()
            self._write(step)
            return outputs

        return recording_step

    def _allocate(self) -> None:
        """Create the columns and the buffer.

        It is called before the first step is traced. If the model is not built yet, it is called
        while that step is traced.
        """
        self._lay_out()
        self._buffer = RowBuffer(len(self.columns), self._settings.capacity)

    def _lay_out(self) -> None:
        """Order the columns.

        Their number, and so the size of the buffer, does not depend on the order of calls.
        """
        if self._settings.per == "variable":
            groups = names.variables_by_path(self._model, self._calls)
        else:
            groups = names.layer_variables(self._model, self._settings.depth, self._calls)
        self._layout = quantities.Layout(groups, self._observed())
        self._parts = _parts(self._model)
        columns = [
            (quantity, column)
            for quantity in self.quantities
            for column in quantity.columns(self._layout)
        ]
        self.columns = [column for _, column in columns]
        self.logged = np.array([quantity.logged for quantity, _ in columns])
        self.last = np.array([quantity.last for quantity, _ in columns])

    def _write(self, step: taps.TracedStep) -> None:
        """Write the row of a step. It is NaN if the step applied no gradients."""
        self.saw_gradients = bool(step.gradients)
        if not step.gradients:
            self._buffer.write(tf.fill([len(self.columns)], tf.constant(np.nan, tf.float64)))
            return
        row = tf.concat(
            [quantity.values(step, self._layout) for quantity in self.quantities], axis=0
        )
        self._buffer.write(row)
        if self._applied:
            self._applied.forget()

    def start_at(self, step: int) -> None:
        """Set the number of the next recorded step, on which the sampled steps depend."""
        if self._rehearsals is not None:
            self._rehearsals.start_at(step)

    def begin_epoch(self) -> None:
        """Reset the quantities' state at the start of an epoch."""
        for quantity in self.quantities:
            quantity.begin_epoch()

    def read(self) -> np.ndarray:
        """The rows recorded since the last call, shape (steps, columns).

        It waits for the device.
        """
        return self._buffer.read() if self._layout else np.empty((0, 0))


def _nobody() -> None:
    """A reference to no reader."""


def _parts(model: keras.Model) -> list[object]:
    """The objects whose replacement changes a model's train step."""
    return [*model.trainable_variables, *model.layers, *optimizers_of(model)]
