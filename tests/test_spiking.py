"""Layers of spiking neurons: their equations, in every mode, with masks, state, learned parameters and files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import layers
from keras_surrogate.layers import neurons
from keras_surrogate.testing import roundtrip

LAYERS = (layers.IF, layers.LIF, layers.SynapticLIF, layers.ALIF, layers.LI)
RESETS = ("subtract", "zero", "none")

every_layer = pytest.mark.parametrize("cls", LAYERS)

CURRENTS = np.random.default_rng(0).normal(0.25, 0.6, (3, 9, 4))
UPSTREAM = np.random.default_rng(1).normal(size=CURRENTS.shape)


class Leaky(neurons.Neuron):
    """A neuron of one's own: rectified, with a learned leak."""

    leak: float = neurons.fraction(default=0.9)

    def step(self, state, current):
        (potential,) = state
        potential = self.leak * potential + current
        return (potential,), tf.nn.relu(potential)


def value_and_gradients(function, x, upstream=UPSTREAM, weights=()):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    sources = [x, *(weight.value for weight in weights)]
    return y, *tape.gradient(y, sources, tf.cast(upstream, y.dtype))


def assert_same(got, expected, rtol=1e-5, atol=1e-6):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol, atol)


# ------------------------------------------------------------------------------------------ the
# equations, written once more in NumPy, forwards and backwards


def numpy_lif(currents, upstream, leak, threshold, reset, delay, detach):
    """Spikes, and the gradient of sum(upstream * spikes) by the chain rule, one number at a time."""
    batch, steps, units = currents.shape
    spikes, gradient = np.zeros_like(currents), np.zeros_like(currents)
    attached = 0.0 if detach else 1.0
    for b in range(batch):
        for n in range(units):
            before_reset, u, last = [], 0.0, 0.0
            states = [(u, last)]
            for t in range(steps):
                if not delay:
                    v = leak * u + currents[b, t, n]
                    s = float(v >= threshold)
                    u = {"subtract": v - threshold * s, "zero": v * (1 - s), "none": v}[reset]
                elif reset == "zero":
                    v = leak * (1 - last) * u + currents[b, t, n]
                    s, u = float(v >= threshold), v
                else:
                    lowered = threshold * last if reset == "subtract" else 0.0
                    v = leak * u + currents[b, t, n] - lowered
                    s, u = float(v >= threshold), v
                last = s
                before_reset.append(v)
                states.append((u, last))
                spikes[b, t, n] = s
            # With respect to u[t] and s[t] of the state.
            of_u, of_last = 0.0, 0.0
            for t in reversed(range(steps)):
                v, s = before_reset[t], spikes[b, t, n]
                slope = 1 / (1 + (np.pi * (v - threshold)) ** 2)
                old_u, old_last = states[t]
                of_s = upstream[b, t, n] + of_last
                if not delay:
                    if reset == "subtract":
                        of_v, of_s = of_u, of_s - attached * threshold * of_u
                    elif reset == "zero":
                        of_v, of_s = of_u * (1 - s), of_s - attached * v * of_u
                    else:
                        of_v = of_u
                    of_v += slope * of_s
                    of_u, of_last = leak * of_v, 0.0
                else:
                    of_v = of_u + slope * of_s
                    if reset == "zero":
                        of_u = leak * (1 - old_last) * of_v
                        of_last = -attached * leak * old_u * of_v
                    else:
                        of_u = leak * of_v
                        of_last = -attached * threshold * of_v if reset == "subtract" else 0.0
                gradient[b, t, n] = of_v
    return spikes, gradient


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_lif_is_the_loop_of_its_equations(reset, detach, delay, unroll):
    layer = layers.LIF(0.8, 0.7, reset, delay, detach, unroll=unroll, dtype="float64")
    got = value_and_gradients(layer, CURRENTS)
    expected = numpy_lif(CURRENTS, UPSTREAM, 0.8, 0.7, reset, delay, detach)
    assert 0.1 < expected[0].mean() < 0.9
    np.testing.assert_array_equal(got[0], expected[0])
    assert_same(got[1:], expected[1:], 1e-10, 1e-12)


