"""Firing, slopes and gradients over time of spiking layers: against NumPy; alerts, pictures, diagnosis."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import diagnosis, functions, layers, plots, thresholds
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger
from keras_surrogate.layers import firing, neurons

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 10, 6)).astype("float32")
Y = RANDOM.normal(size=(24, 2)).astype("float32")
STEPS = 10


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def make_model(unroll=None, **options):
    keras.utils.set_random_seed(1)
    cell = layers.SpikingCell(7, neurons.LIFNeuron(leak=0.8), name="cell")
    potential = options.get("return_potential", False)
    inputs = keras.Input((None if unroll is False else STEPS, 6))
    x = keras.layers.Dense(9, kernel_initializer="he_normal", name="first")(inputs)
    x = layers.LIF(0.9, unroll=unroll, name="hidden", **options)(x)
    x = x[0] if potential else x
    x = keras.layers.Dense(7, kernel_initializer="he_normal", name="second")(x)
    x = keras.layers.RNN(cell, return_sequences=True, name="loop")(x)
    x = keras.layers.Dense(2, name="third")(x)
    x = layers.LI(0.9, name="readout")(x)
    return keras.Model(inputs, layers.LastPotential(name="last")(x))


def numpy_lif(currents, leak=0.9):
    """Spikes, and slopes at the threshold over their largest, which is 1."""
    u = np.zeros_like(currents[:, 0], float)
    spikes, slopes = [], []
    for t in range(currents.shape[1]):
        v = leak * u + currents[:, t]
        s = (v >= 1).astype(float)
        u = v - s
        spikes.append(s)
        slopes.append(1 / (1 + (np.pi * (v - 1)) ** 2))
    return np.stack(spikes, 1), np.stack(slopes, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_potential": True},
        {"unroll": False},
        pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_against_numpy(options):
    compiled = {"jit_compile": options.pop("jit_compile", False)}
    twin, model = make_model(**options), make_model(**options)
    logger = GradientNormLogger(also=("spikes", "slopes", "time"))
    for one in (twin, model):
        one.compile(keras.optimizers.SGD(0.05), "mse", **compiled)
    arguments = {"batch_size": 8, "epochs": 1, "shuffle": False, "verbose": 0}
    model.fit(X, Y, callbacks=[logger], **arguments)
    record = logger.record
    assert record.names("firing_rate") == ("hidden", "loop")
    assert record.names("silent_units") == record.names("always_firing_units") == ("hidden", "loop")
    assert record.names("large_slopes") == ("hidden",)

    first = keras.Model(twin.input, twin.get_layer("first").output)
    for row, start in enumerate(range(0, 24, 8)):
        x, y = X[start : start + 8], Y[start : start + 8]
        spikes, slopes = numpy_lif(first.predict(x, verbose=0))
        assert 0.05 < spikes.mean() < 0.9
        found = {name: record[name][row, 0] for name in record.quantities if "[" not in name}
        assert found["firing_rate"] == pytest.approx(spikes.mean(), abs=1e-6)
        silent = np.mean(~spikes.any((0, 1)))
        assert found["silent_units"] == pytest.approx(silent)
        assert found["always_firing_units"] == pytest.approx(np.mean(spikes.all((0, 1))))
        assert found["large_slopes"] == pytest.approx(np.mean(slopes >= 0.1), abs=1e-3)
        for layer, place in (("hidden", 0), ("loop", 1), ("readout", 2)):
            expected = current_deltas(twin, layer, x, y)[[0, STEPS // 2, STEPS - 1]]
            got = [
                record[f"current_delta_norm[{when}]"][row, place]
                for when in ("first", "middle", "last")
            ]
            np.testing.assert_allclose(got, expected, 1e-3)
        twin.train_on_batch(x, y)
    # The readout forgets: a step back in time is a factor of 0.9.
    assert got[0] == pytest.approx(0.9 ** (STEPS - 1) * got[2], rel=1e-3)


def current_deltas(model, name, x, y):
    """The norm of the gradient of a layer's currents in each step, by a plain tape."""
    layer = model.get_layer(name)
    before = keras.Model(model.input, layer.input)
    with tf.GradientTape() as tape:
        currents = tf.convert_to_tensor(before(x))
        tape.watch(currents)
        after = model.layers[model.layers.index(layer) :]
        signal = currents
        for one in after:
            signal = one(signal)
            signal = signal[0] if isinstance(signal, tuple) else signal
        loss = tf.reduce_mean((signal - y) ** 2)
    delta = tape.gradient(loss, currents).numpy()
    return np.sqrt((delta**2).sum((0, 2)))


