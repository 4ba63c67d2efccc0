"""CriticalNormal has the right variance and survives saving; RandomizedAsymmetric is the paper's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_surrogate as ks
from keras_surrogate import theory
from keras_surrogate.initializers import CriticalNormal, RandomizedAsymmetric


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


class TestRandomizedAsymmetric:
    """The distribution, and the kernel and bias that belong together."""

    UNITS = 20_000

    def drawn(self, seed=3, fan_in=4):
        kernel = RandomizedAsymmetric(seed)((fan_in, self.UNITS))
        bias = RandomizedAsymmetric(seed, fan_in=fan_in)((self.UNITS,))
        return np.concatenate([kernel, np.asarray(bias)[np.newaxis]])

    def test_one_large_element_of_each_unit(self):
        values = self.drawn()
        # With sigma_w = 0 only the large element is left, so that it can be seen.
        kernel = RandomizedAsymmetric(3, sigma_w=0)((4, self.UNITS))
        bias = RandomizedAsymmetric(3, fan_in=4, sigma_w=0)((self.UNITS,))
        large = np.concatenate([kernel, np.asarray(bias)[np.newaxis]])
        assert ((large > 0).sum(axis=0) == 1).all()
        np.testing.assert_allclose((large > 0).mean(axis=1), 0.2, atol=0.01)
        chosen = large[large > 0]
        np.testing.assert_array_equal(values[large > 0], chosen)
        assert stats.kstest(chosen, stats.beta(2, 1).cdf).pvalue > 1e-3
        others = values[large == 0]
        assert stats.kstest(others, stats.norm(0, 0.6007 / 2).cdf).pvalue > 1e-3

    def test_convolutions_dtype_and_config(self):
        kernel = RandomizedAsymmetric(0, sigma_w=0)((3, 3, 2, 8), "float16")
        assert kernel.dtype == "float16" and kernel.shape == (3, 3, 2, 8)
        bias = RandomizedAsymmetric(0, fan_in=18, sigma_w=0)((8,))
        count = (np.asarray(kernel) > 0).sum(axis=(0, 1, 2)) + (np.asarray(bias) > 0)
        assert count.tolist() == [1] * 8
        again = keras.initializers.get(keras.initializers.serialize(RandomizedAsymmetric(5)))
        np.testing.assert_array_equal(again((2, 3)), RandomizedAsymmetric(5)((2, 3)))

    def test_fewer_networks_are_born_dead(self):
        def dead(make, depth=10, width=2, networks=200):
            x = np.linspace(-1.7, 1.7, 50)[:, np.newaxis]
            count = 0
            for network in range(networks):
                h = x
                for layer in range(depth):
                    kernel, bias = make(1000 * network + layer, h.shape[1], width)
                    h = np.maximum(h @ kernel + bias, 0)
                count += np.ptp(h) == 0
            return count / networks

        def symmetric(seed, fan_in, width):
            return keras.initializers.HeNormal(seed)((fan_in, width)).numpy(), 0.0

        def asymmetric(seed, fan_in, width):
            return (
                RandomizedAsymmetric(seed)((fan_in, width)).numpy(),
                RandomizedAsymmetric(seed, fan_in=fan_in)((width,)).numpy(),
            )

        assert dead(symmetric) > 0.85
        assert dead(asymmetric) < 0.6

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: RandomizedAsymmetric(-1), "seed must be an integer of at least 0"),
            (lambda: RandomizedAsymmetric(0, fan_in=0), "fan_in must be an integer of at least 1"),
            (lambda: RandomizedAsymmetric(0, sigma_w=-1), "sigma_w must be at least 0"),
            (lambda: RandomizedAsymmetric(0)((4,)), "a bias, of shape .* needs the number"),
        ],
    )
    def test_mistakes_are_explained(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()