def test_if_is_lif_without_leak():
    assert_same(
        value_and_gradients(layers.IF(), CURRENTS), value_and_gradients(layers.LIF(1.0), CURRENTS)
    )


def test_synaptic_current_decays():
    currents = np.zeros((3, 9, 4))
    current = np.zeros((3, 4))
    for t in range(9):
        current = 0.7 * current + CURRENTS[:, t]
        currents[:, t] = current
    layer = layers.SynapticLIF(0.7, 0.8, dtype="float64")
    expected = numpy_lif(currents, UPSTREAM, 0.8, 1.0, "subtract", False, True)[0]
    np.testing.assert_array_equal(layer(CURRENTS), expected)


def test_alif_raises_its_threshold():
    """A constant current above the threshold fires ever less; the equations, one number at a time."""
    layer = layers.ALIF(0.9, 1.0, 2.0, 0.8, dtype="float64")
    u = a = 0.0
    expected = []
    for _ in range(30):
        v = 0.9 * u + 1.2
        threshold = 1.0 + 2.0 * a
        s = float(v >= threshold)
        u = v - threshold * s
        a = 0.8 * a + 0.2 * s
        expected.append(s)
    got = layer(np.full((1, 30, 1), 1.2))[0, :, 0]
    np.testing.assert_array_equal(got, expected)
    assert np.mean(expected) < np.mean(layers.LIF(0.9)(np.full((1, 30, 1), 1.2)))


def test_li_is_a_filter():
    got = layers.LI(0.5)(np.array([[[1.0], [0.0], [2.0]]]))
    np.testing.assert_allclose(got[0, :, 0], [1.0, 0.5, 2.25])


def test_potential_is_that_of_the_state():
    currents = np.array([[[0.6], [0.6], [0.6]]])
    at_once = layers.LIF(1.0, return_potential=True)(currents)
    np.testing.assert_allclose(at_once[0][0, :, 0], [0, 1, 0])
    np.testing.assert_allclose(at_once[1][0, :, 0], [0.6, 0.2, 0.8], 1e-6)
    later = layers.LIF(1.0, reset_delay=True, return_potential=True)(currents)
    np.testing.assert_allclose(later[1][0, :, 0], [0.6, 1.2, 0.8], 1e-6)


# ------------------------------------------------------------------------------------------ modes


@every_layer
@pytest.mark.parametrize("unroll", [True, False])
def test_compilers_agree(cls, unroll):
    """Eager, in a graph, under XLA, and with unknown length, the same numbers."""
    layer = cls(unroll=unroll)
    x = tf.constant(CURRENTS, tf.float32)

    def compute(x):
        return value_and_gradients(layer, x)

    expected = compute(x)
    assert_same(tf.function(compute)(x), expected)
    assert_same(tf.function(compute, jit_compile=True)(x), expected)
    if not unroll:
        unknown = [tf.TensorSpec([None, None, 4], tf.float32)]
        assert_same(tf.function(compute, input_signature=unknown)(x), expected)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (2, 3, 2)])
def test_any_rank(shape):
    x = np.random.default_rng(2).normal(0.3, 0.6, (2, 5, *shape)).astype("float32")
    flat = x.reshape(2, 5, -1)
    for cls in LAYERS:
        got = cls()(x)
        assert got.shape == cls().compute_output_shape(x.shape) == x.shape
        np.testing.assert_array_equal(got, np.reshape(cls()(flat), x.shape))


