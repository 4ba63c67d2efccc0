"""Encoders, readouts, and layers applied to all time steps at once."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import layers

LAYERS = {
    layers.ConstantCurrent: {"steps": 3},
    layers.PoissonEncoder: {"steps": 3, "seed": 1},
    layers.LatencyEncoder: {"steps": 3, "threshold": 0.2, "tau": 2.0},
    layers.DeltaEncoder: {"threshold": 0.3, "signed": True},
    layers.SpikeCount: {"average": True},
    layers.LastPotential: {},
    layers.MaxPotential: {},
}
CELL = layers.SpikingCell(3, layers.neurons.LIFNeuron())
X = np.random.default_rng(0).uniform(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize("cls", LAYERS)
def test_config_shapes_dtypes_and_compilers(cls):
    layer = cls(**LAYERS[cls], name="mine")
    config = layer.get_config()
    assert config.items() >= LAYERS[cls].items()
    assert json.loads(json.dumps(config)) == config
    assert cls.from_config(config).get_config() == config
    for policy in ("float32", "mixed_bfloat16", "float64"):
        layer = cls(**LAYERS[cls], dtype=policy)
        symbolic = layer(keras.Input((5, 3)))
        y = layer(X)
        assert y.dtype == symbolic.dtype == layer.compute_dtype
        assert y.shape == layer.compute_output_shape(X.shape) == (2, *symbolic.shape[1:])
    if cls is not layers.PoissonEncoder:
        layer = cls(**LAYERS[cls])
        unknown = [tf.TensorSpec([None, None, 3], tf.float32)]
        np.testing.assert_allclose(tf.function(layer, input_signature=unknown)(X), layer(X), 1e-6)
        np.testing.assert_allclose(tf.function(layer, jit_compile=True)(X), layer(X), 1e-6)


def test_constant_current_repeats_and_sums_the_gradient():
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers.ConstantCurrent(4)(x)
    np.testing.assert_array_equal(y, np.repeat(X[:, None], 4, axis=1))
    np.testing.assert_array_equal(tape.gradient(y, x), np.full(X.shape, 4.0))


def test_poisson_has_its_rates_and_repeats_with_its_seed():
    x = np.array([[0.0, 0.2, 0.7, 1.0, 1.5, -1.0]])
    spikes = np.asarray(layers.PoissonEncoder(4000, seed=3)(x))
    np.testing.assert_allclose(spikes.mean(axis=(0, 1)), [0, 0.2, 0.7, 1, 1, 0], atol=0.04)
    assert set(np.unique(spikes)) == {0, 1}
    assert abs(np.corrcoef(spikes[0, 1:, 1], spikes[0, :-1, 1])[0, 1]) < 0.08
    np.testing.assert_array_equal(layers.PoissonEncoder(4000, seed=3)(x), spikes)
    encoder = layers.PoissonEncoder(4000, seed=3)
    assert np.any(encoder(x) != encoder(x))


def test_linear_latency():
    x = np.array([[1.0, 0.5, 0.02, 0.0, 2.0]])
    spikes = np.asarray(layers.LatencyEncoder(5)(x))[0]
    np.testing.assert_array_equal(spikes.sum(axis=0), [1, 1, 1, 0, 1])
    np.testing.assert_array_equal(spikes.argmax(axis=0)[[0, 1, 2, 4]], [0, 2, 4, 0])


def test_latency_of_a_leaky_neuron():
    """The formula of SpyTorch's current2firing_time."""
    x = np.linspace(0, 1, 101)[None]
    steps, tau, threshold = 60, 20.0, 0.2
    spikes = np.asarray(layers.LatencyEncoder(steps, threshold, tau)(x))[0]
    for value, train in zip(x[0], spikes.T, strict=True):
        value = np.float32(value)
        time = tau * np.log(value / (value - 0.2)) if value > np.float32(0.2) else np.inf
        assert train.sum() == (time < steps)
        if time < steps:
            assert train.argmax() == int(time)


