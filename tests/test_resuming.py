"""A resumed training continues its files, and nothing is lost without a warning."""

import copy
import pickle
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from keras_surrogate import records
from keras_surrogate.callbacks import (
    GradientAlerts,
    GradientNormLogger,
    GradientTable,
    SurrogateAnnealing,
)
from keras_surrogate.layers import SurrogateActivation

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 6)).astype("float32")
Y = RANDOM.normal(size=(60, 1)).astype("float32")
STEPS = 6


def make_model(optimizer=None):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, "tanh", name="a"),
            keras.layers.Dense(1, name="b"),
        ]
    )
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, *callbacks, **arguments):
    arguments = {"batch_size": 10, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, callbacks=list(callbacks), **arguments)


@pytest.mark.parametrize("same_logger", [True, False])
def test_a_second_fit_goes_on(same_logger, tmp_path):
    whole = GradientNormLogger()
    fit(make_model(), whole, epochs=5)
    model = make_model()
    first = GradientNormLogger(path=tmp_path / "run.csv")
    fit(model, first, epochs=2)
    second = first if same_logger else GradientNormLogger(path=tmp_path / "run.csv")
    fit(model, second, initial_epoch=2, epochs=5)
    np.testing.assert_array_equal(second.steps, np.arange(2 * STEPS, 5 * STEPS))
    np.testing.assert_array_equal(second.record.epochs, np.repeat([2, 3, 4], STEPS))
    loaded = records.load(tmp_path / "run.csv")
    np.testing.assert_array_equal(loaded.steps, np.arange(5 * STEPS))
    np.testing.assert_array_equal(loaded.epochs, np.repeat(range(5), STEPS))
    np.testing.assert_allclose(loaded.values, whole.record.values, rtol=1e-5)


INTERRUPTED = """
import sys, keras, numpy as np
from keras_surrogate.callbacks import GradientNormLogger
folder, last = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
model.compile("adam", "mse")
random = np.random.default_rng(0)
x, y = random.normal(size=(60, 6)), random.normal(size=(60, 1))

def stop(batch, logs):
    if int(model.optimizer.iterations) == last:
        sys.exit(1)

model.fit(x, y, batch_size=10, epochs=4, shuffle=False, verbose=0, callbacks=[
    GradientNormLogger(path=folder + "/run.csv", read_every=1),
    keras.callbacks.LambdaCallback(on_train_batch_end=stop),
    keras.callbacks.BackupAndRestore(folder + "/backup"),
])
"""


def run_interrupted(folder, last):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", INTERRUPTED, str(folder), str(last)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_same_script_after_an_interruption_goes_on_where_the_backup_was(tmp_path):
    assert run_interrupted(tmp_path / "whole", -1).returncode == 0
    assert run_interrupted(tmp_path / "cut", 2 * STEPS + 3).returncode == 1
    interrupted = records.load(tmp_path / "cut" / "run.csv")
    assert interrupted.steps[-1] >= 2 * STEPS
    again = run_interrupted(tmp_path / "cut", -1)
    assert again.returncode == 0, again.stderr
    assert "training continues from step 12. The" in again.stderr
    whole, resumed = (records.load(tmp_path / name / "run.csv") for name in ("whole", "cut"))
    np.testing.assert_array_equal(resumed.steps, np.arange(4 * STEPS))
    np.testing.assert_array_equal(resumed.epochs, whole.epochs)
    np.testing.assert_allclose(resumed.values, whole.values, rtol=1e-5)


def test_a_new_model_sets_the_file_aside_or_goes_on_as_told(tmp_path):
    path = tmp_path / "run.csv"
    fit(make_model(), GradientNormLogger(path=path))
    with pytest.warns(
        UserWarning, match="run.csv was renamed to .*run.old.csv, and a new file is begun"
    ):
        fit(make_model(), GradientNormLogger(path=path))
    assert (
        len(records.load(path).steps) == len(records.load(tmp_path / "run.old.csv").steps) == STEPS
    )
    appending = GradientNormLogger(path=path, append=True)
    fit(make_model(), appending)
    np.testing.assert_array_equal(appending.steps, np.arange(STEPS, 2 * STEPS))
    np.testing.assert_array_equal(records.load(path).steps, np.arange(2 * STEPS))
    fit(make_model(), GradientNormLogger(path=path, append=False))
    np.testing.assert_array_equal(records.load(path).steps, np.arange(STEPS))


