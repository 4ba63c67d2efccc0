"""Others' loggers, in their offline modes, and KerasHub's backbones; skipped where they are not installed."""

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import conversion, records
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger

# Their own affairs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 4)).astype("float32"), RANDOM.normal(size=(40, 3)).astype("float32")
LOGGED = (
    "gradient_norm/global",
    "gradient_norm/encoder/dense",
    "gradient_norm/last",
    "gradient_norm/nonfinite_steps",
)


def fit(*callbacks):
    encoder = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, "tanh", name="dense")], name="encoder"
    )
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
    history = fit(
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wandb_run.log(logs))
    )
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
        yield lambda name: _in_order(
            mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
        )
    mlflow.set_tracking_uri(before)


def _in_order(metrics):
    return [metric.value for metric in sorted(metrics, key=lambda metric: metric.step)]


def test_mlflow_by_its_own_callback(mlflow_metrics):
    history = fit(sys.modules["mlflow"].keras.MlflowCallback())
    for name in LOGGED:
        np.testing.assert_allclose(mlflow_metrics(name), history[name])


def test_mlflow_by_two_lines(mlflow_metrics):
    mlflow = sys.modules["mlflow"]
    history = fit(
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: mlflow.log_metrics(logs, step=epoch)
        )
    )
    for name in LOGGED:
        np.testing.assert_allclose(mlflow_metrics(name), history[name])


SIZES = {
    "vocabulary_size": 50,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
}
TOKENS = np.arange(8)[None]


def backbone(name, **options):
    return getattr(pytest.importorskip("keras_hub").models, name)(**{**SIZES, **options})


def backbones():
    """For each name: what makes the backbone, its activation, its inputs."""
    texts = {"token_ids": TOKENS, "segment_ids": 0 * TOKENS, "padding_mask": 1 + 0 * TOKENS}
    images = {"image_shape": (16, 16, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2}
    return {
        "BertBackbone": ({**SIZES, "max_sequence_length": 8}, "gelu_approximate", texts),
        "GPT2Backbone": ({**SIZES, "max_sequence_length": 8}, "gelu_approximate", texts),
        "ViTBackbone": (
            {**images, "hidden_dim": 16, "mlp_dim": 32},
            "gelu",
            RANDOM.normal(size=(1, 16, 16, 3)),
        ),
    }


def gradients(model, x):
    with tf.GradientTape() as tape:
        (*_, outputs) = keras.tree.flatten(model(x))
        loss = tf.reduce_sum(outputs[:, 0] * tf.cos(tf.range(float(outputs.shape[-1]))))
    found = tape.gradient(loss, model.trainable_variables)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found if gradient is not None]


@pytest.mark.parametrize("name", backbones())
def test_a_backbone_takes_surrogates_and_gives_them_back(name, tmp_path):
    sizes, activation, x = backbones()[name]
    model = getattr(pytest.importorskip("keras_hub").models, name)(**sizes)
    if isinstance(x, dict):
        x = {key: x[key] for key in model.input}
    swapped = conversion.swap(model, {activation: "leaky_relu"})
    for outputs, kept in zip(
        *(keras.tree.flatten(each(x)) for each in (model, swapped)), strict=True
    ):
        np.testing.assert_allclose(kept, outputs, rtol=1e-5, atol=1e-5)
    (true, artificial) = (
        np.concatenate([each.ravel() for each in gradients(m, x)]) for m in (model, swapped)
    )
    assert np.linalg.norm(artificial - true) > 1e-3 * np.linalg.norm(true)
    report = str(conversion.report(swapped))
    assert (
        "a .keras file creates the old one; use save_weights, and swap again before load_weights"
        in report
    )
    swapped.save_weights(tmp_path / "model.weights.h5")
    conversion.swap(model, {activation: "leaky_relu"}).load_weights(tmp_path / "model.weights.h5")
    stripped = conversion.strip(swapped)
    assert (type(stripped), stripped.get_config()) == (type(model), model.get_config())
    for gradient, same in zip(gradients(model, x), gradients(stripped, x), strict=True):
        np.testing.assert_allclose(same, gradient, rtol=1e-4, atol=1e-6)


def test_a_function_that_only_a_backbone_has_is_listed_and_may_be_the_key():
    model = backbone("BertBackbone", max_sequence_length=8)
    listed = r"gelu_approximate \(4\), tanh \(1\)\. Did you mean 'gelu_approximate'"
    with pytest.raises(
        ValueError, match=rf"no activation 'gelu' that swap can reach, but {listed}"
    ):
        conversion.swap(model, {"gelu": "leaky_relu"})
    function = model.get_layer("transformer_layer_0").activation
    for key in (function, "keras_hub>gelu_approximate"):
        assert len(conversion.report(conversion.swap(model, {key: "leaky_relu"})).changes) == 4


@pytest.mark.parametrize("form", ["surrogate", "dictionary"])
def test_a_backbone_is_made_with_a_surrogate_saved_and_loaded(form, tmp_path):
    pair = ks.get("sugar_bsilu")
    dictionary = json.loads(json.dumps(keras.saving.serialize_keras_object(pair)))
    model = backbone("ESMBackbone", activation=pair if form == "surrogate" else dictionary)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = {"token_ids": TOKENS}
    np.testing.assert_array_equal(loaded(x), model(x))
    plain = backbone("ESMBackbone", activation="relu")
    plain.set_weights(model.get_weights())
    for gradient, same in zip(gradients(model, x), gradients(loaded, x), strict=True):
        np.testing.assert_array_equal(same, gradient)
    kernels = [np.linalg.norm(gradients(each, x)[0]) for each in (loaded, plain)]
    assert abs(kernels[0] - kernels[1]) > 1e-3 * kernels[1]


def test_keras_tuner_gives_each_trial_its_own_file(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")

    def build(parameters):
        units = parameters.Int("units", 2, 9)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(units, "tanh"), keras.layers.Dense(3)]
        )
        model.compile("sgd", "mse")
        return model

    tuner = keras_tuner.RandomSearch(
        build, objective="loss", max_trials=3, directory=tmp_path / "tuner"
    )
    logger = GradientNormLogger(path=tmp_path / "run-{trial}.csv")
    alerts = GradientAlerts(logger, action=print)
    tuner.search(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[logger, alerts])
    files = sorted(tmp_path.glob("*.csv"))
    assert [path.name for path in files] == ["run-0.csv", "run-1.csv", "run-2.csv"]
    for path in files:
        np.testing.assert_array_equal(records.load(path).steps, np.arange(8))


def test_a_vision_transformer_is_seen_block_by_block():
    keras_hub = pytest.importorskip("keras_hub")
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    backbone = keras_hub.models.ViTBackbone(image_shape=(16, 16, 3), patch_size=8, **sizes)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(backbone(inputs)[:, 0]))
    model.compile("sgd", "mse")
    images = RANDOM.normal(size=(8, 16, 16, 3)).astype("float32")
    seen = []
    for depth in (1, 3):
        logger = GradientNormLogger(depth=depth)
        model.fit(images, np.zeros((8, 3)), batch_size=8, verbose=0, callbacks=[logger])
        seen.append([name.removeprefix(f"{backbone.name}/") for name in logger.layer_names])
    assert seen[0] == ["vit_patching_and_embedding", "vit_encoder", "head"]
    blocks = [name for name in seen[1] if "transformer_block" in name]
    parts = ("ln_1", "mha", "ln_2", "mlp")
    assert blocks == [f"vit_encoder/transformer_block_{n}/{part}" for n in (1, 2) for part in parts]
