"""What others' loggers make of Keras's `logs`, in their offline modes; skipped where they are not installed."""

import sys

import keras
import numpy as np
import pytest

from keras_surrogate.callbacks import GradientNormLogger

# Their own affairs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 4)).astype("float32"), RANDOM.normal(size=(40, 3)).astype("float32")
LOGGED = ("gradient_norm/global", "gradient_norm/encoder/dense", "gradient_norm/last", "gradient_norm/nonfinite_steps")


def fit(*callbacks):
    encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "tanh", name="dense")], name="encoder")
    model = keras.Sequential([keras.Input((4,)), encoder, keras.layers.Dense(3, name="last")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    callbacks = [GradientNormLogger(), *callbacks]
    history = model.fit(X, Y, batch_size=10, epochs=3, verbose=0, callbacks=callbacks).history
    assert set(LOGGED) <= set(history)
    return history


@pytest.fixture
def wandb_run(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", project="test", dir=str(tmp_path))
    yield run
    run.finish()


def test_wandb_by_its_own_callback(wandb_run):
    from wandb.integration.keras import WandbMetricsLogger

    history = fit(WandbMetricsLogger())
    for name in LOGGED:
        assert wandb_run.summary[f"epoch/{name}"] == pytest.approx(history[name][-1])


def test_wandb_by_two_lines(wandb_run):
    history = fit(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wandb_run.log(logs)))
    for name in LOGGED:
        assert wandb_run.summary[name] == pytest.approx(history[name][-1])
    assert wandb_run.summary["_step"] == 2


@pytest.fixture
def mlflow_metrics(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    experiment = mlflow.create_experiment("test", artifact_location=tmp_path.as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        yield lambda name: _in_order(mlflow.MlflowClient().get_metric_history(run.info.run_id, name))
    mlflow.set_tracking_uri(before)


def _in_order(metrics):
    return [metric.value for metric in sorted(metrics, key=lambda metric: metric.step)]


def test_mlflow_by_its_own_callback(mlflow_metrics):
    history = fit(sys.modules["mlflow"].keras.MlflowCallback())
    for name in LOGGED:
        np.testing.assert_allclose(mlflow_metrics(name), history[name])


def test_mlflow_by_two_lines(mlflow_metrics):
    mlflow = sys.modules["mlflow"]
    history = fit(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: mlflow.log_metrics(logs, step=epoch)))
    for name in LOGGED:
        np.testing.assert_allclose(mlflow_metrics(name), history[name])
