"""The gradient monitor: when to measure, what, and where to write."""

import warnings
from types import MappingProxyType

import numpy as np

from keras_surrogate import records
from keras_surrogate.callbacks.base import Callback
from keras_surrogate.callbacks.paths import check_path, resolved
from keras_surrogate.callbacks.progress_bar import ShortBar
from keras_surrogate.callbacks.summaries import SummaryWriter, check_log_dir
from keras_surrogate.checks import integer, one_of
from keras_surrogate.recording import quantities
from keras_surrogate.recording.optimizers import changed_since_built, innermost, iterations
from keras_surrogate.recording.recorder import StepRecorder

KINDS = ("raw", "applied")
_GLOBAL = "gradient_norm/global"


class GradientNormLogger(records.Recorded, Callback):
    """Records the gradient norm of every layer, as the training step itself computes it.

    No second backward pass is made, the model is not subclassed, and the loss does not matter. It
    works for every compiled model, whether `jit_compile`, `run_eagerly` and `steps_per_execution`
    are on or off.

    At the end of each epoch Keras's `logs` receive the means over the epoch's recorded steps:

        logs["gradient_norm/<layer>"], logs["gradient_norm/global"]         over the steps in which they are finite
        logs["gradient_norm/nonfinite_steps"]                               the number of the others

    so `History` sees them, and `CSVLogger`, `TensorBoard`, `EarlyStopping` and their like do if
    they come after this callback in the list. Keras's progress bar shows the global norm only.

    Steps are numbered as the optimizer numbers them. A new model begins at 0; a second `fit`, or a
    training that is resumed from a file or by `keras.callbacks.BackupAndRestore`, goes on where the
    optimizer is. Epochs have Keras's
    numbers: give `fit` an `initial_epoch`, as for all of Keras's callbacks.

    Args:
        every: record the steps whose number is a multiple of it; an integer of at least 1, default
            1. Steps in between run the model's own train function and cost nothing; only with
            `steps_per_execution` above 1 every step is measured, and the others are dropped.
        kind: "raw", the gradients that reach the optimizer, freed of any loss scale and before
            clipping, each micro-step of gradient accumulation by itself; or "applied", those that
            the updates are made with, after accumulation, clipping and the reduction across
            replicas (NaN in a step that updates nothing). Default: "raw", and "applied" where there
            are several replicas, whose raw gradients are local to each.
        also: further quantities, each of which costs its share: any of "norm_1", "norm_inf",
            "mean_absolute", "histogram" (of the gradients' elements, by powers of ten),
            "update_ratio" (norm of the weights' change over norm of the weights), "activations" (of
            each layer's output: mean, variance, share of zeros and of saturated elements, share of
            units dead since the epoch began), "delta_norm" (of the gradient with respect to each
            layer's output). Default none. Their classes in `quantities` have the formulas.
        per: "layer", the default: all variables of a layer together; or "variable": each by itself,
            under its path in Keras, such as "encoder/dense/kernel".
        depth: how far to look into layers that hold layers, such as the blocks of a transformer; an
            integer of at least 1, default 1: such a layer is one entry. With 2 the layers in it are
            entries of their own, "block/dense"; what belongs to the block itself stays under its
            name.
        batch_logs: whether `logs` also receive each recorded step's numbers after its batch.
            Default False, because each reading waits for the device.
        path: a CSV file that grows while training runs; default none. What is killed leaves all but
            the last steps behind; `records.load` reads it. In a path with "{trial}", such as
            "run-{trial}.csv", each `fit` puts the first number from 0 on of which there is no file
            yet, which suits tuners; or a function from the model to a path.
        append: whether a file that is there already goes on. None, the default: it does if training
            goes on (the optimizer has made steps before) and its columns are the same; otherwise it
            is set aside under the name "<name>.old.csv", with a warning, and a new one is begun.
            True: it always does; the steps of a new model are numbered on from its last one. False:
            it is begun anew.
        log_dir: a folder for TensorBoard; default none. Tags are "<layer>/<quantity>". Needs the
            tensorboard package.
        read_every: recorded steps between two readings, each of which waits for the device; default
            64.
        keep: recorded steps held in memory, the newest; default None, all of them (8 bytes a
            number).

    Attributes:
        record: everything recorded in the last `fit`, as a `records.Record`; its `to_csv`, `to_npz`
            and `to_dataframe` can be called on the logger as well. `recorded` is another name for
            it.
        layer_names: names of the layers with trainable weights, in the order of their calls;
            "encoder/dense" in nested models.
        steps: the numbers of the recorded steps, shape (recorded steps,).
        norms: shape (recorded steps, layers).
        global_norms: norm over all layers, shape (recorded steps,).
        kind: which norms these are; known when `fit` begins.
        file: the CSV file that is written, a path; None before `fit` begins and without `path`.

    Whenever an optimizer clips, "gradient_clipped/global" tells in which steps the clipping acted.
    A new `fit` starts a new record. After an interruption the record holds all steps that were
    completed.

    Raises:
        ValueError: an argument out of its range; a file that cannot be written; the model is not
            compiled; raw gradients asked for on several replicas; two loggers on one model.
        ImportError: `log_dir` without the tensorboard package.
    """

    # What is not copied: the traced step, files that are open, and what watches this fit.
    _of_the_fit = MappingProxyType(
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
        every=1,
        kind=None,
        also=(),
        per="layer",
        depth=1,
        batch_logs=False,
        path=None,
        append=None,
        log_dir=None,
        read_every=64,
        keep=None,
    ):
        super().__init__()
        self.every = integer(every, "GradientNormLogger: every")
        self._also = _known_quantities(also)
        self._per = one_of(per, "GradientNormLogger: per", ("layer", "variable"))
        self._depth = integer(depth, "GradientNormLogger: depth")
        self._asked_kind = one_of(kind, "GradientNormLogger: kind", (None, *KINDS))
        self.kind = self._asked_kind
        self._batch_logs = batch_logs
        self._path = path
        self._append = one_of(append, "GradientNormLogger: append", (None, True, False))
        self._log_dir = log_dir
        if path is not None:
            check_path(path)
        if log_dir is not None:
            check_log_dir(log_dir)
        self._read_every = (
            1 if batch_logs else integer(read_every, "GradientNormLogger: read_every")
        )
        self._keep = keep if keep is None else integer(keep, "GradientNormLogger: keep")
        self._was_traced = False
        vars(self).update(self._of_the_fit)
        self._reset()

    def __getstate__(self):
        self.read()
        return super().__getstate__()

    def _reset(self):
        self.file = None
        self._step = None
        self._epoch = 0
        self._unread = []
        self._columns = []
        self._series = records.Series(self._keep)
        self._sinks = []

    def listen(self, listener):
        """Has `listener.write(columns, steps, epochs, rows)` called with what is recorded, whenever it is read.

        It is for one `fit`: to be called in the listener's `on_train_begin`.
        """
        self._listeners = [*self._listeners, listener]

    def is_in_fit_of(self, model):
        """Whether this logger is among the callbacks of a model's present `fit`, each of which has its own History."""
        return self.model is model and self._history is getattr(model, "history", None)

    @property
    def record(self):
        self.read()
        return self._series.record(self._columns, self.kind or "raw")

    @property
    def recorded(self):
        return self.record

    def set_model(self, model):
        # Keras calls it for all callbacks before any `on_train_begin`. Whatever an earlier fit has
        # left, also one that ended by an error, is gone here.
        super().set_model(model)
        self._listeners = []
        self._history = getattr(model, "history", None)
        self._was_traced = getattr(model, "train_function", None) is not None

    def on_train_begin(self, logs=None):
        if getattr(self.model, "optimizer", None) is None:
            raise ValueError(
                "GradientNormLogger needs a compiled model: call model.compile(optimizer, loss) first."
            )
        self.kind = self._asked_kind or ("applied" if self._replicas() > 1 else "raw")
        if self.kind == "raw" and self._replicas() > 1:
            raise ValueError(
                f"GradientNormLogger: the model trains on {self._replicas()} replicas, each with a raw gradient of its "
                'own. Use kind="applied", the gradient of the joined batch.'
            )
        plain = getattr(self.model.train_function, "plain", self.model.train_function)
        if self._recorder is None or self._recorder.plain is not plain or plain is None:
            self.model.train_function = plain
            self._warn_of_change()
            capacity = 2 * max(self._read_every, self.model.steps_per_execution)
            self._recorder = StepRecorder(
                self.model, capacity, self.kind, self._also, self._per, self._depth
            )
        self._recorder.read()
        self._reset()
        self._columns = list(self._recorder.columns)
        self._bar = ShortBar(self._history)

    def _replicas(self):
        return self.model.distribute_strategy.num_replicas_in_sync

    def _warn_of_change(self):
        """Keras trains what was trainable when its step was traced; a step that is traced now trains what is now."""
        changed = changed_since_built(self.model) if self._was_traced else []
        if changed:
            warnings.warn(
                f"GradientNormLogger: `trainable` was changed after {self.model.name} was compiled and trained, for "
                f"{', '.join(changed[:3])}{', ...' if changed[3:] else ''}. Keras alone would go on training as "
                "compiled; with this callback the change takes effect. Call model.compile(...) after such a change.",
                stacklevel=2,
            )

    def _begin(self):
        """Opens the files, once, when all callbacks have begun and BackupAndRestore has put the model where it was."""
        if self._step is not None:
            return
        self._step = self._first_step()
        if self._path is not None:
            self.file = resolved(self._path, self.model)
            writer = records.Writer(self.file, self.kind, self._append, resumed=self._step > 0)
            if self._step == 0:
                self._step = writer.next_step
            self._sinks.append(writer)
        if self._log_dir is not None:
            self._sinks.append(SummaryWriter(self._log_dir))

    def _first_step(self):
        """The number of the step that comes next: as many as the optimizer has made."""
        optimizer = self.model.optimizer
        updates = iterations(optimizer)
        if self._left_off is not None and self._left_off[:2] == (optimizer, updates):
            # Exact also where steps make no iteration: loss scaling skips some, and accumulation
            # leaves some over.
            return self._left_off[2]
        return updates * (innermost(optimizer).gradient_accumulation_steps or 1)

    def on_train_end(self, logs=None):
        self.read()
        if self._step is not None:
            self._left_off = (self.model.optimizer, iterations(self.model.optimizer), self._step)
        self._listeners = []
        self._bar.restore("on_epoch_end", "on_train_batch_end")

    def on_epoch_begin(self, epoch, logs=None):
        self._begin()
        self.read()
        self._epoch = epoch
        self._recorder.begin_epoch()
        self._series.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        self._begin()
        if self.model.train_function is not self._recorder.plain:
            raise ValueError(
                "Two GradientNormLoggers record the same model at once. Keep one; `also` takes further quantities."
            )
        if self._due():
            self.model.train_function = self._once()

    def _due(self):
        """Whether the next execution is recorded; one of several steps always is, its size being unknown before."""
        return self.model.steps_per_execution > 1 or self._step % self.every == 0

    def _once(self):
        """The recording train function, which puts the plain one back as soon as it is called, come what may."""

        def function(iterator):
            self.model.train_function = function.plain
            return self._recorder.function(iterator)

        function.plain = self._recorder.plain
        return function

    def on_train_batch_end(self, batch, logs=None):
        recorded = self._due()
        if recorded:
            self._unread.extend(range(self._step, self._step + self.model.steps_per_execution))
        self._step += self.model.steps_per_execution
        if len(self._unread) >= self._read_every:
            self.read()
        if recorded and self._batch_logs and logs is not None:
            self._log(logs, self._series.newest)
            self._bar.hide("on_train_batch_end", self._long_names())

    def read(self):
        """Moves what the graph has recorded to the host, and on to files and listeners; waits for the device."""
        if self._recorder is None or self._step is None:
            return
        rows = self._recorder.read()
        self._columns = list(self._recorder.columns)
        # The last execution of an epoch may have fewer steps than the others.
        self._step -= max(0, len(self._unread) - len(rows))
        steps, self._unread = np.array(self._unread[: len(rows)], dtype=int), []
        due = steps % self.every == 0
        steps, rows = steps[due], rows[: len(due)][due]
        if len(steps):
            self._hand_on(steps, np.full(len(steps), self._epoch), rows)

    def _hand_on(self, steps, epochs, rows):
        self._series.append(steps, epochs, rows)
        for sink in list(self._sinks):
            try:
                sink.write(self._columns, steps, epochs, rows)
            except OSError as error:
                self._sinks.remove(sink)
                warnings.warn(
                    f"GradientNormLogger stops writing, training goes on: {error}.", stacklevel=2
                )
        for listener in self._listeners:
            listener.write(self._columns, steps, epochs, rows)

    def on_epoch_end(self, epoch, logs=None):
        self.read()
        if not self._recorder.saw_gradients:
            self._warn_of_silence()
        if logs is not None:
            self._log(
                logs, np.where(self._recorder.last, self._series.newest, self._series.means())
            )
            logs["gradient_norm/nonfinite_steps"] = self._series.nonfinite
            self._bar.hide("on_epoch_end", [*self._long_names(), "gradient_norm/nonfinite_steps"])

    def _log(self, logs, row):
        named = zip(self._columns, self._recorder.logged, row, strict=True)
        logs.update({column: float(value) for column, logged, value in named if logged})

    def _long_names(self):
        return [column for column in self._columns if column != _GLOBAL]

    def _warn_of_silence(self):
        warnings.warn(
            f"GradientNormLogger recorded no gradients: the train step of {self.model.name} was traced without a call "
            "of optimizer.apply or apply_gradients. Norms are NaN.",
            stacklevel=2,
        )


def _known_quantities(also):
    also = (also,) if isinstance(also, str) else tuple(dict.fromkeys(also or ()))
    for name in also:
        one_of(name, "GradientNormLogger: also", quantities.names())
    return also
