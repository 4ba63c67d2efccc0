"""Callbacks for `model.fit`: when to measure, and where to write."""

import warnings

import keras
import numpy as np

from keras_surrogate import gradients
from keras_surrogate.layers import SurrogateActivation


class GradientNormLogger(keras.callbacks.Callback):
    """Records the gradient norm of every layer, as the training step itself computes it.

    The norms are raw: L2 norms of the gradients that reach the optimizer, all variables of a layer taken together,
    freed of any loss scale and before clipping. No second backward pass is made and the loss does not matter. It
    works for every compiled model, whether `jit_compile`, `run_eagerly` and `steps_per_execution` are on or off.

    At the end of each epoch Keras's `logs` receive the means over the epoch's recorded steps:

        logs["gradient_norm/<layer>"], logs["gradient_norm/global"]

    so `History`, `CSVLogger`, `TensorBoard`, `EarlyStopping` and their like see them, if they come after this callback
    in the list. The progress bar shows them too; `callbacks=[keras.callbacks.ProgbarLogger(), GradientNormLogger()]`
    keeps it short.

    Args:
        every: record each `every`-th step, counted from the first step of `fit`; an integer of at least 1, default
            1. Steps in between run the model's own train function and cost nothing; only with
            `steps_per_execution` above 1 every step is measured, and the others are dropped.

    Attributes:
        layer_names: names of the layers with trainable weights, first layer first; "encoder/dense" in nested models.
        steps: the recorded steps, shape (recorded steps,), counted from 0 at the start of `fit`.
        norms: shape (recorded steps, layers).
        global_norms: norm over all layers, shape (recorded steps,).

    A new `fit` starts a new record. After an interruption the record holds all steps that were completed.

    Raises:
        ValueError: `every` is not an integer of at least 1; the model is not compiled, or trains on several replicas of
            a `tf.distribute` strategy; two loggers on one model.
    """

    # Steps between two readings of the buffer, each of which waits for the device.
    _CAPACITY = 64

    def __init__(self, every=1):
        super().__init__()
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"GradientNormLogger: every must be an integer of at least 1, but is {every!r}.")
        self.every = every
        self._recorder = None
        self._reset()

    def _reset(self):
        self._step = 0
        self._unread = []
        self._steps, self._global_norms, self._norms = [], [], []

    @property
    def layer_names(self):
        return list(self._recorder.layer_names) if self._recorder else []

    @property
    def steps(self):
        self._drain()
        return np.array(self._steps, dtype=int)

    @property
    def norms(self):
        self._drain()
        return np.array(self._norms, dtype=float).reshape(len(self._norms), len(self.layer_names))

    @property
    def global_norms(self):
        self._drain()
        return np.array(self._global_norms, dtype=float)

    def on_train_begin(self, logs=None):
        if getattr(self.model, "optimizer", None) is None:
            raise ValueError("GradientNormLogger needs a compiled model: call model.compile(optimizer, loss) first.")
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                f"GradientNormLogger measures one replica, but the model trains on {replicas}. Log a run on one, "
                "with the model made outside of strategy.scope()."
            )
        plain = getattr(self.model.train_function, "plain", self.model.train_function)
        if self._recorder is None or self._recorder.plain is not plain or plain is None:
            self.model.train_function = plain
            self._recorder = gradients.StepRecorder(self.model, 2 * max(self._CAPACITY, self.model.steps_per_execution))
        self._recorder.read()
        self._reset()

    def on_epoch_begin(self, epoch, logs=None):
        self._drain()
        self._first_of_epoch = len(self._steps)

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.train_function is not self._recorder.plain:
            raise ValueError("Two GradientNormLoggers record the same model at once; keep one of them.")
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
        if self._due():
            self._unread.extend(range(self._step, self._step + self.model.steps_per_execution))
        self._step += self.model.steps_per_execution
        if len(self._unread) >= self._CAPACITY:
            self._drain()

    def _drain(self):
        """Moves what the graph has recorded into the lists."""
        if self._recorder is None:
            return
        rows = list(zip(*self._recorder.read(), strict=True))
        # The last execution of an epoch may have fewer steps than the others.
        self._step -= max(0, len(self._unread) - len(rows))
        for step, (global_norm, norms) in zip(self._unread, rows, strict=False):
            if step % self.every == 0:
                self._steps.append(step)
                self._global_norms.append(global_norm)
                self._norms.append(norms)
        self._unread = []

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if not self._recorder.saw_gradients:
            self._warn_of_silence()
        new = slice(self._first_of_epoch, None)
        columns = dict(zip(self.layer_names, self.norms[new].T, strict=True))
        for name, norms in {**columns, "global": self.global_norms[new]}.items():
            logs[f"gradient_norm/{name}"] = float(np.mean(norms)) if len(norms) else float("nan")

    def _warn_of_silence(self):
        warnings.warn(
            f"GradientNormLogger recorded no gradients: the train step of {self.model.name} was traced without a call "
            "of optimizer.apply or apply_gradients. Norms are NaN.",
            stacklevel=2,
        )


class SurrogateAnnealing(keras.callbacks.Callback):
    """Changes, step by step, the share of the surrogate in the slope of every `SurrogateActivation` of the model.

        slope = blend * surrogate slope + (1 - blend) * true slope,        blend = schedule(step)

    so that training may begin with a surrogate and end with the true derivative. The train function is compiled once,
    at the start. The share is saved with the model, in each layer's configuration.

    Args:
        schedule: from the number of steps the optimizer has made to a share from 0 to 1: any callable, or a
            `keras.optimizers.schedules.LearningRateSchedule`, such as `PolynomialDecay(1.0, 1000, 0.0)`.

    Attributes:
        blend: the share in the last step, a float; None before the first.

    Raises:
        ValueError: the schedule is not callable, or gives something else than a number from 0 to 1; the model has no
            `SurrogateActivation` (a bare `Surrogate` as `activation=` has a fixed slope).
    """

    def __init__(self, schedule):
        super().__init__()
        if not callable(schedule):
            raise ValueError(f"SurrogateAnnealing: schedule must be a callable of the step, but is {schedule!r}.")
        self.schedule = schedule
        self.blend = None

    def set_model(self, model):
        super().set_model(model)
        self._layers = list(_surrogate_activations(model))
        if not self._layers:
            raise ValueError(
                "SurrogateAnnealing found no SurrogateActivation in the model. Use that layer, or "
                "activation=SurrogateActivation(...), in place of a Surrogate, whose slope is fixed."
            )
        for layer in self._layers:
            layer.hold_blend()
        model.train_function = None

    def on_train_begin(self, logs=None):
        self._step = int(self.model.optimizer.iterations)

    def on_train_batch_begin(self, batch, logs=None):
        self.blend = float(self.schedule(self._step))
        for layer in self._layers:
            layer.blend = self.blend

    def on_train_batch_end(self, batch, logs=None):
        self._step += self.model.steps_per_execution


def _surrogate_activations(layer, seen=None):
    """Every `SurrogateActivation` within a layer or model, however deep, each once."""
    seen = set() if seen is None else seen
    if isinstance(layer, SurrogateActivation):
        yield layer
    for item in _layers_held(vars(layer).values()):
        if id(item) not in seen:
            seen.add(id(item))
            yield from _surrogate_activations(item, seen)


def _layers_held(values):
    for value in values:
        if isinstance(value, keras.layers.Layer):
            yield value
        elif isinstance(value, list | tuple | dict):
            yield from _layers_held(value.values() if isinstance(value, dict) else value)
