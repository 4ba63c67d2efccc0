"""`smooth_forward`: the network whose forward is the backward's own function."""

import contextlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import Surrogate, functions, smooth_forward, true_gradients
from keras_surrogate.layers import LI, LIF, FakeQuantize, SurrogateActivation, SurrogateWeights

L = keras.layers
X = np.linspace(-2.5, 2.5, 41)
RANDOM = np.random.default_rng(0)


def identity():
    """Any layer: the context needs one."""
    return L.Activation("linear")


def smooth(pair, x=X):
    """Value and gradient in the context."""
    x = tf.constant(x)
    with smooth_forward(identity()), tf.GradientTape() as tape:
        tape.watch(x)
        y = pair(x)
    return y.numpy(), tape.gradient(y, x).numpy()


def hard_tanh(x):
    return np.clip(x, -1, 1)


# The formulas of `smooth_forward`'s docstring, by hand.
EXPECTED = {
    "sign and hard_tanh": (ks.get("ste_sign"), hard_tanh),
    "whatever the scale": (ks.get("ste_sign").scaled(7.0), hard_tanh),
    "SuperSpike": (
        Surrogate("step", functions.FastSigmoid(5.0), scale=3.0),
        lambda x: 0.5 + 5 * x / 2 / (1 + 5 * np.abs(x)),
    ),
    "an arc tangent from 0 to 1": (
        ks.get("atan_spike"),
        lambda x: np.arctan(np.pi * x) / np.pi + 0.5,
    ),
    "parabolas from -1 to 1": (
        ks.get("approx_sign"),
        lambda x: (c := hard_tanh(x)) * (2 - np.abs(c)),
    ),
    "no limits": (Surrogate("relu", "softplus", scale=2.0), lambda x: 2 * np.log1p(np.exp(x))),
    "a step and a line": (Surrogate("step", "linear", scale=0.25), lambda x: 0.25 * x + 0.5),
    "no jump at 0": (Surrogate("dorefa", "linear"), lambda x: x),
    "a logarithm has no limit": (
        Surrogate("step", "nonzero_sign_log_abs"),
        lambda x: 0.5 + np.sign(x) * np.log1p(np.abs(x)),
    ),
    "one function": (Surrogate("tanh", scale=-0.1), np.tanh),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_value_is_the_backwards_own_function(name):
    pair, expected = EXPECTED[name]
    value, gradient = smooth(pair)
    np.testing.assert_allclose(value, expected(X), rtol=1e-12, atol=1e-12)
    inside = (np.abs(X) > 0.01) & (np.abs(np.abs(X) - 1) > 0.01)
    difference = (expected(X + 1e-6) - expected(X - 1e-6)) / 2e-6
    np.testing.assert_allclose(gradient[inside], difference[inside], rtol=1e-6, atol=1e-8)
    # Outside, value and slope are the usual ones.
    np.testing.assert_array_equal(pair(tf.constant(X)), pair.forward.value(tf.constant(X)))


def test_a_blended_surrogate_is_blended_with_its_true_value():
    blended = SurrogateActivation("ste_sign", blend=0.25, dtype="float64")
    with smooth_forward(blended):
        value = blended(tf.constant(X))
    sign = np.where(X < 0, -1, 1)
    np.testing.assert_allclose(value, 0.25 * hard_tanh(X) + 0.75 * sign)


def test_fake_quantization_clips_without_rounding():
    layer = FakeQuantize(bits=4)
    layer.build((None,))
    layer.observe(np.array([-0.9, 1.6], "float32"))
    x = tf.constant(np.linspace(-3, 3, 25), tf.float32)
    usual = layer(x).numpy()
    with smooth_forward(layer):
        value = layer(x).numpy()
    # The ends of the shifted range are the outer levels.
    np.testing.assert_allclose(value, np.clip(x, usual.min(), usual.max()), rtol=1e-6)
    assert len(np.unique(value)) > 10


def dense():
    quantized = Surrogate(functions.Staircase(4, 0.5), "hard_tanh", scale=0.3)
    return [
        L.Dense(6, activation="tanh"),
        L.Dense(6, activation=ks.get("atan_spike")),
        L.Dense(6, activation=quantized),
        L.Dense(3),
    ], (7, 5)


def convolution():
    return [
        L.Conv2D(4, 3, activation=Surrogate("sign", "softsign")),
        L.BatchNormalization(),
        SurrogateActivation(ks.get("swish_sign", beta=2.0)),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    ], (4, 6, 6, 2)


def weights(scale):
    # Slopes without corners within reach of the weights.
    pair = Surrogate(functions.Staircase(4, 0.5), "softsign")
    return [
        SurrogateWeights(L.Dense(6, activation="tanh"), pair, scale=scale),
        SurrogateWeights(L.Dense(3), pair, scale=scale, per="tensor"),
    ], (7, 5)


def spiking(**arguments):
    return [
        L.Dense(6),
        LIF(surrogate="atan_spike", **arguments),
        L.Dense(6),
        LIF(surrogate=Surrogate("step", functions.FastSigmoid(5.0)), learn_leak=True, **arguments),
        L.Dense(3),
        LI(),
        L.Lambda(lambda x: x[:, -1]),
    ], (5, 4, 5)


NETWORKS = {
    "dense": dense,
    "convolution": convolution,
    "weights": lambda: weights(None),
    "weights, mean_abs": lambda: weights("mean_abs"),
    "weights, max_abs": lambda: weights("max_abs"),
    "weights, least_error": lambda: weights("least_error"),
    "weights, learned": lambda: weights("learned"),
    "spiking": spiking,
    "spiking, delayed zero reset": lambda: spiking(reset="zero", reset_delay=True),
    "spiking in a loop": lambda: spiking(unroll=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_equals_central_differences_of_the_loss(name):
    keras.config.set_dtype_policy("float64")
    try:
        layers, shape = NETWORKS[name]()
        model = keras.Sequential([keras.Input(shape[1:]), *layers])
    finally:
        keras.config.set_dtype_policy("float32")
    x = RANDOM.normal(size=shape)
    y = RANDOM.normal(size=(shape[0], 3))

    @tf.function
    def loss():
        return tf.reduce_mean(tf.square(model(x, training=True) - y))

    with smooth_forward(model):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            direction = RANDOM.normal(size=variable.shape)
            before = variable.numpy()
            values = []
            for step in (1e-6, -1e-6):
                variable.assign(before + step * direction)
                values.append(float(loss()))
            variable.assign(before)
            expected = (values[0] - values[1]) / 2e-6
            assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-5, abs=1e-8), (
                variable.path
            )


def model_of(pair, seed=1):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(6, activation=pair), L.Dense(6, activation=pair), L.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


DATA = RANDOM.normal(size=(64, 5)).astype("float32")
TARGETS = RANDOM.normal(size=(64, 1)).astype("float32")


def test_fit_evaluate_and_predict_inside_are_those_of_the_smooth_network():
    model = model_of(ks.get("ste_sign"))
    twin = model_of(Surrogate("hard_tanh"))
    untouched = model_of(ks.get("ste_sign"))
    # Functions that were traced before are put back.
    before = [model.predict(DATA, verbose=0), model.evaluate(DATA, TARGETS, verbose=0)]
    np.testing.assert_array_equal(before[0], untouched.predict(DATA, verbose=0))
    with smooth_forward(model):
        inside = [model.predict(DATA, verbose=0), model.evaluate(DATA, TARGETS, verbose=0)]
        model.fit(DATA, TARGETS, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(inside[0], twin.predict(DATA, verbose=0), rtol=1e-5, atol=1e-6)
    assert inside[1] == pytest.approx(twin.evaluate(DATA, TARGETS, verbose=0), rel=1e-5)
    twin.fit(DATA, TARGETS, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    # After the context it is the sign network again, with the weights that fit has left.
    model.set_weights(untouched.get_weights())
    np.testing.assert_array_equal(model.predict(DATA, verbose=0), before[0])


def test_nesting_true_gradients_errors_and_threads():
    pair = ks.get("ste_sign")
    x = tf.constant(X)
    expected = hard_tanh(X)
    outside = []
    with smooth_forward(identity()):
        with smooth_forward(identity()):
            np.testing.assert_array_equal(pair(x), expected)
        with contextlib.suppress(RuntimeError), smooth_forward(identity()):
            raise RuntimeError
        np.testing.assert_array_equal(pair(x), expected)
        # Another thread is outside.
        thread = threading.Thread(target=lambda: outside.append(pair(x).numpy()))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(outside[0], np.where(X < 0, -1, 1))
    np.testing.assert_array_equal(pair(x), outside[0])
    with (
        pytest.raises(ValueError, match="smooth_forward needs a Keras layer or model, but got 3"),
        smooth_forward(3),
    ):
        pass


@pytest.mark.parametrize("outer, inner", [(0, 1), (1, 0)])
def test_together_with_true_gradients_the_forward_is_smooth(outer, inner):
    contexts = [smooth_forward, true_gradients]
    x = tf.constant([-2.0, 0.3, 2.0])
    with contexts[outer](identity()), contexts[inner](identity()), tf.GradientTape() as tape:
        tape.watch(x)
        y = ks.get("ste_sign")(x)
    np.testing.assert_allclose(y, [-1, 0.3, 1])
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 0])


def test_an_export_after_the_context_is_the_usual_model(tmp_path):
    model = model_of(ks.get("ste_sign"))
    with smooth_forward(model):
        model.predict(DATA, verbose=0)
    ks.conversion.export(model, tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(DATA), model.predict(DATA, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_half_precision_and_under_xla(jit_compile):
    pair = Surrogate("step", functions.FastSigmoid(25.0))
    x = tf.constant(X, tf.float16)
    with smooth_forward(identity()):
        y = tf.function(pair, jit_compile=jit_compile)(x)
    assert y.dtype == tf.float16
    np.testing.assert_allclose(y, 0.5 + 12.5 * X / (1 + 25 * np.abs(X)), atol=2e-3)