def test_silent_and_always_firing_units():
    """Three channels by hand: one never fires, one always, one now and then."""
    currents = np.zeros((2, 4, 5, 3), "float32")
    currents[..., 1] = 2
    currents[0, 2, 3, 2] = 2
    model = keras.Sequential([keras.Input((4, 5, 3)), layers.LIF(name="a", learn_threshold="unit")])
    model.compile("sgd", "mse")
    logger = GradientNormLogger(also="spikes")
    model.fit(currents, np.zeros((2, 4, 5, 3)), verbose=0, callbacks=[logger])
    assert logger.record["silent_units"][0, 0] == pytest.approx(1 / 3)
    assert logger.record["always_firing_units"][0, 0] == pytest.approx(1 / 3)
    assert logger.record["firing_rate"][0, 0] == pytest.approx(41 / 120)


@pytest.mark.parametrize("learn", [False, "unit"])
@pytest.mark.parametrize("backwards", [False, True])
def test_large_slopes_of_every_neuron(backwards, learn):
    """The slope that the layer's own gradient has, from a neuron without memory."""
    currents = RANDOM.normal(1, 1, (3, 4, 5)).astype("float32")
    for cls in (layers.LIF, layers.SynapticLIF, layers.ALIF):
        layer = cls(
            leak=0.0,
            reset="none",
            surrogate=ks.Surrogate("step", functions.FastSigmoid(2.0)),
            go_backwards=backwards,
            learn_threshold=learn,
        )
        layer(currents)
        large = firing.large_slopes(layer, tf.constant(currents)).numpy()
        if backwards:
            large = large[:, ::-1]
        if cls is layers.LIF:
            np.testing.assert_array_equal(large, (1 + 2 * np.abs(currents - 1)) ** -2 >= 0.1)
        assert 0 < large.mean() < 1


@pytest.mark.parametrize("backwards", [False, True])
def test_large_slopes_of_padded_steps_do_not_count(backwards):
    """Padding of -1 would lower the potentials of the steps after it."""
    currents = np.full((1, 7, 2), 0.1, "float32")
    padded = currents.copy()
    padded[:, :3] = -1
    layer = layers.LIF(leak=1.0, surrogate="superspike", go_backwards=backwards)
    layer.build(currents.shape)
    mask = tf.constant([[False] * 3 + [True] * 4])
    alone = firing.large_slopes(layer, tf.constant(currents[:, 3:]))
    found = firing.large_slopes(layer, tf.constant(padded), mask)
    np.testing.assert_array_equal(found, tf.reshape(alone, [4, 2]))

    # The logger passes the mask on.
    last = keras.layers.Dense(1)
    model = keras.Sequential(
        [keras.Input((7, 2)), keras.layers.Masking(-1.0), layer, layers.SpikeCount(), last]
    )
    model.compile("sgd", "mse")
    logger = GradientNormLogger(also="slopes")
    model.fit(padded, np.zeros((1, 1)), verbose=0, callbacks=[logger])
    assert logger.record["large_slopes"][0, 0] == pytest.approx(np.mean(alone))


class TwoThresholds(layers.neurons.SpikingNeuron):
    """Spikes of 1 and of -1."""

    def step(self, state, current):
        potential = state[0] + current
        up = self.fired(potential - self.threshold)
        down = self.fired(-potential - self.threshold)
        return (potential - up + down,), up - down


class NoThreshold(layers.neurons.SpikingNeuron):
    """A neuron that never asks whether it fires."""

    def step(self, state, current):
        return state, current


@pytest.mark.parametrize(
    ("neuron", "expected"), [(TwoThresholds(), 1.0), (NoThreshold(), float("nan"))]
)
def test_large_slopes_of_a_neuron_of_ones_own(neuron, expected):
    spiking = layers.Spiking(neuron)
    last = keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((3, 2)), spiking, layers.SpikeCount(), last])
    model.compile("sgd", "mse")
    logger = GradientNormLogger(also="slopes")
    x = np.array([[[0.9, -0.9], [0, 0], [0, 0]]])
    model.fit(x, np.zeros((1, 1)), verbose=0, callbacks=[logger])
    np.testing.assert_equal(logger.record["large_slopes"], [[expected]])


def test_models_without_spikes_have_no_columns():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    logger = GradientNormLogger(also=("spikes", "slopes", "time"))
    model.fit(X[:, 0], Y, verbose=0, callbacks=[logger])
    assert logger.record.quantities == ("gradient_norm",)


# ------------------------------------------------------------------------------------- alerts


def spiking(gain, depth=3, bias="zeros"):
    keras.utils.set_random_seed(0)
    made = [keras.Input((10, 6))]
    for number in range(depth):
        weights = keras.initializers.VarianceScaling(gain)
        made.append(keras.layers.Dense(16, kernel_initializer=weights, bias_initializer=bias))
        made.append(layers.LIF(name=f"neurons_{number}"))
    made += [keras.layers.Dense(2), layers.LI(), layers.LastPotential()]
    model = keras.Sequential(made)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("silent", lambda: spiking(1e-6)),
        ("always_firing", lambda: spiking(1e-6, bias=keras.initializers.Constant(5.0))),
    ],
)
def test_alerts(kind, model):
    model = model()
    logger = GradientNormLogger(also="spikes")
    alerts = GradientAlerts(logger, vanishing=None, zero=False)
    with pytest.warns(UserWarning, match="SustainedActivity"):
        model.fit(X, Y, verbose=0, epochs=2, callbacks=[logger, alerts])
    kinds = {alert.kind for alert in alerts.alerts}
    assert kinds == {kind}
    # Each layer once, although it lasts.
    layer_names = [alert.layer for alert in alerts.alerts]
    assert len(layer_names) == len(set(layer_names)) == 3
    assert alerts.alerts[0].value == 1
    quiet = GradientAlerts(logger, vanishing=None, zero=False, **{kind: None})
    model.fit(X, Y, verbose=0, callbacks=[logger, quiet])
    assert quiet.alerts == []