@every_layer
def test_mixed_precision_keeps_the_state_in_float32(cls):
    """Six hundred currents of 1/512 add up, which bfloat16 would lose."""
    x = np.full((1, 600, 1), 2.0**-9)
    expected = tf.function(cls())(x)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = cls(dtype=policy)
        compute = tf.function(
            lambda x, layer=layer: value_and_gradients(layer, x, np.ones(x.shape))
        )
        y, gradient = compute(tf.cast(x, layer.compute_dtype))
        assert y.dtype == gradient.dtype == layer.compute_dtype
        np.testing.assert_allclose(np.asarray(y, float), expected, rtol=0.01)
    assert np.sum(layers.IF(dtype="mixed_bfloat16")(tf.cast(x, tf.bfloat16))) == 1


@every_layer
def test_true_gradients(cls):
    """The true gradient of spikes is 0, that of a leaky integrator its own; also taken after the context."""
    layer = cls(unroll=cls is not layers.LIF)
    x = tf.constant(CURRENTS, tf.float32)
    with ks.true_gradients(layer), tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    true = tape.gradient(y, x, unconnected_gradients="zero")
    assert np.any(value_and_gradients(layer, x)[1])
    assert np.any(true) == (cls is layers.LI)


@pytest.mark.parametrize("unroll", [True, False])
def test_forward_mode_is_reverse_mode(unroll):
    layer = layers.LIF(unroll=unroll, dtype="float64")
    x = tf.constant(CURRENTS)
    direction = np.random.default_rng(3).normal(size=x.shape)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(direction)) as accumulator:
        y = layer(x)
    forward = np.sum(UPSTREAM * accumulator.jvp(y))
    reverse = np.sum(direction * value_and_gradients(layer, x)[1])
    assert forward == pytest.approx(reverse, rel=1e-10)


def test_scaled_surrogate_scales_the_gradient():
    wide = ks.get("atan_spike")
    once = value_and_gradients(layers.LIF(reset="none", leak=0.0), CURRENTS)
    twice = value_and_gradients(
        layers.LIF(reset="none", leak=0.0, surrogate=wide.scaled(2)), CURRENTS
    )
    assert_same(twice, (once[0], 2 * once[1]))


# ------------------------------------------------------------------------------------------ masks
# and state


@every_layer
@pytest.mark.parametrize("unroll", [True, False])
def test_a_masked_step_leaves_the_state_and_gives_0(cls, unroll):
    mask = np.array([True, True, False, True, False, False, True, True, True])
    masks = tf.constant(np.stack([mask, mask, mask]))
    got, gradient = value_and_gradients(
        lambda x: cls(unroll=unroll)(x, mask=masks), CURRENTS.astype("float32")
    )
    without = cls()(CURRENTS[:, mask])
    np.testing.assert_array_equal(np.asarray(got)[:, mask], without)
    assert not np.any(np.asarray(got)[:, ~mask])
    assert not np.any(np.asarray(gradient)[:, ~mask])


def test_masks_of_embeddings_arrive_and_go_on():
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    spikes, potentials = layers.LIF(return_potential=True)(embedded)
    counts = layers.SpikeCount()(spikes)
    model = keras.Model(tokens, [spikes, layers.LastPotential()(potentials), counts])
    long = model(np.array([[1, 2, 3, 0, 0]]))
    short = model(np.array([[1, 2, 3]]))
    np.testing.assert_array_equal(long[0][:, :3], short[0])
    assert not np.any(long[0][:, 3:])
    assert_same(long[1:], short[1:])
    backwards = keras.Model(tokens, layers.LIF(go_backwards=True)(embedded))
    np.testing.assert_array_equal(
        backwards(np.array([[1, 2, 3, 0, 0]]))[:, 2:], backwards(np.array([[1, 2, 3]]))
    )


@every_layer
def test_stateful_batches_cut_anywhere_are_one_run(cls):
    x = CURRENTS.astype("float32")
    whole = cls()(x)
    for cut in (1, 4, 8):
        layer = cls(stateful=True)
        model = keras.Sequential([keras.Input(batch_shape=(3, None, 4)), layer])
        for _ in range(2):
            parts = [model.predict_on_batch(x[:, :cut]), model.predict_on_batch(x[:, cut:])]
            np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, 1e-6)
            layer.reset_state()
    with pytest.raises(ValueError, match=r"keeps no state.*stateful=True"):
        cls().reset_states()


