"""The recorder and the logger during training: when they measure, and where they write."""

import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import types
import weakref
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import edges

from keras_surrogate import records
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.callbacks.csv_file import CsvFile

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 6)).astype("float32")
Y = RANDOM.normal(size=(60, 1)).astype("float32")
BATCH, STEPS = 10, 6


def make_model(**arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, "tanh", name="a"),
            keras.layers.Dense(1, name="b"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", **arguments)
    return model


def fit(model, *callbacks, **arguments):
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, callbacks=list(callbacks), **arguments)


@functools.cache
def expected_norms(epochs=1):
    model, norms = make_model(), []
    for start in [*range(0, len(X), BATCH)] * epochs:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X[start : start + BATCH]) - Y[start : start + BATCH]) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        norms.append(float(tf.linalg.global_norm(gradients)))
    return norms


def test_train_on_batch():
    model, logger = make_model(), GradientNormLogger()
    callbacks = keras.callbacks.CallbackList([logger], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch, start in enumerate(range(0, len(X), BATCH)):
        callbacks.on_train_batch_begin(batch)
        model.train_on_batch(X[start : start + BATCH], Y[start : start + BATCH])
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    np.testing.assert_allclose(logger.global_norms, expected_norms(), rtol=1e-5)


def test_two_models_with_loggers_at_once():
    loggers = GradientNormLogger(), GradientNormLogger(2)
    inner = make_model()

    class TrainsAnother(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                fit(inner, loggers[1], epochs=2)

    fit(make_model(), loggers[0], TrainsAnother())
    expected = np.array(expected_norms(2))
    np.testing.assert_allclose(loggers[0].global_norms, expected[:STEPS], rtol=1e-5)
    np.testing.assert_allclose(loggers[1].global_norms, expected[::2], rtol=1e-5)


def test_a_logger_is_reused_on_other_models_and_after_another_compile():
    logger = GradientNormLogger()
    expected = expected_norms(2)
    for _ in range(2):
        fit(make_model(), logger)
        np.testing.assert_allclose(logger.global_norms, expected[:STEPS], rtol=1e-5)
    model = make_model()
    fit(model, logger)
    fit(model, logger)
    np.testing.assert_allclose(logger.global_norms, expected[STEPS:], rtol=1e-5)
    model.compile("sgd", "mae")
    fit(model, logger)
    assert logger.global_norms.shape == (STEPS,)


def count_traces(model):
    """The model's train step, which counts its tracings."""
    traces, step = [], model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    return traces


def test_a_second_fit_with_the_same_logger_traces_nothing_and_without_it_once():
    model, logger = make_model(jit_compile=False), GradientNormLogger()
    traces = count_traces(model)
    fit(model, logger)
    first = len(traces)
    fit(model, logger)
    assert len(traces) == first
    fit(model)
    plain = len(traces)
    assert plain > first
    fit(model)
    fit(model, logger)
    assert len(traces) == plain


@pytest.mark.parametrize("arguments", [{}, {"kind": "applied"}, {"also": ("activations",)}])
def test_ten_fits_with_ten_new_loggers_trace_once(arguments, caplog):
    model = make_model(jit_compile=False)
    traces = count_traces(model)
    logger = GradientNormLogger(**arguments)
    fit(model, logger)
    first = len(traces)
    norms = [logger.global_norms]
    for _ in range(9):
        logger = GradientNormLogger(**arguments)
        fit(model, logger)
        norms.append(logger.global_norms)
    assert len(traces) == first
    assert "retracing" not in caplog.text
    np.testing.assert_allclose(np.concatenate(norms), list(expected_norms(10)), rtol=1e-4)


def test_other_settings_are_traced_once_each():
    model = make_model(jit_compile=False)
    traces = count_traces(model)
    makers = [
        lambda: GradientNormLogger(also="norm_1"),
        lambda: GradientNormLogger(kind="applied"),
        lambda: GradientNormLogger(per="variable"),
        lambda: GradientNormLogger(depth=2),
        lambda: GradientNormLogger(read_every=2),
    ]
    columns = []
    counts = []
    for make in makers * 2:
        logger = make()
        fit(model, logger)
        columns.append(logger.record.columns)
        counts.append(len(traces))
    assert columns[:5] == columns[5:]
    assert len(set(counts[:5])) == 5
    assert set(counts[5:]) == {counts[4]}


def freeze(model):
    model.layers[0].trainable = False


def change_optimizer(model):
    model.optimizer = keras.optimizers.SGD(0.5)
    model.optimizer.build(model.trainable_variables)


def compile_anew(model):
    model.compile("sgd", "mae", jit_compile=False)


@pytest.mark.filterwarnings("ignore:GradientNormLogger. `trainable` was changed:UserWarning")
@pytest.mark.parametrize("same_logger", [False, True])
@pytest.mark.parametrize("change", [freeze, change_optimizer, compile_anew])
def test_what_changes_the_step_is_traced_anew(change, same_logger):
    model = make_model(jit_compile=False)
    traces = count_traces(model)
    logger = GradientNormLogger()
    fit(model, logger)
    before = len(traces)
    change(model)
    if not same_logger:
        logger = GradientNormLogger()
    fit(model, logger)
    assert len(traces) > before
    assert logger.layer_names == (["b"] if change is freeze else ["a", "b"])
    assert (logger.norms > 0).all()


def test_after_another_layer_is_added_the_step_is_traced_anew():
    # A layer without variables, because Keras's optimizers refuse new variables.
    model = make_model(jit_compile=False)
    traces = count_traces(model)
    fit(model, GradientNormLogger())
    before = len(traces)
    model.add(keras.layers.Activation("tanh"))
    logger = GradientNormLogger()
    fit(model, logger)
    assert len(traces) > before
    assert logger.layer_names == ["a", "b"]


@pytest.mark.parametrize("kept", [None, "logger", "record"])
def test_the_recorder_does_not_keep_a_deleted_model(kept):
    model, logger = make_model(jit_compile=False), GradientNormLogger()
    fit(model, logger)
    fit(model, GradientNormLogger())
    reference = weakref.ref(model)
    held = {None: None, "logger": pickle.dumps(logger), "record": logger.record}[kept]
    del model, logger
    gc.collect()
    assert reference() is None
    del held


def test_compile_drops_the_recorder():
    model, logger = make_model(jit_compile=False), GradientNormLogger()
    fit(model, logger)
    recorder = weakref.ref(logger._recorder)
    model.compile("sgd", "mse", jit_compile=False)
    del logger
    gc.collect()
    assert recorder() is None


class StopError(Exception):
    pass


def stop_at_batch(number):
    def stop(batch, logs):
        if batch == number:
            raise StopError

    return keras.callbacks.LambdaCallback(on_train_batch_end=stop)


def test_an_interrupted_record_is_not_mixed_with_that_of_the_next_logger():
    model = make_model(jit_compile=False)
    interrupted, following = GradientNormLogger(), GradientNormLogger()
    with pytest.raises(StopError):
        fit(model, interrupted, stop_at_batch(3))
    fit(model, following)
    expected = list(expected_norms(2))
    np.testing.assert_allclose(interrupted.global_norms, expected[:4], rtol=1e-5)
    assert following.global_norms.shape == (STEPS,)
    np.testing.assert_array_equal(following.steps, np.arange(4, 4 + STEPS))


@pytest.mark.parametrize("every", [(1, 1), (1, 2), (2, 3)])
def test_two_loggers_in_one_fit_are_refused_at_once(every):
    model = make_model(jit_compile=False)
    fit(model)
    with pytest.raises(ValueError, match="Two GradientNormLoggers record the same model"):
        fit(model, *map(GradientNormLogger, every))


def test_a_train_function_that_takes_no_attributes_is_recorded_too():
    class WithMethod(keras.Sequential):
        def make_train_function(self, force=False):
            super().make_train_function(force)
            self.made = self.train_function
            self.train_function = self.run

        def run(self, iterator):
            return self.made(iterator)

    model = WithMethod([keras.Input((6,)), keras.layers.Dense(1, name="b")])
    model.compile("sgd", "mse", jit_compile=False)
    loggers = GradientNormLogger(), GradientNormLogger()
    for logger in loggers:
        fit(model, logger)
        assert (logger.norms > 0).all()


def test_after_fit_the_train_function_is_the_models_own():
    model, logger = make_model(), GradientNormLogger(every=2)
    fit(model)
    own = model.train_function
    fit(model, logger)
    assert model.train_function is own


class Saves(keras.callbacks.Callback):
    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            self.model.save(self.folder / "during.keras")
            self.model.export(self.folder / "during", verbose=False)


def test_saving_and_exporting_during_and_after_training_leave_no_trace_of_the_logger(tmp_path):
    plain, logged, logger = (
        make_model(),
        make_model(),
        GradientNormLogger(also=("activations", "delta_norm")),
    )
    config = logged.get_config()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "checkpoint.keras")
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    fit(plain)
    fit(logged, logger, Saves(tmp_path), checkpoint, backup)
    logged.save(tmp_path / "after.keras")
    assert logged.get_config() == config
    for name in ("during", "after", "checkpoint"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as file:
            assert b"keras_surrogate" not in file.read("config.json")
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        fit(loaded)
    exported = tf.saved_model.load(tmp_path / "during")
    assert exported.serve(X).shape == (60, 1)
    np.testing.assert_allclose(plain.predict(X, verbose=0), logged.predict(X, verbose=0), rtol=1e-5)


def test_batch_logs():
    seen = []
    batches = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(dict(logs))
    )
    logger = GradientNormLogger(every=2, batch_logs=True)
    fit(make_model(), logger, batches)
    found = [logs.get("gradient_norm/global") for logs in seen]
    np.testing.assert_allclose([norm for norm in found if norm is not None], logger.global_norms)
    assert [norm is None for norm in found] == [False, True] * 3
    assert {"gradient_norm/a", "gradient_norm/b"} <= set(seen[0])


def test_epoch_logs_hold_means_over_finite_steps_and_the_number_of_the_others():
    model, logger = make_model(), GradientNormLogger(also="activations")
    fit(model)
    x = X.copy()
    x[25] = np.nan

    class Restores(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.weights = self.model.get_weights() if batch == 2 else None

        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.set_weights(self.weights)
                for variable in self.model.optimizer.variables:
                    variable.assign(tf.zeros_like(variable.value))

    history = model.fit(
        x, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[logger, Restores()]
    ).history
    finite = np.isfinite(logger.global_norms)
    assert list(finite) == [True, True, False, True, True, True]
    assert history["gradient_norm/nonfinite_steps"] == [1]
    np.testing.assert_allclose(history["gradient_norm/global"], logger.global_norms[finite].mean())
    assert history["dead_units/a"] == [0.0]


@pytest.fixture(scope="module")
def unbounded():
    """A logger that keeps everything, and the history of its training."""
    logger = GradientNormLogger()
    return logger, fit(make_model(), logger, epochs=3).history


@edges(("keep", "read_every"), [4, 1, 5, 100], [3, 1, 64])
def test_memory_can_be_bounded(keep, read_every, unbounded):
    logger = GradientNormLogger(keep=keep, read_every=read_every)
    everything, whole = unbounded
    history = [fit(make_model(), logger, epochs=3).history, whole]
    np.testing.assert_array_equal(logger.steps, everything.steps[-keep:])
    np.testing.assert_allclose(logger.norms, everything.norms[-keep:])
    np.testing.assert_allclose(history[0]["gradient_norm/a"], history[1]["gradient_norm/a"])


def test_the_file_is_what_the_record_is(tmp_path):
    logger = GradientNormLogger(also="norm_inf", path=tmp_path / "run.csv", read_every=4)
    fit(make_model(), logger, epochs=2)
    assert logger.file == tmp_path / "run.csv"
    loaded = records.load(tmp_path / "run.csv")
    assert loaded.columns == logger.record.columns
    np.testing.assert_array_equal(loaded.values, logger.record.values)
    np.testing.assert_array_equal(loaded.steps, np.arange(2 * STEPS))
    np.testing.assert_array_equal(loaded.epochs, np.repeat([0, 1], STEPS))
    assert loaded.kind == "raw"


KILLED = """
import sys, keras, numpy as np
from keras_surrogate.callbacks import GradientNormLogger
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", jit_compile=False)
model.fit(np.zeros((100000, 6)), np.zeros((100000, 1)), batch_size=1, verbose=0,
          callbacks=[GradientNormLogger(path=sys.argv[1], read_every=8)])
"""


def test_a_killed_run_leaves_all_but_the_last_steps(tmp_path):
    path = tmp_path / "run.csv"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not path.exists() or path.stat().st_size < 2000:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    record = records.load(path)
    np.testing.assert_array_equal(record.steps, np.arange(len(record.steps)))
    assert len(record.steps) > 8


def test_when_the_disk_is_full_training_goes_on(tmp_path, monkeypatch):
    def write(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CsvFile, "write", write)
    model, logger = make_model(), GradientNormLogger(path=tmp_path / "run.csv")
    with pytest.warns(UserWarning, match="stops writing, but training continues: .*No space left"):
        fit(model, logger, epochs=2)
    assert len(logger.steps) == 2 * STEPS


def test_before_the_first_step_is_traced_there_is_nothing_to_read():
    model, logger = make_model(), GradientNormLogger()
    logger.set_model(model)
    logger.on_train_begin()
    assert logger.steps.shape == (0,)
    assert logger.record.values.shape == (0, 3)


class ClaimsToBeBuilt(keras.layers.Layer):
    """A layer that is built before its part. The part is built in the first call."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.part = keras.layers.Dense(1)
        self.built = True

    def call(self, x):
        return self.part(x)


class BuiltLater(keras.Model):
    def __init__(self, late):
        super().__init__()
        self.early, self.late = keras.layers.Dense(3, name="early"), late
        self.early.build((None, 6))

    def call(self, x):
        return self.late(self.early(x))


@edges(
    ("make_late", "kind"),
    [lambda: keras.layers.Dense(1, name="late"), lambda: ClaimsToBeBuilt(name="late")],
    ["raw", "applied"],
)
@pytest.mark.parametrize("run_eagerly", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_layers_that_are_built_later_than_others_are_recorded_too(make_late, kind, run_eagerly):
    model, logger = BuiltLater(make_late()), GradientNormLogger(kind=kind)
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    fit(model, logger)
    assert logger.layer_names == ["early", "late"]
    assert (logger.norms > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "both"}, "kind must be one of None, 'raw', 'applied', but is 'both'"),
        ({"per": "model"}, "per must be one of 'layer', 'variable', but is 'model'"),
        (
            {"also": "curvature"},
            "also must be one of 'norm_1', .*'delta_norm'.*, but is 'curvature'",
        ),
        ({"also": ["norm_1", 3]}, "but is 3"),
        ({"also": "activation"}, r"but is 'activation'. Did you mean 'activations'\?"),
        ({"append": "yes"}, "append must be one of None, True, False, but is 'yes'"),
        ({"depth": 0}, "depth must be an integer of at least 1, but is 0"),
        ({"path": "missing/run-{trial}.csv"}, "missing/run-0.csv cannot be written"),
        ({"read_every": 0}, "read_every must be an integer of at least 1, but is 0"),
        ({"keep": 0}, "keep must be an integer of at least 1, but is 0"),
        ({"path": "missing/folder/run.csv"}, "missing/folder/run.csv cannot be written"),
        ({"path": "."}, "cannot be written"),
    ],
)
def test_bad_arguments_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientNormLogger(**arguments)


def test_without_tensorboard_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        ImportError, match="log_dir needs TensorBoard: python -m pip install tensorboard"
    ):
        GradientNormLogger(log_dir=tmp_path)


def test_a_quantity_that_is_asked_for_twice_is_recorded_once():
    logger = GradientNormLogger(also=("norm_1", "norm_1"))
    fit(make_model(), logger)
    assert len(set(logger.record.columns)) == len(logger.record.columns) == 6


def test_an_epoch_without_a_recorded_step_has_no_numbers_of_the_epoch_before():
    history = fit(
        make_model(), GradientNormLogger(every=STEPS + 1, also="activations"), epochs=2
    ).history
    assert history["dead_units/a"][0] == 0
    fewer = fit(
        make_model(), GradientNormLogger(every=3 * STEPS, also="activations"), epochs=2
    ).history
    assert np.isnan(fewer["dead_units/a"][1])


def test_listeners_are_given_what_is_read():
    given = []
    listener = types.SimpleNamespace(
        write=lambda columns, steps, epochs, rows: given.append((columns, steps, rows))
    )
    logger = GradientNormLogger(read_every=4)
    listening = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: logger.listen(listener))
    fit(make_model(), listening, logger)
    np.testing.assert_array_equal(np.concatenate([steps for _, steps, _ in given]), logger.steps)
    np.testing.assert_array_equal(
        np.concatenate([rows for *_, rows in given]), logger.record.values
    )
    assert given[0][0] == list(logger.record.columns)


@edges(("verbose", "batch_logs"), [1, 2], [True, False])
def test_the_progress_bar_shows_the_global_norm_and_all_loggers_see_every_layer(
    verbose, batch_logs, tmp_path, capsys
):
    seen = {"on_epoch_end": set(), "on_train_batch_end": set()}
    watching = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen["on_epoch_end"].update(logs),
        on_train_batch_end=lambda batch, logs: seen["on_train_batch_end"].update(logs),
    )
    csv_logger = keras.callbacks.CSVLogger(tmp_path / "epochs.csv")
    logger = GradientNormLogger(also=("activations", "update_ratio"), batch_logs=batch_logs)
    history = fit(make_model(), logger, watching, csv_logger, verbose=verbose, epochs=2)
    shown = capsys.readouterr().out
    assert shown.count("gradient_norm/global") >= 2 and "loss" in shown
    assert not any(
        name in shown
        for name in ("gradient_norm/a", "nonfinite_steps", "activation_", "update_ratio")
    )
    expected = {
        "gradient_norm/global",
        "gradient_norm/a",
        "gradient_norm/nonfinite_steps",
        "activation_mean/b",
    }
    assert expected <= set(history.history)
    assert expected <= seen["on_epoch_end"]
    assert expected <= set((tmp_path / "epochs.csv").read_text().splitlines()[0].split(","))
    assert ("gradient_norm/a" in seen["on_train_batch_end"]) == batch_logs
    assert not {"on_epoch_end", "on_train_batch_end"} & set(vars(history))


def test_a_silent_fit_and_one_without_history_work_as_well(capsys):
    history = fit(make_model(), GradientNormLogger(batch_logs=True), epochs=2)
    assert "gradient_norm/a" in history.history and capsys.readouterr().out == ""


def test_histograms_of_double_precision():
    keras.config.set_floatx("float64")
    try:
        model, logger = make_model(), GradientNormLogger(also="histogram")
        fit(model, logger)
    finally:
        keras.config.set_floatx("float32")
    assert (logger.record.histograms()["a"].sum(axis=1) == 6 * 4 + 4).all()


def test_numpy_integers_and_no_quantity_are_arguments_too():
    logger = GradientNormLogger(every=np.int64(2), also=None)
    fit(make_model(), logger)
    np.testing.assert_array_equal(logger.steps, [0, 2, 4])


class Interrupting(keras.callbacks.Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("other_model", [False, True])
def test_the_next_fit_writes_what_an_interrupted_one_has_left(other_model, tmp_path):
    model = make_model()
    logger = GradientNormLogger(path=tmp_path / ("{trial}.csv" if other_model else "0.csv"))
    with pytest.raises(KeyboardInterrupt):
        fit(model, logger, Interrupting(3))
    fit(make_model() if other_model else model, logger)
    first = records.load(tmp_path / "0.csv")
    if other_model:
        np.testing.assert_array_equal(first.steps, range(4))
        np.testing.assert_allclose(first.global_norms, expected_norms()[:4], rtol=1e-5)
        np.testing.assert_array_equal(records.load(tmp_path / "1.csv").steps, range(STEPS))
    else:
        np.testing.assert_array_equal(first.steps, range(4 + STEPS))


def test_batch_logs_of_executions_without_a_step_that_is_due():
    model = make_model(steps_per_execution=2)
    seen = []
    noting = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(logs))
    logger = GradientNormLogger(every=4, batch_logs=True)
    fit(model, logger, noting, epochs=2)
    assert ["gradient_norm/global" in logs for logs in seen] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    assert seen[0]["gradient_norm/global"] == pytest.approx(expected_norms()[0], rel=1e-5)


def test_an_epoch_without_a_recorded_step_is_no_reason_for_a_warning():
    model = make_model()
    fit(model)
    logger = GradientNormLogger(every=100)
    fit(model, logger, epochs=2)
    assert len(logger.steps) == 0


class Compiled(keras.Model):
    """A train step that is a function of TensorFlow itself."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    @tf.function
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


def test_a_traced_train_step_is_named_as_the_reason_for_no_gradients():
    model = Compiled()
    model.compile("sgd", "mse")
    fit(model)
    with pytest.warns(UserWarning, match="train_step is a @tf.function itself"):
        fit(model, GradientNormLogger(kind="applied"))