def test_delta():
    x = np.array([0.0, 0.5, 0.5, 0.2, 0.3]).reshape(1, 5, 1)
    rises = layers.DeltaEncoder(0.25)(x)
    np.testing.assert_array_equal(rises[0, :, 0], [0, 1, 0, 0, 0])
    both = layers.DeltaEncoder(0.25, signed=True)(x)
    np.testing.assert_array_equal(both[0, :, 0], [0, 1, 0, -1, 0])


def test_delta_of_padded_steps():
    """Padding before, within and after: only changes between two real steps count."""
    x = np.array([[0, 0, 5, 6, 9, 6, 0], [3, 6, 0, 9, 9, 12, 0]], "float32")[..., None]
    mask = np.array([[0, 0, 1, 1, 1, 1, 0], [1, 1, 0, 1, 1, 1, 0]])
    for kind in ("bool", "int32"):
        spikes = layers.DeltaEncoder(1, signed=True)(x, mask=tf.constant(mask, kind))
        expected = [[0, 0, 0, 1, 1, -1, 0], [0, 1, 0, 0, 0, 1, 0]]
        np.testing.assert_array_equal(spikes[..., 0], expected)


def test_delta_of_integers():
    frames = np.array([250, 2, 3, 255], "uint8").reshape(1, 4, 1)
    spikes = layers.DeltaEncoder(10, signed=True)(frames)
    np.testing.assert_array_equal(spikes[0, :, 0], [0, -1, 0, 1])


def test_encoders_see_the_whole_input_under_mixed_precision():
    signal = np.array([3000, 3000.5, 3001, 3001.5, 1e5, 2e5]).reshape(1, 6, 1)
    likely = np.full((1, 20_000), 0.998)
    early = np.linspace(0.1, 1, 40).reshape(1, 40)
    for layer, x in (
        (layers.DeltaEncoder(0.3, dtype="mixed_float16"), signal),
        (layers.LatencyEncoder(1001, dtype="mixed_bfloat16"), early),
        (layers.PoissonEncoder(5, seed=1, dtype="mixed_bfloat16"), likely),
    ):
        full = type(layer).from_config({**layer.get_config(), "dtype": "float32"})
        np.testing.assert_array_equal(tf.cast(layer(x), "float32"), full(x))


MASK = np.array([[True, True, True, False, False], [False, True, False, True, True]])


def test_readouts():
    np.testing.assert_allclose(layers.SpikeCount()(X), X.sum(axis=1), 1e-6)
    np.testing.assert_allclose(layers.SpikeCount(average=True)(X), X.mean(axis=1), 1e-6)
    np.testing.assert_allclose(layers.LastPotential()(X), X[:, -1])
    np.testing.assert_allclose(layers.MaxPotential()(X), X.max(axis=1))


def test_readouts_leave_masked_steps_out():
    present = [X[0, MASK[0]], X[1, MASK[1]]]
    for layer, expected in (
        (layers.SpikeCount(), np.sum),
        (layers.SpikeCount(average=True), np.mean),
        (layers.LastPotential(), lambda steps, axis: steps[-1]),
        (layers.MaxPotential(), np.max),
    ):
        got = layer(X, mask=tf.constant(MASK))
        np.testing.assert_allclose(got, [expected(steps, axis=0) for steps in present], 1e-6)
        of_numbers = layer(X, mask=tf.constant(MASK, "float32"))
        np.testing.assert_array_equal(of_numbers, got)


@pytest.mark.parametrize("cls", [layers.SpikeCount, layers.LastPotential, layers.MaxPotential])
def test_a_sample_that_is_masked_altogether_gives_0(cls):
    mask = tf.constant([[False] * 5, [True] * 5])
    y = cls()(X, mask=mask)
    np.testing.assert_array_equal(y[0], np.zeros(3))
    assert np.all(y[1] > 0)