@pytest.mark.parametrize("unroll", [True, False])
def test_a_stateful_layer_takes_batches_of_its_own_size_only(unroll):
    """A batch of one would be broadcast to the size of the state."""
    layer = layers.LIF(stateful=True, unroll=unroll)
    model = keras.Sequential([keras.Input(batch_shape=(4, 5, 3)), layer, layers.SpikeCount()])
    x = np.ones((5, 5, 3), "float32")
    for call in (
        lambda: layer(x[:1]),
        lambda: model.predict(x, batch_size=4, verbose=0),
        lambda: tf.function(layer, input_signature=[tf.TensorSpec([None, 5, 3])])(x[:2]),
    ):
        with pytest.raises(Exception, match="each batch must have 4 samples"):
            call()
    assert model.predict(x[:4], verbose=0).shape == (4, 3)


def test_masks_of_numbers():
    x = CURRENTS.astype("float32")
    mask = np.arange(27).reshape(3, 9) % 4 > 0
    expected = layers.LIF(go_backwards=True)(x, mask=mask)
    np.testing.assert_array_equal(layers.LIF(go_backwards=True)(x, mask=mask * 1.0), expected)


def test_go_backwards_is_the_reversed_input():
    mask = np.array([[True] * 6 + [False] * 3] * 3)
    x = CURRENTS.astype("float32")
    got = layers.LIF(go_backwards=True)(x, mask=tf.constant(mask))
    expected = layers.LIF()(x[:, ::-1], mask=tf.constant(mask[:, ::-1]))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(
        layers.LIF(go_backwards=True).compute_mask(None, tf.constant(mask)), mask[:, ::-1]
    )


# ------------------------------------------------------------------------------------------ learned
# parameters


@pytest.mark.parametrize(
    ("sharing", "shape"), [(True, ()), ("layer", ()), ("channel", (2,)), ("unit", (3, 2))]
)
def test_learned_parameters_have_the_gradient_of_finite_differences(sharing, shape):
    """Of a leaky integrator, which is smooth in its leak."""
    layer = layers.LI(0.7, learn_leak=sharing, dtype="float64")
    x = np.random.default_rng(4).normal(size=(2, 5, 3, 2))
    upstream = np.random.default_rng(5).normal(size=x.shape)
    layer.build(x.shape)
    (weight,) = layer.trainable_weights
    assert weight.shape == shape
    np.testing.assert_allclose(layer.parameters()["leak"], np.full(shape, 0.7), 1e-6)
    got = value_and_gradients(layer, x, upstream, [weight])[2]
    raw = np.array(weight.numpy())
    for index in np.ndindex(*shape):
        losses = []
        for change in (1e-6, -1e-6):
            moved = raw.copy()
            moved[index] += change
            weight.assign(moved)
            losses.append(np.sum(layer(x) * upstream))
        assert float(got[index]) == pytest.approx(
            (losses[0] - losses[1]) / 2e-6, rel=1e-6, abs=1e-9
        )
        weight.assign(raw)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_learned_parameters_stay_in_range(jit_compile):
    layer = layers.SynapticLIF(
        learn_synaptic_leak=True, learn_leak="unit", learn_threshold="channel"
    )
    model = keras.Sequential([keras.Input((9, 4)), layer, layers.SpikeCount()])
    model.compile(keras.optimizers.SGD(5.0), "mse", jit_compile=jit_compile)
    before = layer.parameters()
    model.fit(CURRENTS, np.full((3, 4), 9.0), epochs=5, verbose=0)
    after = layer.parameters()
    for name in ("synaptic_leak", "leak"):
        assert np.all((after[name] >= 0) & (after[name] <= 1))
        assert not np.allclose(after[name], before[name])
    assert np.all(after["threshold"] > 0)
    assert not np.allclose(after["threshold"], before["threshold"])


