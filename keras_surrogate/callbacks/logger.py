"""`GradientNormLogger`: when to measure, which quantities, and where to write them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np

from keras_surrogate import records
from keras_surrogate.callbacks.base import Callback
from keras_surrogate.callbacks.csv_file import CsvFile
from keras_surrogate.callbacks.paths import check_path, resolved
from keras_surrogate.callbacks.progress_bar import ShortBar
from keras_surrogate.callbacks.summaries import SummaryWriter, check_log_dir
from keras_surrogate.checks import integer, one_of
from keras_surrogate.recording import quantities, recorder
from keras_surrogate.recording.optimizers import (
    changed_since_built,
    counting,
    innermost,
    iterations,
)

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike
    from keras_surrogate.callbacks.listening import Listener

_GLOBAL = "gradient_norm/global"
# Two further passes in every 200th step take 1 to 3 % of the time, the most under XLA.
_LEAST_SAMPLED = 200


class GradientNormLogger(records.Recorded, Callback):
    """Records the gradient norm of every layer, as the training step itself computes it.

    There is no second backward pass and no subclass of the model, and the loss may be any (only
    "alignment" has further passes, in the steps that it is sampled at). It works
    for every compiled model, with `jit_compile`, `run_eagerly` and `steps_per_execution` on or off.

    At the end of each epoch Keras's `logs` receive

        "gradient_norm/<layer>"             the mean over the recorded steps in which it is finite
        "gradient_norm/global"              the same for all layers together
        "gradient_norm/nonfinite_steps"     the number of recorded steps with NaN or infinity

    So `History` has them, and `CSVLogger`, `TensorBoard` and `EarlyStopping` receive them if they
    come after this callback in the list. Keras's progress bar prints the global norm only.

    Steps have the optimizer's numbers. A new model begins at 0. A second `fit`, or a training that
    is resumed from a file or by `keras.callbacks.BackupAndRestore`, continues at the optimizer's
    number. Epochs have Keras's numbers: give `fit` an `initial_epoch`, as for Keras's callbacks.

    If an optimizer clips, "gradient_clipped/global" is 1 in the steps in which the clipping changed
    a gradient. A new `fit` starts a new `Record`. After an interruption the `Record` has all
    completed steps.

    Args:
        every: record the steps whose number is a multiple of it; an integer of at least 1, default
            1. Steps in between run the model's own train function and cost nothing. With
            `steps_per_execution` above 1 every step is measured, and the steps in between are
            dropped. Above 1, operations such as `tf.random.normal` draw other numbers than without
            the logger, because TensorFlow keeps a state of each for both train functions; Keras's
            random layers and `keras.random` with a `SeedGenerator` draw the same.
        kind: "raw", the gradients that reach the optimizer, without any loss scale and before
            clipping, with each micro-step of gradient accumulation by itself; or "applied", the
            gradients that the updates are made with, after accumulation, clipping and the reduction
            across replicas (NaN in a step that updates nothing, infinite where a gradient is NaN).
            Default None: "applied" on several replicas, whose raw gradients are local to each,
            otherwise "raw".
        also: further quantities, a name or several; each has a cost. Default none. Their formulas
            are in the docstrings of their classes in `recording`.
            "norm_1", "norm_inf", "mean_absolute": other norms of the gradient.
            "histogram": numbers of gradient elements in each power of ten.
            "update_ratio": norm of the weights' change over norm of the weights.
            "activations": mean, variance, share of zeros and of saturated elements of each layer's
            output, and the share of units that have been 0 since the epoch began.
            "delta_norm": norm of the gradient with respect to each layer's output.
            "dormant": share of units whose outputs are 40 times smaller than the mean of the layer,
            and a histogram of these sizes over the epoch, whose first bin are dead units.
            "effective_rank": number of directions in which the outputs for the first 64 examples
            differ, of each layer.
            "weight_growth": norm of the weights, and this over that of the first recorded step.
            "flips": share of the weights of `SurrogateWeights` whose level changed in the step.
            "levels": share of its weights on each level and on the commonest one, and share of
            output channels that are all 0.
            "alignment": cosine of the gradient with the true one, or with that of the smooth
            network (`keras_surrogate.smooth_forward`) where a true slope is 0 everywhere. It runs
            the model's own train step twice more without its update, in the steps that
            `alignment_every` samples; in the others it is NaN. On one replica only. The train
            step must draw random numbers from Keras's seed generators, and must not depend on
            Python state that it changes.
            "spikes": of each spiking layer the firing rate and the shares of units that never fire,
            and that fire in every time step, in the batch.
            "slopes": share of its neurons and time steps whose slope is not negligible.
            "time": norm of the gradient of its currents in the first, middle and last time step.
        per: "layer", the default: all variables of a layer together; or "variable": each variable
            by itself, under its path in Keras, such as "encoder/dense/kernel".
        depth: the number of levels of layers that hold layers, such as the blocks of a transformer;
            an integer of at least 1, default 1: such a layer is one entry. With 2 its layers are
            entries too, "block/dense", and the block's own variables have the block's name.
        alignment_every: the steps whose number is a multiple of it have an "alignment"; a multiple
            of `every`. Default None: the smallest multiple of `every` that is at least 200, with
            which it takes less than 5 % of the training time.
        batch_logs: whether `logs` also receive the numbers of each recorded step after its batch.
            Default False, because each reading waits for the device.
        path: a CSV file that grows during training; default none. If the process is killed, the
            file lacks only the last steps. `records.load` reads it. "{trial}" in the path, such as
            "run-{trial}.csv", stands for the first number, counted from 0, for which no file exists
            when `fit` begins; this suits tuners. It may be a function from the model to a path.
        append: whether to continue an existing file. None, the default: continue it if training
            continues (the optimizer has made steps before) and the columns are the same; otherwise
            rename it to "<name>.old.csv", "<name>.old-1.csv" and so on, with a warning, and begin a
            new file. True: always continue it; the steps of a new model get the numbers after the
            file's last step. False: overwrite it.
        log_dir: a folder for TensorBoard; default none. Tags are "<layer>/<quantity>". It needs the
            tensorboard package.
        read_every: recorded steps between two readings, an integer of at least 1, default 64. Each
            reading waits for the device.
        keep: the number of recorded steps to keep in memory, the newest, an integer of at least 1;
            default None, all of them (8 bytes a number).

    Attributes:
        every: the argument.
        record: everything recorded in the last `fit`, a `records.Record`. Its `to_csv`, `to_npz`
            and `to_dataframe` are methods of the logger too.
        recorded: another name for `record`.
        layer_names: names of the layers with trainable weights, in the order of their calls;
            "encoder/dense" in nested models.
        steps: numbers of the recorded steps, shape (recorded steps,).
        norms: gradient norms, shape (recorded steps, layers).
        global_norms: gradient norms over all layers, shape (recorded steps,).
        kind: "raw" or "applied"; the argument until `fit` begins.
        file: path of the CSV file; None before `fit` begins and without `path`.

    Raises:
        ValueError: an argument is out of its range; a file cannot be written; the model is not
            compiled; raw gradients on several replicas; two loggers on one model.
        ImportError: `log_dir` without the tensorboard package.
    """

    every: int
    kind: Literal["raw", "applied"] | None
    file: Path | None

    # Attributes that are not copied: the traced step, open files, and the listeners of this fit.
    _of_the_fit: ClassVar[Mapping[str, object]] = MappingProxyType(
        {
            "_recorder": None,
            "_bar": None,
            "_history": None,
            "_left_off": None,
            "_listeners": (),
            "_sinks": (),
        }
    )

    def __init__(
        self,
        every: int | np.integer = 1,
        kind: Literal["raw", "applied"] | None = None,
        also: str | Sequence[str] | None = (),
        per: Literal["layer", "variable"] = "layer",
        depth: int | np.integer = 1,
        batch_logs: bool = False,
        path: PathLike | Callable[[keras.Model], PathLike] | None = None,
        append: bool | None = None,
        log_dir: PathLike | None = None,
        read_every: int | np.integer = 64,
        keep: int | np.integer | None = None,
        alignment_every: int | np.integer | None = None,
    ) -> None:
        super().__init__()
        self.every = integer(every, "GradientNormLogger: every")
        self._also = _known_quantities(also)
        self._per = one_of(per, "GradientNormLogger: per", ("layer", "variable"))
        self._depth = integer(depth, "GradientNormLogger: depth")
        self._asked_kind = one_of(kind, "GradientNormLogger: kind", (None, "raw", "applied"))
        self.kind = self._asked_kind
        self._batch_logs = batch_logs
        self._path = path
        self._append = one_of(append, "GradientNormLogger: append", (None, True, False))
        self._log_dir = log_dir
        if path is not None:
            check_path(path)
        if log_dir is not None:
            check_log_dir(log_dir)
        self._read_every = integer(read_every, "GradientNormLogger: read_every")
        if batch_logs:
            self._read_every = 1
        self._keep = keep if keep is None else integer(keep, "GradientNormLogger: keep")
        self._alignment_every = _sampled(alignment_every, self.every)
        self._was_traced = False
        vars(self).update(self._of_the_fit)
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        self.read()
        return super().__getstate__()

    def _reset(self) -> None:
        self.file = None
        self._step: int | None = None
        self._epoch = 0
        self._unread: list[int] = []
        self._columns: list[str] = []
        self._series = records.Series(self._keep, self.kind or "raw")
        self._sinks: list[CsvFile | SummaryWriter] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener.write(columns, steps, epochs, rows)` at each reading of this `fit`.

        A listener calls this method in its `on_train_begin`.
        """
        self._listeners = [*self._listeners, listener]

    def is_in_fit_of(self, model: keras.Model) -> bool:
        """True if this logger is in the callbacks of the model's present `fit`."""
        # Each fit has a History of its own.
        return self.model is model and self._history is getattr(model, "history", None)

    @property
    def record(self) -> records.Record:
        """Everything recorded in the last `fit`. Reading it waits for the device."""
        self.read()
        return self._series.record(self._columns)

    @property
    def recorded(self) -> records.Record:
        """Another name for `record`."""
        return self.record

    def set_model(self, model: keras.Model) -> None:
        # Keras calls it for all callbacks before any `on_train_begin`. It removes the rest of an
        # earlier fit, which may have ended with an error.
        super().set_model(model)
        self._listeners = []
        self._history = getattr(model, "history", None)
        self._was_traced = getattr(model, "train_function", None) is not None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # What an interrupted fit has left, for its own file.
        self.read()
        if counting(self.model) is None:
            raise ValueError(
                "GradientNormLogger needs a compiled model: call model.compile(optimizer, loss) "
                "first."
            )
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        self.kind = self._asked_kind
        if self.kind is None:
            self.kind = "applied" if replicas > 1 else "raw"
        if self.kind == "raw" and replicas > 1:
            raise ValueError(
                f"GradientNormLogger: the model trains on {replicas} replicas, and each has its "
                'own raw gradient. Use kind="applied", the gradient of the whole batch.'
            )
        # The train function is still a `_Once` if a fit ended before it was called.
        plain = getattr(self.model.train_function, "plain", self.model.train_function)
        if self.model.train_function is not plain:
            self.model.train_function = plain
        settings = recorder.Settings(
            capacity=2 * max(self._read_every, self.model.steps_per_execution),
            kind=self.kind,
            also=self._also,
            per=self._per,
            depth=self._depth,
            **self._of_rehearsals(replicas),
        )
        self._recorder = recorder.find(self.model, settings)
        if self._recorder is None:
            self._warn_of_change()
            self._recorder = recorder.create(self.model, settings)
        self._recorder.begin(self)
        self._reset()
        self._columns = list(self._recorder.columns)
        self._bar = ShortBar(self._history)

    def _of_rehearsals(self, replicas: int) -> dict[str, int]:
        """The settings of the recorder that only rehearsals need."""
        if not quantities.need_rehearsals(self._also):
            return {}
        if replicas > 1:
            raise ValueError(
                f'GradientNormLogger: also="alignment" needs one replica, but the model trains on '
                f"{replicas}. Measure it on one device, by diagnosis.alignment(model, x, y)."
            )
        stride = self.every if self.model.steps_per_execution == 1 else 1
        return {"alignment_every": self._alignment_every, "stride": stride}

    def _warn_of_change(self) -> None:
        """Warn if `trainable` was changed after the model's own train function was traced.

        That function trains the variables that were trainable when it was traced. A function that
        is traced now trains those that are trainable now.
        """
        if not self._was_traced:
            return
        changed = changed_since_built(self.model)
        if not changed:
            return
        more = ", ..." if len(changed) > 3 else ""
        warnings.warn(
            f"GradientNormLogger: `trainable` was changed for {', '.join(changed[:3])}{more} after "
            f"{self.model.name} was compiled and trained. Keras alone ignores such a change until "
            "the next model.compile; with this callback it takes effect now. Call "
            "model.compile(...) after the change.",
            stacklevel=2,
        )

    def _begin(self) -> None:
        """Open the files, once a `fit`.

        It is called when all callbacks have begun, because BackupAndRestore restores the
        optimizer's number of steps in its `on_train_begin`.
        """
        if self._step is not None:
            return
        self._step = self._first_step()
        if self._path is not None:
            self.file = resolved(self._path, self.model)
            writer = CsvFile(self.file, self.kind, self._append, resumed=self._step > 0)
            if self._step == 0:
                self._step = writer.next_step
            self._sinks.append(writer)
        if self._log_dir is not None:
            self._sinks.append(SummaryWriter(self._log_dir))
        # Without `steps_per_execution` the first recorded step is the next multiple of `every`.
        stride = self.every if self.model.steps_per_execution == 1 else 1
        self._recorder.start_at(stride * -(-self._step // stride))

    def _first_step(self) -> int:
        """The number of the next step, which is the number of steps that the optimizer has made."""
        optimizer = counting(self.model)
        updates = iterations(optimizer)
        if self._left_off is not None and self._left_off[:2] == (optimizer, updates):
            # The number after the last fit is exact. The number from the updates is not, where loss
            # scaling skips some and where accumulation has steps left over.
            return self._left_off[2]
        return updates * (innermost(optimizer).gradient_accumulation_steps or 1)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.read()
        if self._step is not None:
            optimizer = counting(self.model)
            self._left_off = (optimizer, iterations(optimizer), self._step)
        self._listeners = []
        self._bar.restore("on_epoch_end", "on_train_batch_end")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()
        self.read()
        self._epoch = epoch
        self._recorder.begin_epoch()
        self._series.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin()
        function = self.model.train_function
        if isinstance(function, _Once) or not self._recorder.is_read_by(self):
            raise ValueError(
                "Two GradientNormLoggers record the same model in one fit. Use one; its `also` "
                "takes further quantities."
            )
        if function is not self._recorder.plain:
            raise ValueError(
                f"GradientNormLogger: something gave {self.model.name} another train function "
                "during the fit, such as a callback that calls model.make_train_function. The "
                "record would go on with the former one. End the fit before such a change, and "
                "begin another; weights and the state of the optimizer remain."
            )
        if self._due():
            recording = self._recorder
            # Not with setattr: Keras's tracking of attributes takes time in each step.
            vars(self.model)["train_function"] = _Once(
                self.model, recording.plain, recording.function
            )

    def _due(self) -> bool:
        """True if the next execution is recorded.

        An execution of several steps always is, because its number of steps is not known before.
        """
        return self.model.steps_per_execution > 1 or self._step % self.every == 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        recorded = self._due()
        if recorded:
            self._unread.extend(range(self._step, self._step + self.model.steps_per_execution))
        self._step += self.model.steps_per_execution
        if len(self._unread) >= self._read_every:
            self.read()
        # An execution of several steps may have none that is due.
        if recorded and self._batch_logs and logs is not None and np.ndim(self._series.newest):
            self._log(logs, self._series.newest)
            self._bar.hide("on_train_batch_end", self._long_names())

    def read(self) -> None:
        """Move the recorded rows from the device to memory, files and listeners.

        It waits for the device.
        """
        if self._recorder is None or self._step is None or not self._recorder.is_read_by(self):
            return
        rows = self._recorder.read()
        self._columns = list(self._recorder.columns)
        # The last execution of an epoch may have fewer steps than the others.
        self._step -= max(0, len(self._unread) - len(rows))
        steps = np.array(self._unread[: len(rows)], dtype=int)
        self._unread = []
        due = steps % self.every == 0
        rows = rows[: len(due)][due]
        steps = steps[due]
        if len(steps):
            self._hand_on(steps, np.full(len(steps), self._epoch), rows)

    def _hand_on(self, steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray) -> None:
        self._series.append(steps, epochs, rows)
        for sink in list(self._sinks):
            try:
                sink.write(self._columns, steps, epochs, rows)
            except OSError as error:
                self._sinks.remove(sink)
                warnings.warn(
                    f"GradientNormLogger stops writing, but training continues: {error}.",
                    stacklevel=2,
                )
        for listener in self._listeners:
            listener.write(self._columns, steps, epochs, rows)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.read()
        if self._recorder.saw_gradients is False:
            self._warn_of_no_gradients()
        if logs is not None:
            means = self._series.means()
            self._log(logs, np.where(self._recorder.last, self._series.newest, means))
            logs["gradient_norm/nonfinite_steps"] = self._series.nonfinite
            self._bar.hide("on_epoch_end", [*self._long_names(), "gradient_norm/nonfinite_steps"])

    def _log(self, logs: dict[str, Any], row: np.ndarray) -> None:
        named = zip(self._columns, self._recorder.logged, row, strict=True)
        logs.update({column: float(value) for column, logged, value in named if logged})

    def _long_names(self) -> list[str]:
        """The columns that Keras's progress bar does not print."""
        return [column for column in self._columns if column != _GLOBAL]

    def _warn_of_no_gradients(self) -> None:
        warnings.warn(
            f"GradientNormLogger recorded no gradients: the train step of {self.model.name} was "
            "traced without a call of optimizer.apply or apply_gradients. Norms are NaN. The "
            "reason may be that train_step is a @tf.function itself, which Keras does not need.",
            stacklevel=2,
        )


class _Once:
    """A train function that records one execution.

    It first restores the model's own train function, so that the model has it after an error too.

    Args:
        model: the model.
        plain: its own train function.
        recording: the recording train function.
    """

    def __init__(
        self, model: keras.Model, plain: Callable[..., Any], recording: Callable[..., Any]
    ) -> None:
        self._model = model
        self.plain = plain
        self._recording = recording

    def __call__(self, iterator: Any) -> Any:
        vars(self._model)["train_function"] = self.plain
        return self._recording(iterator)


def _sampled(alignment_every: int | np.integer | None, every: int) -> int:
    if alignment_every is None:
        return every * -(-_LEAST_SAMPLED // every)
    steps = integer(alignment_every, "GradientNormLogger: alignment_every")
    if steps % every:
        raise ValueError(
            f"GradientNormLogger: alignment_every must be a multiple of every = {every}, but is "
            f"{steps}."
        )
    return steps


def _known_quantities(also: str | Sequence[str] | None) -> tuple[str, ...]:
    asked = [also] if isinstance(also, str) else also or ()
    # A dictionary, because a quantity may be asked for twice.
    return tuple(
        one_of(name, "GradientNormLogger: also", quantities.names())
        for name in dict.fromkeys(asked)
    )