def test_no_earlier_record_is_lost(tmp_path):
    """Four folds with one path."""
    path = tmp_path / "run.csv"
    for fold in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(make_model(), GradientNormLogger(path=path, every=1 + fold))
    kept = [path, *(tmp_path / f"run.{name}.csv" for name in ("old-2", "old-1", "old"))]
    intervals = [int(records.load(one).steps[1]) for one in kept]
    assert intervals == [4, 3, 2, 1]


def test_other_columns_do_not_go_on(tmp_path):
    model = make_model()
    fit(model, GradientNormLogger(path=tmp_path / "run.csv"))
    with pytest.warns(UserWarning, match="it is from another run"):
        fit(model, GradientNormLogger(path=tmp_path / "run.csv", also="norm_1"))
    assert "gradient_norm_1" in records.load(tmp_path / "run.csv").quantities
    with pytest.raises(ValueError, match=r"run.csv cannot be continued: columns gradient_norm_1"):
        fit(model, GradientNormLogger(path=tmp_path / "run.csv", append=True))


@pytest.mark.parametrize("accumulate", [None, 4])
def test_steps_that_make_no_update_count_too(accumulate):
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=accumulate)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1e38)
    model, logger = make_model(optimizer), GradientNormLogger()
    fit(model, logger)
    fit(model, logger)
    np.testing.assert_array_equal(logger.steps, np.arange(STEPS, 2 * STEPS))


def test_every_nth_step_of_the_whole_training():
    model, logger = make_model(), GradientNormLogger(every=4)
    fit(model, logger)
    np.testing.assert_array_equal(logger.steps, [0, 4])
    fit(model, logger)
    np.testing.assert_array_equal(logger.steps, [8])


def test_every_trial_has_a_file_of_its_own(tmp_path):
    for number in range(3):
        logger = GradientNormLogger(path=tmp_path / "run-{trial}.csv")
        fit(make_model(), logger)
        assert logger.file == tmp_path / f"run-{number}.csv"
    named = GradientNormLogger(path=lambda model: tmp_path / f"{model.layers[0].units}.csv")
    fit(make_model(), named)
    assert named.file == tmp_path / "4.csv"
    assert all(len(records.load(path).steps) == STEPS for path in tmp_path.iterdir())


def test_what_was_fitted_can_be_copied_and_pickled_and_fits_again(tmp_path):
    logger = GradientNormLogger(
        path=tmp_path / "run-{trial}.csv", log_dir=tmp_path / "logs", also="activations"
    )
    alerts, table = (
        GradientAlerts(logger, vanishing=10.0, patience=1, exploding=None),
        GradientTable(logger),
    )
    model = make_model()
    with pytest.warns(UserWarning, match="Gradients vanish"):
        fit(model, logger, alerts, table)
    for made in (
        copy.deepcopy([logger, alerts, table]),
        pickle.loads(pickle.dumps([logger, alerts, table])),
    ):
        np.testing.assert_array_equal(made[0].record.values, logger.record.values)
        assert made[0].layer_names == logger.layer_names
        assert made[1].alerts == alerts.alerts
        with pytest.warns(UserWarning, match="Gradients vanish"):
            fit(make_model(), *made)
        np.testing.assert_array_equal(made[0].norms, logger.norms)
    fit(model, logger)  # which has not lost anything by being copied
    np.testing.assert_array_equal(logger.steps, np.arange(STEPS, 2 * STEPS))


def test_a_copied_annealing_fits_again():
    annealing = SurrogateAnnealing(constant)
    for callback in (annealing, copy.deepcopy(annealing), pickle.loads(pickle.dumps(annealing))):
        model = keras.Sequential(
            [keras.Input((6,)), SurrogateActivation("relu", "softplus"), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        fit(model, callback)
        copy.deepcopy(callback)
        assert callback.blend == 0.5


def constant(step):
    return 0.5


def test_trainable_that_was_changed_after_compiling_is_warned_of():
    model = make_model()
    fit(model)
    fit(model, GradientNormLogger())  # Nothing was changed.
    model.get_layer("a").trainable = False
    with pytest.warns(
        UserWarning, match=r"`trainable` was changed for .*a/kernel.*Call model.compile"
    ):
        fit(model, GradientNormLogger())
    model.compile("adam", "mse")
    fit(model, GradientNormLogger())