def test_fixed_parameters_are_no_weights():
    layer = layers.LIF()
    layer.build((None, 5, 4))
    assert layer.weights == []


# ------------------------------------------------------------------------------------------ saving


def other_arguments(cls):
    arguments = {"leak": 0.5, "learn_leak": "channel", "go_backwards": True, "unroll": False}
    if cls is layers.IF:
        arguments = {"learn_threshold": True}
    if cls is not layers.LI:
        arguments |= {"threshold": 0.6, "reset": "zero", "reset_delay": True, "detach_reset": False}
    return arguments


@every_layer
def test_config(cls):
    arguments = other_arguments(cls)
    layer = cls(name="mine", dtype="mixed_bfloat16", **arguments)
    config = layer.get_config()
    assert config.items() >= arguments.items()
    assert json.loads(json.dumps(config)) == config
    again = cls.from_config(config)
    assert again.get_config() == config
    assert again.neuron == layer.neuron


@pytest.mark.parametrize(
    ("cls", "unroll"),
    [
        (layers.LIF, False),
        pytest.param(layers.LIF, True, marks=pytest.mark.slow),
        pytest.param(layers.ALIF, False, marks=pytest.mark.slow),
    ],
)
def test_files_keep_the_gradient(cls, unroll, tmp_path):
    """In a fresh process, the SavedModel without this package."""
    layer = cls(learn_leak="channel", unroll=unroll)
    model = keras.Sequential([keras.Input((9, 4)), keras.layers.Dense(5), layer])
    x = 3 * CURRENTS.astype("float32")
    assert 0.1 < np.mean(model(x)) < 0.9
    model.save(tmp_path / "model.keras")
    assert not roundtrip.difference(model, tmp_path / "model.keras", x)
    model.export(tmp_path / "exported", verbose=False)
    assert not roundtrip.difference(model, tmp_path / "exported", x)


def test_saved_model_keeps_the_gradient(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(5), layers.LIF()])
    x = 3 * CURRENTS.astype("float32")
    archive = tmp_path / "saved"
    serve = tf.function(model, input_signature=[tf.TensorSpec([None, None, 4], tf.float32)])
    tf.saved_model.save(model, archive, signatures=serve)
    loaded = tf.saved_model.load(archive)
    signature = loaded.signatures["serving_default"]

    def call(x):
        return next(iter(signature(x).values()))

    ones = np.ones((3, 9, 5))
    assert_same(value_and_gradients(call, x, ones), value_and_gradients(model, x, ones))


