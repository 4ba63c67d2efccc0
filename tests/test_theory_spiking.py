"""The theory of random spiking networks, and initializers for them, against networks of layers.LIF."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import functions, initializers, layers, theory
from keras_surrogate.layers.neurons import ALIFNeuron, IFNeuron, LIFNeuron

RESETS = {
    "subtract": {},
    "subtract attached": {"detach_reset": False},
    "zero": {"reset": "zero"},
    "zero attached": {"reset": "zero", "detach_reset": False},
    "none": {"reset": "none"},
    "subtract attached delayed": {"reset_delay": True, "detach_reset": False},
    "subtract delayed": {"reset_delay": True},
    "zero delayed": {"reset": "zero", "reset_delay": True},
}


def neuron_of(k=5.0, cls=LIFNeuron, **options):
    return cls(surrogate=ks.Surrogate("step", functions.FastSigmoid(k)), **options)


# ------------------------------------------------------------------------- one step backwards


@pytest.mark.parametrize("name", RESETS)
def test_step_factor_is_the_derivative(name):
    """The gradient of the last potential by the first current is the product of the factors."""
    neuron = neuron_of(1.3, leak=0.8, threshold=0.9, **RESETS[name])
    currents = np.random.default_rng(0).normal(0.5, 0.6, (40, 6, 1))
    potentials = []
    x = tf.constant(currents)
    with tf.GradientTape() as tape:
        tape.watch(x)
        state = neuron.initial_state(tf.zeros_like(x[:, 0]))
        for step in range(6):
            state, _ = neuron.step(state, x[:, step])
            potentials.append(before_reset(neuron, state, potentials, x, step))
        loss = tf.reduce_sum(potentials[-1])
    gradient = tape.gradient(loss, x)[:, 0, 0]
    tested_at = np.stack([one.numpy()[:, 0] for one in potentials], 1)
    factors = theory.step_factor(neuron, tested_at)[:, :-1]
    np.testing.assert_allclose(gradient, factors.prod(1), 1e-9, 1e-12)
    assert 0.05 < (tested_at >= 0.9).mean() < 0.95


def before_reset(neuron, state, before, x, step):
    """The potential of a step before its own reset, from the state after the step before."""
    if neuron.reset_delay:
        return state[0]
    if not before:
        return x[:, 0]
    last = before[-1]
    spikes = neuron.fired(last - neuron.threshold)
    return neuron.leak * neuron.after_reset(last, spikes, neuron.threshold) + x[:, step]


# ------------------------------------------------------------------- networks of layers.Spiking


def network(neuron, depth, steps, weight_variance, rate, width, examples, seed):
    """Rates; gradients of currents, root mean square in each step; of kernels for one example."""
    generator = np.random.default_rng(seed)
    layer = layers.Spiking(neuron, dtype="float64")
    signal = tf.constant((generator.random((examples, steps, width)) < rate).astype("float64"))
    upstream = tf.constant(generator.normal(size=signal.shape))
    deviation = np.sqrt(weight_variance / width)
    kernels = [tf.constant(generator.normal(0, deviation, (width, width))) for _ in range(depth)]
    inputs, currents, rates = [], [], []
    with tf.GradientTape() as tape:
        tape.watch(kernels)
        for kernel in kernels:
            inputs.append(signal.numpy())
            currents.append(signal @ kernel)
            signal = layer(currents[-1])
            rates.append(float(tf.reduce_mean(signal)))
        loss = tf.reduce_sum(signal * upstream)
    deltas = [delta.numpy() for delta in tape.gradient(loss, currents)]
    over_time = [np.sqrt((delta**2).mean((0, 2))) for delta in deltas]
    squares = [
        np.mean(np.sum(np.einsum("bti,bto->bio", x, d) ** 2, (1, 2)))
        for x, d in zip(inputs, deltas, strict=True)
    ]
    return np.array(rates), np.array(over_time), np.sqrt(squares) / width


CASES = [
    ("subtract", 1.0),
    ("subtract", 5.0),
    ("subtract", 25.0),
    ("subtract attached", 5.0),
    ("zero", 5.0),
    ("zero attached", 1.0),
    ("none", 1.0),
    ("subtract attached delayed", 5.0),
]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_prediction_against_networks(name, k):
    neuron = neuron_of(k, **RESETS[name])
    measured = [network(neuron, 5, 20, 4.0, 0.2, 300, 4, seed) for seed in range(3)]
    rates, over_time, kernels = (np.mean(parts, axis=0) for parts in zip(*measured, strict=True))
    predicted = theory.predict_spiking(neuron, 5, 20, 4.0, 0.2, samples=8192)
    np.testing.assert_allclose(predicted.firing_rates, rates, atol=0.025)
    size = np.sqrt((over_time**2).mean(1))
    np.testing.assert_allclose(np.sqrt((predicted.current_gradient**2).mean(1)), size, rtol=0.2)
    np.testing.assert_allclose(predicted.kernel_gradient, kernels, rtol=0.3)
    # In each step, too: the gradient grows towards the first steps or falls.
    np.testing.assert_allclose(predicted.current_gradient[-1], over_time[-1], rtol=0.25)
    np.testing.assert_allclose(predicted.gradient_ratio, kernels[0] / kernels[-1], rtol=0.3)


def test_the_slope_decides():
    """Over eight layers a narrow slope loses the gradient, and a wide one lets it grow."""
    ratios = [
        theory.predict_spiking(neuron_of(k), 8, 25, 4.0).gradient_ratio for k in (1.0, 5.0, 25.0)
    ]
    assert ratios[0] > 100 > 10 > ratios[1] > 1e-2 > 1e-3 > ratios[2]
    attached = theory.predict_spiking(neuron_of(1.0, detach_reset=False), 8, 25, 4.0)
    assert attached.gradient_ratio < ratios[0] / 10


def test_white_noise_factor():
    """After many steps of white currents without reset: the AR(1) law, and the sampled network."""
    neuron = neuron_of(2.0, leak=0.8, reset="none")
    factor = theory.white_noise_factor(neuron, 0.1, 0.7, 3.0)
    generator = np.random.default_rng(0)
    currents = tf.constant(generator.normal(0.1, 0.7, (1, 300, 4000)))
    upstream = generator.normal(size=currents.shape)
    layer = layers.Spiking(neuron, dtype="float64")
    with tf.GradientTape() as tape:
        tape.watch(currents)
        loss = tf.reduce_sum(layer(currents) * upstream)
    middle = tape.gradient(loss, currents).numpy()[0, 100:200]
    assert factor == pytest.approx(3 * np.mean(middle**2), rel=0.02)


# ------------------------------------------------------------------------------ initializers


def rates_of(initializer, depth=20, width=128, steps=25, neurons=layers.LIF):
    keras.utils.set_random_seed(0)
    spikes = np.random.default_rng(0).random((32, steps, width)) < 0.2
    signal = tf.constant(spikes, "float32")
    rates = []
    for _ in range(depth):
        # A new object for each layer, so that weights differ.
        weights = initializer() if callable(initializer) else initializer
        signal = keras.layers.Dense(width, kernel_initializer=weights)(signal)
        signal = neurons()(signal)
        rates.append(float(tf.reduce_mean(signal)))
    return np.array(rates)


def test_activity_through_twenty_layers():
    rates = rates_of(initializers.SustainedActivity)
    assert rates.min() > 0.02
    assert rates.max() < 0.5
    glorot = rates_of("glorot_normal")
    assert glorot[0] > 0.01
    assert glorot[5:].max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("leak", [0.5, 0.97])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_activity_with_other_neurons(reset, leak):
    neuron = LIFNeuron(leak=leak, threshold=0.5, reset=reset)
    rates = rates_of(
        lambda: initializers.SustainedActivity(neuron),
        neurons=lambda: layers.LIF(leak, 0.5, reset),
    )
    assert rates.min() > 0.02
    assert rates.max() < 0.5


def test_sustaining_weight_variance():
    """The rate is reached, and with a little less weight it is not; it scales with the threshold."""
    neuron = LIFNeuron()
    found = theory.sustaining_weight_variance(neuron, 0.2, 25)
    above = theory.predict_spiking(neuron, 12, 25, found * 1.1).firing_rates[-1]
    below = theory.predict_spiking(neuron, 12, 25, found * 0.8).firing_rates[-1]
    assert above > 0.19 > below
    half = theory.sustaining_weight_variance(LIFNeuron(threshold=0.5), 0.2, 25)
    assert half == pytest.approx(found / 4, rel=0.02)
    assert theory.sustaining_weight_variance(neuron, 0.2, 10) > found


@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_fluctuations_of_the_potential(mean):
    """Mean and deviation of the potential over time, of an integrator behind random spikes."""
    initializer = initializers.FluctuationDriven(0.8, 1.2, 0.1, 1.5, mean, seed=0)
    kernel = initializer((400, 500))
    spikes = np.random.default_rng(0).random((1, 1500, 400)) < 0.1
    potential = layers.LI(0.8)(spikes.astype("float32") @ kernel)[0, 100:]
    assert np.mean(potential) == pytest.approx(mean, abs=0.05)
    deviation = np.sqrt(np.mean(np.var(potential, axis=0)))
    assert (1.2 - mean) / deviation == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize(
    "initializer",
    [
        initializers.FluctuationDriven(0.8, 1.2, 0.1, 1.5, 0.1, seed=3),
        initializers.FluctuationDriven(seed=keras.random.SeedGenerator(4)),
        initializers.SustainedActivity(LIFNeuron(leak=0.8), 0.25, 12, seed=3),
    ],
)
def test_initializers_can_be_saved(initializer):
    copy = keras.initializers.deserialize(keras.initializers.serialize(initializer))
    assert type(copy) is type(initializer)
    np.testing.assert_array_equal(copy((7, 5)), initializer((7, 5)))
    other = keras.layers.Dense(4, kernel_initializer=initializer)
    other.build((None, 6))
    assert np.asarray(other.kernel.value).std() > 0


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.predict_spiking(ALIFNeuron(), 3), "LIFNeuron or IFNeuron"),
        (
            lambda: theory.predict_spiking(LIFNeuron(surrogate=ks.Surrogate("sign", "atan")), 3),
            "must fire spikes of 1",
        ),
        (lambda: theory.predict_spiking(LIFNeuron(), 0), "depth must be an integer"),
        (lambda: theory.predict_spiking(LIFNeuron(), 3, 0), "steps must be an integer"),
        (lambda: theory.predict_spiking(LIFNeuron(), 3, weight_variance=0), "weight_variance"),
        (lambda: theory.predict_spiking(LIFNeuron(), 3, input_rate=1.5), "input_rate"),
        (lambda: theory.predict_spiking(LIFNeuron(), 3, samples=5), "at least 100"),
        (lambda: theory.white_noise_factor(IFNeuron(), 0, 1), "a leak of 1"),
        (lambda: theory.white_noise_factor(LIFNeuron(), 0, 0), "deviation"),
        (lambda: theory.sustaining_weight_variance(LIFNeuron(), 0.9), "Ask for a lower rate"),
        (lambda: initializers.FluctuationDriven(leak=1.0), "leak must be"),
        (lambda: initializers.FluctuationDriven(rate=0.0), "rate must be"),
        (lambda: initializers.FluctuationDriven(mean=1.0), "mean must be"),
        (lambda: initializers.FluctuationDriven(mean=0.9, xi=50.0)((4, 3)), "Lower mean or xi"),
        (lambda: initializers.SustainedActivity(rate=0), "rate must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_silent_network_has_no_ratio():
    silent = theory.predict_spiking(LIFNeuron(), 8, 25, 0.1)
    assert silent.firing_rates[-1] == 0
    assert np.isnan(silent.gradient_ratio)