def test_no_alert_for_healthy_spikes():
    model = spiking(3.0)
    logger = GradientNormLogger(also="spikes")
    alerts = GradientAlerts(logger)
    model.fit(X, Y, verbose=0, epochs=3, callbacks=[logger, alerts])
    assert alerts.alerts == []
    with pytest.raises(ValueError, match="silent must be above 0 and at most 1"):
        GradientAlerts(logger, silent=2.0)


# ----------------------------------------------------------------------------------- diagnosis


def found(model):
    result = diagnosis.diagnose(model, X, Y)
    return result, [finding.kind for finding in result.findings]


def test_a_healthy_spiking_model_has_no_finding():
    result, kinds = found(spiking(3.0))
    assert kinds == []
    rows = {row.layer: row for row in result.rows}
    assert 0.05 < rows["neurons_1"].firing_rate < 0.6
    assert rows["neurons_1"].dead_units < thresholds.SILENT
    assert rows["neurons_1"].saturated < thresholds.FIRING
    assert rows["dense_1" if "dense_1" in rows else result.rows[0].layer].firing_rate is None
    assert "firing" in result.legend


def test_a_silent_model():
    result, kinds = found(spiking(1e-6))
    assert kinds == ["silent_layer"]
    (finding,) = result.findings
    assert finding.severity == 3
    assert finding.layer == "neurons_0"
    assert len(finding.layers) == 3
    assert "100% of the units of neurons_0 never fire; no spike leaves neurons_0" in finding.message
    assert any("SustainedActivity" in line for line in finding.advice)


def test_a_model_that_always_fires():
    result, kinds = found(spiking(1e-6, bias=keras.initializers.Constant(5.0)))
    assert "always_firing" in kinds
    finding = next(one for one in result.findings if one.kind == "always_firing")
    assert "fire in every time step of every example" in finding.message


# ------------------------------------------------------------------------------------ pictures


def test_raster():
    spikes = np.zeros((2, 4, 3))
    spikes[1, 2, 0] = spikes[1, 3, 2] = 1
    ax = plots.raster(spikes, example=1)
    offsets = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_array_equal(offsets, [[2, 0], [3, 2]])
    assert "0.167" in ax.get_title()
    alone = plots.raster(spikes[1])
    np.testing.assert_array_equal(np.asarray(alone.collections[0].get_offsets()), offsets)


def test_raster_with_potentials():
    layer = layers.LIF(return_potential=True)
    spikes, potentials = layer(RANDOM.normal(0.3, 1, (2, 20, 30)))
    ax = plots.raster(spikes, potentials, threshold=1.0)
    assert len(ax.collections) == 10
    assert len(ax.get_lines()) == 20
    assert "10 of 30 units" in ax.get_title()
    busiest = set(np.argsort(-np.sum(spikes[0], axis=0), kind="stable")[:10])
    assert {int(label.get_text()) for label in ax.get_yticklabels()} == busiest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), "must have the shape"),
        ((np.zeros((0, 3)),), "must have the shape"),
        ((np.zeros((2, 3, 4)), np.zeros((2, 4, 4))), "the same shape"),
        ((np.zeros((2, 3)), None, 1.0), "a threshold needs potentials"),
        ((np.zeros((2, 3, 4)), None, None, None, 5), "there are 2 examples"),
        ((np.full((2, 3), np.nan),), "spikes must be finite"),
        ((np.zeros((2, 3)), np.full((2, 3), np.inf)), "potentials must be finite"),
    ],
)
def test_raster_of_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.raster(*arguments)


def test_firing_rates_and_overview():
    model = spiking(3.0)
    logger = GradientNormLogger(also=("spikes", "slopes", "time"))
    model.fit(X, Y, verbose=0, epochs=2, callbacks=[logger])
    ax = plots.firing_rates(logger)
    drawn = np.stack([line.get_ydata() for line in ax.get_lines()[:3]], axis=1)
    np.testing.assert_allclose(drawn, logger.record["firing_rate"])
    assert len(plots.overview(logger)) == 8
    plain = GradientNormLogger()
    model.fit(X, Y, verbose=0, callbacks=[plain])
    with pytest.raises(ValueError, match='also="spikes"'):
        plots.firing_rates(plain)