# ------------------------------------------------------------------------------------------ OverTime


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: keras.layers.Dense(4), (3,)),
        (lambda: keras.layers.Conv2D(2, 3, padding="same"), (6, 5, 2)),
        (lambda: keras.layers.MaxPooling2D(), (6, 4, 2)),
        (lambda: keras.layers.Flatten(), (3, 2)),
        (lambda: keras.layers.LayerNormalization(), (4,)),
    ],
)
def test_over_time_is_the_layer_at_each_step(make, shape, tmp_path):
    x = np.random.default_rng(1).normal(size=(2, 4, *shape)).astype("float32")
    model = keras.Sequential([keras.Input((None, *shape)), layers.OverTime(make())])
    inner = model.layers[0].layer
    expected = np.stack([inner(x[:, t]) for t in range(4)], axis=1)
    assert model.output_shape[2:] == expected.shape[2:]
    np.testing.assert_allclose(model(x), expected, 1e-5, 1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, 1e-5, 1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_over_time_passes_training_on():
    layer = layers.OverTime(keras.layers.Dropout(0.5, seed=1))
    x = np.ones((2, 50, 3))
    np.testing.assert_array_equal(layer(x), x)
    dropped = np.asarray(layer(x, training=True))
    assert 0.2 < np.mean(dropped == 0) < 0.8
    # Each step has a drawing of its own.
    assert np.any(dropped[:, 0] != dropped[:, 1])


@pytest.mark.parametrize("outer", ["float32", "mixed_float16"])
@pytest.mark.parametrize("inner", ["float32", "mixed_float16"])
def test_over_time_has_the_dtype_that_keras_tells(inner, outer):
    layer = layers.OverTime(keras.layers.Dense(2, dtype=inner), dtype=outer)
    model = keras.Sequential([keras.Input((5, 3)), layer])
    assert model.outputs[0].dtype == layer(X).dtype.name == layer.compute_dtype


def test_normalisation_over_time_leaves_masked_steps_out():
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype("float32")
    x[~MASK] = 1000
    layer = layers.OverTime(keras.layers.BatchNormalization(momentum=0.0))
    layer(x, training=True, mask=tf.constant(MASK))
    np.testing.assert_allclose(layer.layer.moving_mean, x[MASK].mean(axis=0), 1e-4)
    np.testing.assert_allclose(layer.layer.moving_variance, x[MASK].var(axis=0), 1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.ConstantCurrent(0), "ConstantCurrent: steps must be an integer"),
        (lambda: layers.LatencyEncoder(3, -1), "threshold must be a number of at least 0"),
        (lambda: layers.LatencyEncoder(3, 0, tau=1.0), "above 0 with tau"),
        (lambda: layers.LatencyEncoder(3, tau=0), "tau must be a positive number or None"),
        (lambda: layers.DeltaEncoder(0), "threshold must be a positive number"),
        (lambda: layers.DeltaEncoder(signed=1), "signed must be True or False"),
        (lambda: layers.SpikeCount(average=2), "average must be True or False"),
        (lambda: layers.MaxPotential()(np.zeros((2, 0, 3))), "at least one time step"),
        (lambda: layers.MaxPotential()(np.zeros(2)), r"\(batch, time, ...\)"),
        (lambda: layers.OverTime("dense"), "needs a Keras layer.*got 'dense'"),
        (lambda: layers.OverTime(keras.layers.Dense(2))(np.zeros((2, 3))), "ConstantCurrent"),
        (lambda: layers.OverTime(layers.LIF()), "LIF runs over the time axis by itself"),
        (lambda: layers.OverTime(layers.SpikeCount()), "SpikeCount runs over the time axis"),
        (lambda: layers.OverTime(layers.ConstantCurrent(3)), "ConstantCurrent runs over"),
        (lambda: layers.OverTime(keras.layers.RNN(CELL)), "RNN runs over the time axis"),
        (lambda: layers.SpikeCount()(layers.LIF(return_potential=True)(X)), "take one output"),
        (lambda: layers.DeltaEncoder()(layers.LIF(return_potential=True)(X)), "one tensor"),
        (lambda: layers.LIF()(layers.LIF(return_potential=True)(X)), "LIF needs one tensor"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()