def test_a_neuron_of_ones_own(tmp_path):
    layer = layers.Spiking(Leaky(leak=0.5), learn={"leak": "channel"})
    model = keras.Sequential([keras.Input((9, 4)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = CURRENTS.astype("float32")
    assert loaded.layers[0].neuron == Leaky(leak=0.5)
    expected = value_and_gradients(model, x, weights=model.trainable_weights)
    assert_same(value_and_gradients(loaded, x, weights=loaded.trainable_weights), expected)
    np.testing.assert_allclose(expected[0], np.maximum(layers.LI(0.5)(x), 0), 1e-6)


def test_the_name_in_files_does_not_depend_on_the_module():
    """That of a script is `__main__`, and another one when the next script imports it."""
    assert keras.saving.get_registered_name(Leaky) == "Custom>Leaky"
    assert keras.saving.get_registered_name(neurons.LIFNeuron) == "keras_surrogate>LIFNeuron"


# ------------------------------------------------------------------------------------------
# recurrent


def test_cell_is_the_loop_of_its_equations(tmp_path):
    cell = layers.SpikingCell(4, neurons.LIFNeuron(leak=0.8), {"leak": "unit"})
    rnn = keras.layers.RNN(cell, return_sequences=True)
    model = keras.Sequential([keras.Input((9, 4)), rnn, layers.SpikeCount()])
    x = 3 * CURRENTS.astype("float32")
    kernel = cell.recurrent_kernel.numpy()
    u = s = np.zeros((3, 4))
    expected = []
    for t in range(9):
        v = 0.8 * u + x[:, t] + s @ kernel
        s = (v >= 1).astype(float)
        u = v - s
        expected.append(s)
    np.testing.assert_array_equal(rnn(x), np.stack(expected, 1))
    model.compile("sgd", "mse")
    before = cell.get_weights()
    model.fit(x, np.full((3, 4), 9.0), verbose=0)
    assert all(np.any(old != new) for old, new in zip(before, cell.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.LIF(1.1), "LIF: leak must be a number from 0 to 1.*but is 1.1"),
        (lambda: layers.LIF(-0.1), "LIF: leak must be .*but is -0.1"),
        (lambda: layers.SynapticLIF(2), "SynapticLIF: synaptic_leak must be .*but is 2"),
        (lambda: layers.LIF(threshold=0), "LIF: threshold must be a positive number, but is 0"),
        (lambda: layers.LIF(reset="substract"), "Did you mean 'subtract'"),
        (lambda: layers.LIF(reset_delay=1), "reset_delay must be True or False, but is 1"),
        (lambda: layers.LIF(surrogate="superspke"), "Did you mean 'superspike'"),
        (lambda: layers.LIF(tf.exp(-0.1)), r"LIF: leak .* is a tensor. Pass float\(\)"),
        (lambda: layers.LIF(threshold=tf.constant(-1.0)), "LIF: threshold .* is a tensor"),
        (
            lambda: layers.SpikingCell(3, neurons.LIFNeuron(leak=tf.constant(0.5))),
            "leak .* is a tensor",
        ),
        (lambda: layers.LI(return_potential=True), "its output is the potential"),
        (lambda: layers.LIF(surrogate="atan"), 'slope of its own forward.*"step", "atan"'),
        (lambda: layers.LIF(1.0, learn_leak=True), "must start inside its range, but leak is 1.0"),
        (lambda: layers.LIF(learn_leak="units"), "Did you mean 'unit'"),
        (lambda: layers.Spiking("lif"), "needs a neuron.*got 'lif'"),
        (lambda: layers.Spiking(Leaky(), {"leek": True}), "Did you mean 'leak'"),
        (lambda: layers.SpikingCell(0, Leaky()), "units must be an integer of at least 1"),
        (lambda: layers.SpikingCell(3, None), "needs a neuron.*got None"),
        (lambda: layers.LIF()(np.zeros((2, 100))), r"\(batch, time, ...\).*ConstantCurrent"),
        (lambda: layers.LIF()(np.zeros((2, 0, 3))), "at least one time step"),
        (lambda: layers.LIF(stateful=True)(keras.Input((5, 3))), "fixed batch size"),
        (
            lambda: layers.LIF(learn_leak="channel")(keras.Input((5, None))),
            'learn_leak="layer"',
        ),
        (
            lambda: keras.layers.RNN(layers.SpikingCell(3, Leaky()))(keras.Input((5, 4))),
            "must be of 3 units.*Dense",
        ),
        (lambda: neurons.Neuron().step((), 1), "does not define step"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# ------------------------------------------------------------------------------------------ training


def test_a_network_learns_through_two_spiking_layers():
    """Which of two inputs is larger; without a slope the first layer could not move."""
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(256, 2)).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype("int32")
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(24),
            layers.ConstantCurrent(8),
            layers.LIF(),
            layers.OverTime(keras.layers.Dense(24)),
            layers.LIF(learn_leak="channel"),
            layers.OverTime(keras.layers.Dense(2)),
            layers.LI(),
            layers.MaxPotential(),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    logger = ks.callbacks.GradientNormLogger()
    model.fit(x, y, epochs=20, batch_size=64, verbose=0, callbacks=[logger])
    assert np.all(logger.norms[:, 0] > 0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.93
