"""Quantisers and their slopes against formulas of their papers and of larq, written anew in NumPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import Surrogate, functions, testing

X = np.random.default_rng(0).normal(size=2000) * 1.5


def value(function, x=X):
    return function.value(tf.constant(x)).numpy()


def slope(pair, x=X):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pair(x)
    return tape.gradient(y, x).numpy()


def nearest(levels, x):
    """The nearest of the levels to every x; ties go to the lower one."""
    levels = np.asarray(levels)
    return levels[np.abs(x[:, np.newaxis] - levels).argmin(axis=1)]


@pytest.mark.parametrize("levels", [2, 3, 4, 7, 62, 256, 1024])
@pytest.mark.parametrize("spacing", [0.01, 0.3, 2.0])
def test_a_staircase_has_its_levels_from_minus_1_to_1_at_equal_spacings(levels, spacing):
    function = functions.Staircase(levels, spacing)
    heights = np.linspace(-1, 1, levels)
    # Each level is nearest where the levels, stretched to the spacing, are.
    stretched = heights * (levels - 1) / 2 * spacing
    expected = np.interp(nearest(stretched, X), stretched, heights)
    np.testing.assert_allclose(value(function), expected, atol=1e-12)
    np.testing.assert_allclose(value(function, -X), -value(function), atol=1e-12)
    assert len(function.jumps(1.0)) == levels - 1
    assert not slope(Surrogate(function)).any()


def test_two_levels_are_the_sign_and_the_default_rounds():
    x = np.append(X, 0.0)
    np.testing.assert_array_equal(
        value(functions.Staircase(2, 0.7), x), value(functions.Sign(1.0), x)
    )
    np.testing.assert_array_equal(value(functions.Staircase(), x), np.clip(np.round(x), -1, 1))
    # At a jump: the upper level of an even number of levels, half to even of an odd number.
    assert value(functions.Staircase(4), np.array([-1.0, 0.0, 1.0])) == pytest.approx(
        [-1 / 3, 1 / 3, 1]
    )
    np.testing.assert_array_equal(
        value(functions.Staircase(5), np.array([-1.5, -0.5, 0.5, 1.5])), [-1, 0, 0, 1]
    )


@pytest.mark.parametrize("dtype", testing.DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("levels", [2, 3, 16, 17, 255, 256])
def test_the_levels_of_low_precision_are_right_beside_0_and_far_out(dtype, levels):
    """In bfloat16 a shift of the steps by half the levels would lose the sign of small numbers."""
    x = tf.cast(tf.constant([-1e30, -1e-6, 1e-6, 1e30, -0.26, 0.26]), dtype)
    x = tf.clip_by_value(x, dtype.min, dtype.max)
    y = functions.Staircase(levels, 2 / (levels - 1)).value(x)
    expected = functions.Staircase(levels, 2 / (levels - 1)).value(tf.cast(x, tf.float64))
    step = 2 / (levels - 1)
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, atol=step + 0.01)
    np.testing.assert_allclose(tf.cast(y, tf.float64)[:4], expected[:4], rtol=0.01, atol=1e-12)


def test_rounding_passes_any_slope():
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5])
    rounding = Surrogate("round", "linear")
    np.testing.assert_array_equal(rounding(tf.constant(x)), [-2, 0, 0, 2, 2])
    np.testing.assert_array_equal(slope(rounding, x), 1)
    floor = Surrogate("floor", "tanh", scale=2.0)
    np.testing.assert_array_equal(floor(tf.constant(x)), [-2, -1, 0, 1, 2])
    np.testing.assert_allclose(slope(floor), 2 / np.cosh(X) ** 2)


def test_ste_tern_is_larq_s():
    """larq: sign(sign(x + t) + sign(x - t)), with the gradient where abs(x) <= 1."""
    pair = ks.get("ste_tern")
    expected = np.sign(np.sign(X + 0.05) + np.sign(X - 0.05))
    np.testing.assert_array_equal(pair(tf.constant(X)), expected)
    np.testing.assert_array_equal(slope(pair), np.abs(X) <= 1)
    assert ks.get("ste_tern", threshold=0.5).forward == functions.Ternary(0.5)


def test_twn_is_the_rule_of_the_mean_size():
    """Li et al. 2016: the threshold is 0.7 times the mean of abs(w) over the tensor."""
    mean = np.abs(X).mean()
    expected = np.where(np.abs(X) > 0.7 * mean, np.sign(X), 0)
    np.testing.assert_array_equal(ks.get("twn")(tf.constant(X / mean)), expected)
    np.testing.assert_array_equal(slope(ks.get("twn")), 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_dorefa_activations_are_larq_s(bits):
    n = 2**bits - 1
    pair = ks.get("dorefa", bits=bits)
    x = np.append(X, [0.0, 1.0])
    np.testing.assert_allclose(pair(tf.constant(x)), np.round(np.clip(x, 0, 1) * n) / n)
    # larq's gradient includes both ends, where outputs of a rectifier often are.
    np.testing.assert_array_equal(slope(pair, x), (x >= 0) & (x <= 1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_dorefa_weights_are_larq_s_for_the_largest_weight(bits):
    """larq: 2 quantize(tanh(w) / (2 max) + 1 / 2) - 1, the maximum without a gradient."""
    n = 2**bits - 1
    largest = np.abs(np.tanh(X)).max()
    pair = ks.get("dorefa_weight", bits=bits, largest=largest)
    expected = 2 * np.round((np.tanh(X) / (2 * largest) + 0.5) * n) / n - 1
    np.testing.assert_allclose(pair(tf.constant(X)), expected, atol=1e-12)
    np.testing.assert_allclose(slope(pair), (1 - np.tanh(X) ** 2) / largest)


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
FP4 = np.concatenate([-FP4[:0:-1], FP4])


def test_fp4_is_the_nearest_of_its_fifteen_numbers_and_ties_go_to_even():
    x = 4 * X
    np.testing.assert_array_equal(value(functions.Fp4(), x), nearest(FP4, x))
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    np.testing.assert_array_equal(value(functions.Fp4(), ties), [0, 1, 1, 2, 2, 4, 4])


@pytest.mark.parametrize(("k", "limit"), [(5.0, 3.0), (2.0, 1.2), (7.0, 0.1)])
def test_dge_is_the_papers_slope_between_neighbouring_numbers(k, limit):
    """Wang et al. 2025: abs(2 x / d - 1)**(1 / k - 1) / k on [0, d], clipped; 0 outside [-6, 6]."""
    x = 4 * X
    expected = np.zeros_like(x)
    for low, high in itertools.pairwise(FP4):
        inside = (x >= low) & (x < high)
        share = 2 * (x[inside] - low) / (high - low) - 1
        expected[inside] = np.minimum(np.abs(share) ** (1 / k - 1) / k, limit)
    pair = ks.get("dge_fp4", k=k, limit=limit)
    np.testing.assert_allclose(slope(pair, x), expected, rtol=1e-9)
    # In the middle of a step the power would be infinite.
    assert slope(pair, np.array([0.25, 2.5, -5.0])) == pytest.approx(min(limit, np.inf))


@pytest.mark.parametrize("o", [1.0, 1.7, 3.0])
def test_reste_is_the_slope_of_its_authors_code(o):
    """Wu et al. 2023: a difference quotient up to m, a power up to t, then 0."""
    size = np.abs(X)
    expected = np.where(size <= 0.1, 0.1 ** (1 / o) / 0.1, size ** ((1 - o) / o) / o)
    expected[size > 1.5] = 0
    pair = ks.get("reste_sign", o=o)
    np.testing.assert_allclose(slope(pair), expected)
    np.testing.assert_array_equal(pair(tf.constant(X)), np.sign(X))
    if o == 1:
        np.testing.assert_array_equal(slope(pair), size <= 1.5)


@pytest.mark.parametrize("b", [0.5, 3.0, 20.0])
def test_dspike_is_the_papers_at_a_threshold_of_a_half(b):
    """Li et al. 2021: a tanh(b (x - 1/2)) + d on [0, 1], with values 0 and 1 at the ends."""
    height = 1 / (np.tanh(b / 2) - np.tanh(-b / 2))
    shift = -height * np.tanh(-b / 2)
    inside = np.abs(X) <= 0.5
    expected = np.where(inside, height * np.tanh(b * X) + shift, X > 0)
    np.testing.assert_allclose(value(functions.Dspike(b)), expected, atol=1e-12)
    expected = np.where(inside, height * b / np.cosh(b * X) ** 2, 0)
    np.testing.assert_allclose(slope(ks.get("dspike", b=b)), expected, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["ste_tern", "twn", "dorefa", "dorefa_weight", "dge_fp4", "reste_sign", "dspike"]
)
@pytest.mark.parametrize("dtype", testing.DTYPES, ids=lambda dtype: dtype.name)
def test_slopes_are_finite_and_keep_the_dtype(name, dtype):
    sizes = [0, testing.DTYPES[dtype][1], 0.05, 0.25, 0.5, 1, 1.5, 2.5, 6, 7, float(dtype.max)]
    x = tf.cast(tf.constant(np.multiply.outer([-1, 1], sizes)), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ks.get(name)(x)
    gradient = tape.gradient(y, x)
    assert y.dtype == gradient.dtype == dtype
    assert np.isfinite(tf.cast(y, tf.float64)).all()
    assert np.isfinite(tf.cast(gradient, tf.float64)).all()


def test_swap_gives_two_bit_activations_a_slope(tmp_path):
    staircase = functions.Staircase(4, 2 / 3)
    pair = Surrogate(staircase, "hard_tanh")
    hidden = keras.layers.Dense(6, Surrogate(staircase))
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2)])
    swapped = ks.conversion.swap(model, {"staircase": pair})
    swapped.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].activation == pair
    found = np.unique(np.round(loaded.layers[0](X[:80].reshape(20, 4)), 6))
    np.testing.assert_allclose(found, [-1, -1 / 3, 1 / 3, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: functions.Staircase(1),
            "levels must be a whole number from 2 to 65536, but is 1",
        ),
        (lambda: functions.Staircase(2.5), "levels must be a whole number"),
        (lambda: functions.Staircase(True), "levels must be a whole number"),
        (lambda: functions.Staircase(4, 0.0), "spacing must be a positive number"),
        (lambda: ks.get("dorefa", bits=0), "bits must be a whole number from 1 to 15, but is 0"),
        (lambda: ks.get("dorefa_weight", bits=33), "bits must be a whole number from 1 to 15"),
        (lambda: ks.get("dorefa_weight", largest=0.0), "largest must be a positive number"),
        (lambda: functions.Clip(1.0, 1.0), "low must be below high"),
        (lambda: ks.get("dge_fp4", k=1.0), "k must be a number greater than 1"),
        (lambda: ks.get("reste_sign", m=0.0), "m must be a positive number"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_whole_numbers_stay_whole_in_configurations():
    staircase = functions.get("staircase", levels=4.0, spacing=1)
    assert staircase.get_config() == {"name": "staircase", "levels": 4, "spacing": 1.0}
    assert isinstance(staircase.levels, int)
    assert functions.get(staircase.get_config()) == staircase


def test_the_contract_catches_jumps_that_are_wrong():
    class Wrong(functions.Staircase, collect=False):
        def jumps(self, reach):
            return super().jumps(reach)[1:]

    with pytest.raises(AssertionError, match="jumps: value between two of them"):
        testing.check_function(Wrong())

    class TooMany(functions.Staircase, collect=False):
        def jumps(self, reach):
            return np.append(super().jumps(reach), 3.0)

    with pytest.raises(AssertionError, match="jumps: no change of the value"):
        testing.check_function(TooMany())
