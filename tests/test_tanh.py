"""The tanh(nx) question: its numbers, its optimum, and its claim that n is nothing but a rescaling."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from keras_surrogate import Surrogate, functions, plots, theory


@pytest.mark.parametrize(("depth", "published"), [(2, "0.658"), (50, "9.01"), (1, "0.441")])
def test_the_numbers_of_the_question(depth, published):
    decimals = len(published.split(".")[1])
    assert f"{theory.tanh_threshold(2, depth=depth):.{decimals}f}" == published


def test_the_default_is_for_pairs():
    assert theory.tanh_threshold(2) == theory.tanh_threshold(2, 2)
    assert isinstance(theory.tanh_threshold(2), float)


@pytest.mark.parametrize("depth", [1, 2, 3, 20])
@pytest.mark.parametrize("n", [1.0001, 1.5, 2, 5])
def test_the_slope_there_is_what_the_definition_says(n, depth):
    slope = functions.ScaledTanh(n).slope
    threshold = theory.tanh_threshold(n, depth)
    least = n ** -(depth - 1.0)
    np.testing.assert_allclose(
        slope(tf.constant(threshold, tf.float64)), least, rtol=1e-2 if depth == 20 else 1e-9
    )
    assert (
        slope(tf.constant(1.01 * threshold, tf.float64))
        < least
        < slope(tf.constant(0.99 * threshold, tf.float64))
    )


def test_it_equals_the_formula_where_that_can_be_computed():
    n, depth = np.linspace(1.05, 4, 30), np.arange(1, 9)[:, np.newaxis]
    np.testing.assert_allclose(
        theory.tanh_threshold(n, depth),
        np.arctanh(np.sqrt(1 - n ** -depth.astype(float))) / n,
        rtol=1e-9,
    )


def test_extremes_are_exact():
    # acosh(e**a) tends to a + log 2, and to sqrt(2 a) near 0; the plain formula gives inf and 0
    # there.
    np.testing.assert_allclose(
        theory.tanh_threshold(2, 10**6), (5e5 * np.log(2) + np.log(2)) / 2, rtol=1e-15
    )
    np.testing.assert_allclose(
        theory.tanh_threshold(1 + 1e-15), np.sqrt(2 * np.log1p(np.spacing(1) * 5)), rtol=1e-6
    )
    assert np.isfinite(theory.tanh_threshold(1e300, 10**9))
    assert theory.tanh_threshold(1) == 0
    assert theory.tanh_threshold(np.ones((2, 3)), 7).tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize("n", [0.5, 0, -2, np.inf, np.nan, "2", None, True, [2, 0.9], 1j])
def test_no_threshold_for_n_below_one_and_what_is_no_number(n):
    with pytest.raises(ValueError, match="n must be"):
        theory.tanh_threshold(n)


@pytest.mark.parametrize("depth", [0, -1, 1.5, np.inf, np.nan, "2", None, True, [2, 0]])
@pytest.mark.parametrize(
    "function", [lambda depth: theory.tanh_threshold(2, depth), theory.tanh_optimum]
)
def test_depth_is_a_positive_integer(function, depth):
    with pytest.raises(ValueError, match="depth must be"):
        function(depth)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 50, 1000])
def test_the_optimum_is_that_of_a_blind_search(depth):
    best = theory.tanh_optimum(depth)
    found = optimize.minimize_scalar(
        lambda n: -theory.tanh_threshold(n, depth), bounds=(1, 8), method="bounded"
    )
    np.testing.assert_allclose(best.n, found.x, rtol=1e-4)
    np.testing.assert_allclose(best.threshold, -found.fun, rtol=1e-9)
    np.testing.assert_allclose(best.threshold, theory.tanh_threshold(best.n, depth), rtol=1e-12)


def test_the_optimum_for_pairs_is_slightly_wider_than_that_of_the_integer_two():
    best = theory.tanh_optimum()
    np.testing.assert_allclose(best, (1.8101705806, 0.6627434193), rtol=1e-9)
    integers = theory.tanh_threshold(np.arange(1, 100))
    assert np.argmax(integers) + 1 == 2
    assert 0 < best.threshold - integers.max() < 0.005


def test_the_optimum_of_many_depths_at_once_tends_to_e():
    depths = np.array([1, 2, 10, 1000, 10**6, 10**9])
    best = theory.tanh_optimum(depths)
    assert (np.diff(best.n) > 0).all() and (np.diff(best.threshold) > 0).all()
    np.testing.assert_allclose(best.n[-1], np.e, rtol=1e-8)
    theta = best.n * best.threshold
    np.testing.assert_allclose(theta * np.tanh(theta), depths / 2, rtol=1e-14)


def train(n, scale, hidden_optimizer, output_optimizer, steps=20):
    """The loss, `scale` times the hidden parameters, and the last ones, of a tanh(scale * x) network at every step."""
    generator = np.random.default_rng(0)
    x, y = (
        tf.constant(generator.standard_normal((32, 6))),
        tf.constant(generator.standard_normal((32, 2))),
    )
    activation = Surrogate(functions.ScaledTanh(scale))
    hidden = [keras.layers.Dense(8, activation, dtype="float64") for _ in range(3)]
    output = keras.layers.Dense(2, dtype="float64")
    model = keras.Sequential([keras.Input((6,), dtype="float64"), *hidden, output])
    for variable in model.trainable_variables:
        variable.assign(generator.standard_normal(variable.shape) / 3)
    inner = [variable for layer in hidden for variable in layer.trainable_variables]
    for variable in inner:
        variable.assign(variable * (n / scale))
    trajectory = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
        gradients = tape.gradient(
            loss, [variable.value for variable in [*inner, *output.trainable_variables]]
        )
        hidden_optimizer.apply(gradients[: len(inner)], inner)
        output_optimizer.apply(gradients[len(inner) :], output.trainable_variables)
        weights = [scale * variable.numpy().ravel() for variable in inner]
        weights += [variable.numpy().ravel() for variable in output.trainable_variables]
        trajectory.append(np.concatenate([[loss], *weights]))
    return np.array(trajectory)


def sgd(rate):
    return keras.optimizers.SGD(rate)


def momentum(rate):
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def adam(rate, shrink=1):
    return keras.optimizers.Adam(rate, epsilon=1e-3 / shrink)


@pytest.mark.parametrize(
    ("optimizer", "n"),
    [
        (sgd, 2),
        (momentum, 0.5),
        *(pytest.param(sgd, n, marks=pytest.mark.slow) for n in (3, 0.5)),
        *(pytest.param(momentum, n, marks=pytest.mark.slow) for n in (2, 3)),
    ],
)
def test_tanh_nx_trains_as_tanh_of_weights_times_n_when_hidden_rates_are_times_n_squared(
    optimizer, n
):
    rate = 1 / 16  # exact in the float32 that Keras keeps it in, also times 9
    reference = train(n, n, optimizer(rate), optimizer(rate))
    assert np.ptp(reference[:, 0]) > 0.1
    np.testing.assert_allclose(
        train(n, 1, optimizer(n**2 * rate), optimizer(rate)), reference, rtol=1e-6, atol=1e-9
    )
    for hidden, last in ((1, 1), (n, n), (n**2, n**2), (n, 1)):
        other = train(n, 1, optimizer(hidden * rate), optimizer(last * rate))
        np.testing.assert_allclose(other[0, 0], reference[0, 0], rtol=1e-12)
        assert np.max(np.abs(other - reference)) > 0.01


def test_with_adam_the_factor_is_n_and_epsilon_is_divided_by_it():
    n, rate = 2, 0.01
    reference = train(n, n, adam(rate), adam(rate))
    np.testing.assert_allclose(
        train(n, 1, adam(n * rate, n), adam(rate)), reference, rtol=1e-6, atol=1e-9
    )
    for other in (adam(rate, n), adam(n**2 * rate, n), adam(n * rate)):
        assert np.max(np.abs(train(n, 1, other, adam(rate)) - reference)) > 1e-4


def test_the_picture_draws_both_thresholds_and_marks_the_best():
    ax = plots.tanh_thresholds()
    upper, lower, real, integer = ax.lines
    np.testing.assert_array_equal(upper.get_ydata(), theory.tanh_threshold(upper.get_xdata()))
    np.testing.assert_array_equal(lower.get_ydata(), -upper.get_ydata())
    assert real.get_xdata()[0] == theory.tanh_optimum().n
    assert list(integer.get_xdata()) == [2, 2]
    assert np.max(upper.get_ydata()) <= real.get_ydata()[0]
    assert "0.658" in integer.get_label() and ax.get_xlabel() == "n" and ax.get_ylabel() == "x"
    plots.axes.plt.close("all")


def test_the_picture_for_other_depths_on_a_given_axis():
    ax = plots.axes.plt.figure().add_subplot()
    assert plots.tanh_thresholds(50, ax, high=3) is ax
    assert list(ax.lines[3].get_xdata()) == [3, 3]
    with pytest.raises(ValueError, match="high must be above 1"):
        plots.tanh_thresholds(high=1)
    plots.axes.plt.close("all")
