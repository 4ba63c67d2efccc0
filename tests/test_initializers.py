"""CriticalNormal draws the variance it should, in dense and convolutional layers, and survives saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import theory
from keras_surrogate.initializers import CriticalNormal


@pytest.mark.parametrize(
    ("surrogate", "expected"), [("relu", 2.0), ("tanh", 1.0), ("sugar_nelu", 2.0)]
)
def test_dense_kernels_have_the_known_variance(surrogate, expected):
    layer = keras.layers.Dense(400, kernel_initializer=CriticalNormal(surrogate))
    layer.build((None, 300))
    kernel = np.asarray(layer.kernel)
    assert 300 * kernel.var() == pytest.approx(expected, rel=0.03)
    assert abs(kernel).max() > 3.5 * kernel.std()


def test_the_kernel_size_of_a_convolution_counts():
    layer = keras.layers.Conv2D(64, 3, kernel_initializer=CriticalNormal("ste_sign"))
    layer.build((None, 8, 8, 32))
    expected = theory.critical_weight_variance("ste_sign")
    assert 9 * 32 * np.asarray(layer.kernel).var() == pytest.approx(expected, rel=0.05)


def norm_of_first_over_last(pair, initializer):
    """By Keras's own gradients, through thirty layers of width 256."""
    keras.utils.set_random_seed(1)
    x = keras.random.normal((1, 256))
    layers = [keras.layers.Dense(256, kernel_initializer=initializer) for _ in range(30)]
    with tf.GradientTape() as tape:
        values = []
        for layer in layers:
            values.append(layer(x))
            tape.watch(values[-1])
            x = pair(values[-1])
        loss = tf.reduce_sum(x * keras.random.normal(x.shape))
    first, last = tape.gradient(loss, [values[0], values[-1]])
    return np.linalg.norm(first) / np.linalg.norm(last)


def test_it_keeps_the_gradient_of_a_pair_where_he_weights_do_not():
    pair = ks.get("ste_sign")
    assert 0.2 < norm_of_first_over_last(pair, CriticalNormal(pair, seed=3)) < 5
    assert norm_of_first_over_last(pair, "glorot_normal") < 0.05


def test_a_model_saves_and_loads_with_it(tmp_path):
    pair = theory.balance("sugar_bsilu", 2.0)
    initializer = CriticalNormal(pair, input_variance=1.0, seed=7)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation=pair, kernel_initializer=initializer)]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.layers[0].kernel_initializer
    assert isinstance(again, CriticalNormal) and again.surrogate == pair
    assert again.get_config() == initializer.get_config()
    np.testing.assert_array_equal(
        CriticalNormal.from_config(initializer.get_config())((4, 3)), initializer((4, 3))
    )


def test_arguments_are_kept_and_reach_the_theory():
    initializer = CriticalNormal("tanh", bias_variance=0.05, seed=1)
    assert initializer.scale == theory.critical_weight_variance("tanh", 0.05)
    given = CriticalNormal("sugar_bsilu", signal_variance=0.4)
    assert theory.gain("sugar_bsilu", given, signal_variance=0.4) == pytest.approx(1)
    assert CriticalNormal.from_config(given.get_config()).signal_variance == 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surrogate": "sugar_bsilu"}, r"theory.balance\(surrogate, 2\)"),
        ({"surrogate": "rleu"}, "Did you mean 'relu'"),
        ({"surrogate": "tanh", "bias_variance": -1}, "bias_variance must be"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        CriticalNormal(**arguments)
