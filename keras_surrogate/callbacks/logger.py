"""The gradient monitor: when to measure, what, and where to write."""

import warnings

import keras
import numpy as np

from keras_surrogate import quantities, records
from keras_surrogate.callbacks.summaries import SummaryWriter, check_log_dir
from keras_surrogate.files import check_writable
from keras_surrogate.recording import StepRecorder

KINDS = ("raw", "applied")


class GradientNormLogger(keras.callbacks.Callback):
    """Records the gradient norm of every layer, as the training step itself computes it.

    No second backward pass is made, the model is not subclassed, and the loss does not matter. It works for every
    compiled model, whether `jit_compile`, `run_eagerly` and `steps_per_execution` are on or off.

    At the end of each epoch Keras's `logs` receive the means over the epoch's recorded steps:

        logs["gradient_norm/<layer>"], logs["gradient_norm/global"]         over the steps in which they are finite
        logs["gradient_norm/nonfinite_steps"]                               the number of the others

    so `History`, `CSVLogger`, `TensorBoard`, `EarlyStopping` and their like see them, if they come after this callback
    in the list. The progress bar shows them too; `callbacks=[keras.callbacks.ProgbarLogger(), GradientNormLogger()]`
    keeps it short.

    Args:
        every: record each `every`-th step, counted from the first step of `fit`; an integer of at least 1, default
            1. Steps in between run the model's own train function and cost nothing; only with
            `steps_per_execution` above 1 every step is measured, and the others are dropped.
        kind: "raw", the gradients that reach the optimizer, freed of any loss scale and before clipping, each
            micro-step of gradient accumulation by itself; or "applied", those that the updates are made with, after
            accumulation, clipping and the reduction across replicas (NaN in a step that updates nothing). Default:
            "raw", and "applied" where there are several replicas, whose raw gradients are local to each.
        also: further quantities, each of which costs its share: any of "norm_1", "norm_inf", "mean_absolute",
            "histogram" (of the gradients' elements, by powers of ten), "update_ratio" (norm of the weights' change over
            norm of the weights), "activations" (of each layer's output: mean, variance, share of zeros and of
            saturated elements, share of units dead since the epoch began), "delta_norm" (of the gradient with respect
            to each layer's output). Default none. Their classes in `quantities` have the formulas.
        per: "layer", the default: all variables of a layer together; or "variable".
        batch_logs: whether `logs` also receive each recorded step's numbers after its batch. Default False, because
            each reading waits for the device.
        path: a CSV file to append to while training runs, begun anew by each `fit`; default none. What is killed leaves
            all but the last steps behind; `records.load` reads it.
        log_dir: a folder for TensorBoard; default none. Tags are "<layer>/<quantity>". Needs the tensorboard package.
        read_every: recorded steps between two readings, each of which waits for the device; default 64.
        keep: recorded steps held in memory, the newest; default None, all of them (8 bytes a number).

    Attributes:
        record: everything recorded, as a `records.Record`; its `to_csv`, `to_npz` and `to_dataframe` can be called on
            the logger as well.
        layer_names: names of the layers with trainable weights, first layer first; "encoder/dense" in nested models.
        steps: the recorded steps, shape (recorded steps,), counted from 0 at the start of `fit`.
        norms: shape (recorded steps, layers).
        global_norms: norm over all layers, shape (recorded steps,).
        kind: which norms these are; known when `fit` begins.

    Whenever an optimizer clips, "gradient_clipped/global" tells in which steps the clipping acted. A new `fit` starts a
    new record. After an interruption the record holds all steps that were completed.

    Raises:
        ValueError: an argument out of its range; a file that cannot be written; the model is not compiled; raw
            gradients asked for on several replicas; two loggers on one model.
        ImportError: `log_dir` without the tensorboard package.
    """

    def __init__(
        self,
        every=1,
        kind=None,
        also=(),
        per="layer",
        batch_logs=False,
        path=None,
        log_dir=None,
        read_every=64,
        keep=None,
    ):
        super().__init__()
        self.every = _at_least_one("every", every)
        self._also = _known_quantities(also)
        self._per = _one_of("per", per, ("layer", "variable"))
        self.kind = self._asked_kind = _one_of("kind", kind, (None, *KINDS))
        self._batch_logs = batch_logs
        self._path, self._log_dir = path, log_dir
        if path is not None:
            check_writable(path)
        if log_dir is not None:
            check_log_dir(log_dir)
        self._read_every = 1 if batch_logs else _at_least_one("read_every", read_every)
        self._keep = keep if keep is None else _at_least_one("keep", keep)
        self._listeners = []
        self._recorder = None
        self._reset()

    def _reset(self):
        self._step, self._epoch = 0, 0
        self._unread = []
        self._series = records.Series(self._keep)
        self._sinks = []

    def listen(self, listener):
        """Has `listener.write(columns, steps, epochs, rows)` called with what is recorded, whenever it is read."""
        self._listeners.append(listener)

    @property
    def record(self):
        self.read()
        return self._series.record(self._recorder.columns if self._recorder else (), self.kind or "raw")

    @property
    def layer_names(self):
        return self.record.layer_names

    @property
    def steps(self):
        return self.record.steps

    @property
    def norms(self):
        return self.record.norms

    @property
    def global_norms(self):
        return self.record.global_norms

    def to_csv(self, path):
        """`record.to_csv`."""
        self.record.to_csv(path)

    def to_npz(self, path):
        """`record.to_npz`."""
        self.record.to_npz(path)

    def to_dataframe(self):
        """`record.to_dataframe`."""
        return self.record.to_dataframe()

    def on_train_begin(self, logs=None):
        if getattr(self.model, "optimizer", None) is None:
            raise ValueError("GradientNormLogger needs a compiled model: call model.compile(optimizer, loss) first.")
        self.kind = self._asked_kind or ("applied" if self._replicas() > 1 else "raw")
        if self.kind == "raw" and self._replicas() > 1:
            raise ValueError(
                f"GradientNormLogger: the model trains on {self._replicas()} replicas, each with a raw gradient of its "
                'own. Use kind="applied", the gradient of the joined batch.'
            )
        plain = getattr(self.model.train_function, "plain", self.model.train_function)
        if self._recorder is None or self._recorder.plain is not plain or plain is None:
            self.model.train_function = plain
            capacity = 2 * max(self._read_every, self.model.steps_per_execution)
            self._recorder = StepRecorder(self.model, capacity, self.kind, self._also, self._per)
        self._recorder.read()
        self._reset()
        self._sinks = [*self._files(), *self._listeners]

    def _replicas(self):
        return self.model.distribute_strategy.num_replicas_in_sync

    def _files(self):
        if self._path is not None:
            yield records.Writer(self._path, self.kind)
        if self._log_dir is not None:
            yield SummaryWriter(self._log_dir)

    def on_train_end(self, logs=None):
        self.read()

    def on_epoch_begin(self, epoch, logs=None):
        self.read()
        self._epoch = epoch
        self._recorder.begin_epoch()
        self._series.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
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

    def read(self):
        """Moves what the graph has recorded to the host, and on to files and listeners; waits for the device."""
        if self._recorder is None:
            return
        rows = self._recorder.read()
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
                sink.write(self._recorder.columns, steps, epochs, rows)
            except OSError as error:
                self._sinks.remove(sink)
                warnings.warn(f"GradientNormLogger stops writing, training goes on: {error}.", stacklevel=2)

    def on_epoch_end(self, epoch, logs=None):
        self.read()
        if not self._recorder.saw_gradients:
            self._warn_of_silence()
        if logs is not None:
            self._log(logs, np.where(self._recorder.last, self._series.newest, self._series.means()))
            logs["gradient_norm/nonfinite_steps"] = self._series.nonfinite

    def _log(self, logs, row):
        named = zip(self._recorder.columns, self._recorder.logged, row, strict=True)
        logs.update({column: float(value) for column, logged, value in named if logged})

    def _warn_of_silence(self):
        warnings.warn(
            f"GradientNormLogger recorded no gradients: the train step of {self.model.name} was traced without a call "
            "of optimizer.apply or apply_gradients. Norms are NaN.",
            stacklevel=2,
        )


def _at_least_one(name, number):
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"GradientNormLogger: {name} must be an integer of at least 1, but is {number!r}.")
    return number


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"GradientNormLogger: {name} must be one of {allowed}, but is {value!r}.")
    return value


def _known_quantities(also):
    also = (also,) if isinstance(also, str) else tuple(dict.fromkeys(also))
    for name in also:
        if name not in quantities.names():
            raise ValueError(f"GradientNormLogger: also takes {', '.join(quantities.names())}, but not {name!r}.")
    return also
