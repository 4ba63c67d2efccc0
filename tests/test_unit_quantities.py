"""Dormant units, effective ranks and growing weights agree with NumPy, in every mode."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import diagnosis, plots, thresholds
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.recording.unit_quantities import UnitScores

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 6)).astype("float32")
Y = RANDOM.normal(size=(80, 2)).astype("float32")
BATCH = 40


def make_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", name="relu"),
            keras.layers.Dense(5, "gelu", name="gelu"),
            keras.layers.Reshape((5, 1), name="reshape"),
            keras.layers.Conv1D(4, 2, activation="tanh", name="conv"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(2, name="head"),
        ]
    )
    # One dead unit, and a small one.
    kernel, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel * [1, 1, 0, 0.01, 1, 1, 1, 1], bias - np.eye(8)[2]])
    return model


def outputs(model, x):
    found = {}
    for layer in model.layers:
        x = layer(x)
        found[layer.name] = x.numpy()
    return found, x


def twin(epochs):
    """Outputs before, and weights after, each step of the same training by a tape."""
    model, optimizer = make_model(), keras.optimizers.Adam(0.05)
    for start in [*range(0, len(X), BATCH)] * epochs:
        x, y = X[start : start + BATCH], Y[start : start + BATCH]
        with tf.GradientTape() as tape:
            found, predicted = outputs(model, x)
            loss = tf.reduce_mean(tf.square(predicted - y))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [one.value for one in weights]), weights)
        yield found, {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


STEPS = list(twin(2))
LAYERS = ["relu", "gelu", "conv", "head"]
ALSO = ("dormant", "effective_rank", "weight_growth")


@pytest.fixture(
    scope="module",
    params=[
        {"jit_compile": False},
        {"jit_compile": True},
        {"steps_per_execution": 2},
        {"run_eagerly": True},
    ],
    ids=str,
)
def record(request):
    model, logger = make_model(), GradientNormLogger(also=ALSO)
    model.compile(keras.optimizers.Adam(0.05), "mse", **request.param)
    model.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, callbacks=[logger])
    return logger.record


def sizes(output):
    return np.abs(output.astype("float64")).reshape(-1, output.shape[-1]).mean(axis=0)


def test_dormant_units(record):
    assert record.names("dormant_units") == tuple(LAYERS)
    for row, (found, _) in zip(record["dormant_units"], STEPS, strict=True):
        expected = []
        for name in LAYERS:
            size = sizes(found[name])
            expected.append(np.mean(size / size.mean() <= 0.025))
        np.testing.assert_allclose(row, expected)
    # The dead unit and the small one.
    assert record["dormant_units"][0, 0] == 2 / 8


def test_scores_over_an_epoch(record):
    shares = np.stack([record[f"unit_scores[{label}]"] for label in UnitScores.labels], axis=-1)
    np.testing.assert_allclose(shares.sum(axis=-1), 1)
    assert shares.shape == (4, len(LAYERS), 8)
    for step in range(4):
        since = range(step - step % 2, step + 1)
        for place, name in enumerate(LAYERS):
            size = np.sum([sizes(STEPS[one][0][name]) for one in since], axis=0)
            score = size / size.mean()
            edges = [-np.inf, 0, 0.025, 0.1, 0.25, 0.5, 1, 2, np.inf]
            # np.histogram counts an edge above, these bins below.
            expected = -np.histogram(-score, -np.array(edges[::-1]))[0][::-1] / -len(score)
            np.testing.assert_allclose(shares[step, place], expected)
    assert shares[0, 0, 0] == shares[0, 0, 1] == 1 / 8


def test_effective_rank(record):
    assert set(record.names("effective_rank")) == {*LAYERS, "reshape", "flatten"}
    for row, (found, _) in zip(record["effective_rank"], STEPS, strict=True):
        expected = []
        for name in record.names("effective_rank"):
            matrix = found[name].reshape(BATCH, -1).astype("float64")
            values = np.linalg.svd(matrix, compute_uv=False)
            shares = values[values > 0] / values.sum()
            expected.append(np.exp(-np.sum(shares * np.log(shares))))
        np.testing.assert_allclose(row, expected, rtol=1e-3)


def test_growth_of_weights(record):
    norms = [
        [np.linalg.norm(np.concatenate([one.ravel() for one in weights[name]])) for name in LAYERS]
        for _, weights in STEPS
    ]
    np.testing.assert_allclose(record["weight_norm"], norms, rtol=1e-4)
    np.testing.assert_allclose(
        record.total("weight_norm"), np.linalg.norm(norms, axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(record["weight_growth"], np.array(norms) / norms[0], rtol=1e-4)


def test_growth_begins_anew_with_each_fit():
    model, logger = make_model(), GradientNormLogger(also="weight_growth")
    model.compile(keras.optimizers.Adam(0.05), "mse")
    for _ in range(2):
        history = model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger]).history
        assert logger.record["weight_growth"][0].tolist() == [1, 1, 1, 1]
        assert logger.record["weight_growth"][1].max() > 1.01
        assert history["weight_growth/head"] == [logger.record["weight_growth"][1, 3]]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_zeros_and_nan(bad, jit_compile):
    model, logger = make_model(), GradientNormLogger(also=ALSO)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    # Not those of the rectifier, which may make 0 of NaN.
    model.layers[1].set_weights([np.full((8, 5), bad), np.full(5, bad)])
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    first = {name: logger.record[name][0, 1] for name in logger.record.quantities}
    assert np.isnan(first["effective_rank"])
    np.testing.assert_equal(first["dormant_units"], np.nan if bad else 1.0)
    np.testing.assert_equal(first["unit_scores[0]"], np.nan if bad else 1.0)


def test_channels_first_and_two_replicas(two_replicas):
    with two_replicas.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu", name="relu")])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    logger = GradientNormLogger(also=ALSO)
    model.fit(X, np.zeros((80, 8)), batch_size=80, shuffle=False, verbose=0, callbacks=[logger])
    size = sizes(model.predict(X, verbose=0))
    expected = np.mean(size <= 0.025 * size.mean())
    assert logger.record["dormant_units"][0, 0] == expected
    assert 1 < logger.record["effective_rank"][0, 0] <= 8

    layer = keras.layers.ReLU()
    layer.data_format = "channels_first"
    from keras_surrogate.recording.unit_quantities import unit_sizes

    assert unit_sizes(layer, [tf.ones([2, 3, 4, 5])]).shape == [3]


def test_diagnose_counts_dormant_units():
    model = make_model()
    rows = {row.layer: row for row in diagnosis.diagnose(model, X).rows}
    found, _ = outputs(model, X)
    for name in ("relu", "gelu", "conv"):
        size = sizes(found[name])
        share = np.mean(size <= thresholds.DORMANT * size.mean())
        assert rows[name].dormant_units == pytest.approx(share)
    assert rows["relu"].dormant_units == 0.25
    assert rows["head"].dormant_units is None


def test_pictures(tmp_path):
    model, logger = make_model(), GradientNormLogger(also=ALSO)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(X, Y, batch_size=BATCH, epochs=3, verbose=0, callbacks=[logger])
    ax = plots.unit_scores(logger)
    widths = np.array([patch.get_width() for patch in ax.patches]).reshape(8, 4)
    np.testing.assert_allclose(widths.sum(axis=0), 1)
    assert widths[0, 0] == logger.record["unit_scores[0]"][-1, 0] == 1 / 8
    assert len(plots.unit_scores(logger, layer="gelu").patches) == 3 * 8
    for quantity in ("dormant_units", "effective_rank", "weight_growth"):
        plots.over_time(logger, quantity)
    plots.save(plots.unit_scores(logger, epoch=0), tmp_path / "units.png")
    with pytest.raises(ValueError, match="No layer 'gellu' was recorded"):
        plots.unit_scores(logger, layer="gellu")
    with pytest.raises(ValueError, match="not both"):
        plots.unit_scores(logger, layer="gelu", epoch=0)
    other = GradientNormLogger()
    model.fit(X, Y, verbose=0, callbacks=[other])
    with pytest.raises(ValueError, match='also="dormant"'):
        plots.unit_scores(other)
