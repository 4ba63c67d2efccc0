"""`SurrogateStep`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checks import UPSTREAM, X, value_and_gradients

import keras_surrogate as ks
from keras_surrogate import functions
from keras_surrogate.layers import SurrogateStep

STEPS = [
    ks.Surrogate("step", "fast_sigmoid"),
    ks.Surrogate("step", functions.Atan(3.0), scale=0.5),
    ks.Surrogate(functions.Sign(at_zero=1.0), "tanh"),
]


def check_step(cls, surrogate, threshold):
    """Value of x - threshold; gradients by central differences of scale * backward.value."""
    layer = cls(threshold, surrogate, dtype="float64")
    layer.build(X.shape)
    y, gradient, threshold_gradient = value_and_gradients(
        layer, X, UPSTREAM, layer.trainable_weights
    )

    def primitive(threshold):
        return surrogate.scale * surrogate.backward.value(tf.constant(X - threshold))

    slope = (primitive(threshold - 1e-6) - primitive(threshold + 1e-6)) / 2e-6
    np.testing.assert_array_equal(y, surrogate.forward.value(tf.constant(X - threshold)))
    np.testing.assert_allclose(gradient, UPSTREAM * slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(threshold_gradient, -np.sum(UPSTREAM * slope), rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.55])
@pytest.mark.parametrize("surrogate", STEPS, ids=str)
def test_step_against_differences(surrogate, threshold):
    check_step(SurrogateStep, surrogate, threshold)


def test_step_begins_at_the_threshold():
    np.testing.assert_array_equal(
        SurrogateStep(0.5)(np.array([0.0, 0.49, 0.5, 1.0], "float32")), [0, 0, 1, 1]
    )


@pytest.mark.parametrize("surrogate", [*STEPS, "ste_sign", STEPS[1].get_config()], ids=str)
def test_step_keeps_its_surrogate(surrogate, tmp_path):
    layer = SurrogateStep(0.5, surrogate)
    assert layer.surrogate == ks.get(surrogate)
    keras.Sequential([keras.Input((4,)), layer]).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert loaded.surrogate == layer.surrogate
    assert loaded.get_config() == layer.get_config()


def test_step_learns_its_threshold():
    """Which of the numbers from 0 to 1 are 1 is told by a threshold of 0.7."""
    x = np.linspace(0, 1, 200, dtype="float32")[:, None]
    layer = SurrogateStep(0.2, ks.Surrogate("step", "atan"))
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.3), "mse")
    for _ in range(40):
        model.train_on_batch(x, x > 0.7)
    assert abs(float(layer.threshold.numpy()) - 0.7) < 0.02


def test_step_with_a_fixed_threshold():
    layer = SurrogateStep(0.5, learn_threshold=False)
    y, gradient = value_and_gradients(layer, X.astype("float32"))
    np.testing.assert_array_equal(y, X >= 0.5)
    assert (gradient.numpy() > 0).all()
    assert (layer.trainable_weights, len(layer.weights)) == ([], 1)


def test_step_takes_integers():
    np.testing.assert_array_equal(SurrogateStep(0.5)(tf.constant([[0, 1]])), [[0.0, 1.0]])


class FarStep(SurrogateStep):
    def call(self, inputs):
        return self.surrogate(inputs + self.threshold)


class HalfStep(SurrogateStep):
    def call(self, inputs):
        fixed = tf.stop_gradient(self.threshold.value)
        return self.surrogate(inputs - (self.threshold + fixed) / 2)


@pytest.mark.parametrize("mutant", [FarStep, HalfStep])
def test_the_check_of_steps_can_fail(mutant):
    with pytest.raises(AssertionError):
        check_step(mutant, STEPS[0], 0.55)
