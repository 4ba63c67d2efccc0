"""Averages of functions that jump, against bivariate normal probabilities, and straight-through runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats
from scipy.special import ndtr

from keras_surrogate import Surrogate, functions, theory
from keras_surrogate.theory import mean_field, moments, staircases


def levels_of(places, function):
    inside = np.concatenate([places[:1] - 1, (places[1:] + places[:-1]) / 2, places[-1:] + 1])
    return function.value(tf.constant(inside)).numpy()


def by_probabilities(function, variance, correlation):
    """E[f(u) f(v)] as a sum of SciPy's probabilities that both numbers exceed a pair of jumps."""
    places = function.jumps(10 * np.sqrt(variance))
    levels = levels_of(places, function)
    heights = np.diff(levels)
    a = places / np.sqrt(variance)
    first, second = np.meshgrid(a, a)
    covariance = [[1, correlation], [correlation, 1]]
    corners = -np.stack([first, second], axis=-1)
    both = stats.multivariate_normal.cdf(corners, mean=[0, 0], cov=covariance)
    single = levels[0] * heights @ ndtr(-a)
    return levels[0] ** 2 + 2 * single + heights @ both.reshape(len(a), -1) @ heights


def by_conditioning(function, variance, correlation):
    """E[f(u) f(v)] = E[m(z)**2]: m is the mean given the shared part z. For many jumps."""
    places = function.jumps(10 * np.sqrt(variance)) / np.sqrt(variance)
    levels = levels_of(places * np.sqrt(variance), function)
    own = np.sqrt(1 - correlation)
    shared = np.linspace(-9, 9, 6001)
    total = np.full_like(shared, levels[0])
    for place, height in zip(places, np.diff(levels), strict=True):
        total += height * ndtr((np.sqrt(correlation) * shared - place) / own)
    return np.trapezoid(total**2 * stats.norm.pdf(shared), shared)


FEW = [
    functions.Sign(1.0),
    functions.Step(),
    functions.Staircase(2),
    functions.Staircase(3, 1.2),
    functions.Staircase(10, 0.07),
    functions.Ternary(0.05),
    functions.Fp4(),
    functions.Dorefa(2),
    functions.DorefaWeight(3, 0.9),
]


@pytest.mark.parametrize("function", FEW, ids=str)
@pytest.mark.parametrize("variance", [0.04, 1.7])
@pytest.mark.parametrize("correlation", [-0.999, -0.3, 0.0, 0.5, 0.98])
def test_the_correlation_map_is_a_sum_of_bivariate_normal_probabilities(
    function, variance, correlation
):
    expected = by_probabilities(function, variance, correlation)
    _, product = mean_field._mean_and_product(Surrogate(function))(variance, correlation)
    assert product == pytest.approx(expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        *(functions.Staircase(n, s) for n in (2, 62, 63, 1024) for s in (1e-3, 0.06, 3.0)),
        functions.Round(),
        functions.Floor(),
        functions.DorefaWeight(6),
    ],
    ids=str,
)
@pytest.mark.parametrize("correlation", [0.1, 0.9, 0.999])
def test_so_it_is_for_many_levels_of_any_spacing(function, correlation):
    expected = by_conditioning(function, 1.3, correlation)
    _, product = mean_field._mean_and_product(Surrogate(function))(1.3, correlation)
    assert product == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("correlation", [-1 + 1e-12, -0.4, 0.7, 1 - 1e-6, 1 - 1e-12])
def test_two_levels_are_the_arc_sine_up_to_a_correlation_of_1(correlation):
    _, product = mean_field._mean_and_product(Surrogate("sign"))(0.3, correlation)
    assert product == pytest.approx(2 / np.pi * np.arcsin(correlation), rel=1e-10)


@pytest.mark.parametrize("levels", [2, 3, 62, 1024])
def test_the_map_ends_at_the_power(levels):
    """The square root in the distance from 1, with which maps of jumping functions end there."""
    pair = Surrogate(functions.Staircase(levels, 3 / levels))
    mean, power = moments.mean_and_power(pair, 0.8)
    assert mean_field._mean_and_product(pair)(0.8, 1.0)[1] == power
    near = mean_field._mean_and_product(pair)(0.8, 1 - 1e-14)[1]
    assert 0 < power - near < 1e-6
    assert mean_field._mean_and_product(pair)(0.8, 0.0)[1] == pytest.approx(mean**2, abs=1e-12)
    assert mean_field._mean_and_product(pair)(0.8, -1.0)[1] == pytest.approx(-power, rel=1e-9)


@pytest.mark.parametrize("function", [*FEW, functions.Round(), functions.Staircase(1024, 0.01)])
@pytest.mark.parametrize("variance", [1e-3, 0.4, 30.0])
def test_means_and_powers_are_sums_of_normal_probabilities(function, variance):
    places = function.jumps(10 * np.sqrt(variance))
    levels = levels_of(places, function)
    edges = np.concatenate([[-np.inf], places / np.sqrt(variance), [np.inf]])
    # From the left tail on the left, from the right tail on the right.
    right = edges[:-1] >= 0
    probability = np.where(right, ndtr(-edges[:-1]) - ndtr(-edges[1:]), np.diff(ndtr(edges)))
    mean, power = moments.mean_and_power(Surrogate(function), np.array([variance]))
    assert mean[0] == pytest.approx(levels @ probability, rel=1e-9, abs=1e-12)
    assert power[0] == pytest.approx(levels**2 @ probability, rel=1e-9)
    assert moments.signal_power(Surrogate(function), variance) == pytest.approx(power[0])


def test_without_a_signal_and_with_too_many_jumps_the_grid_serves():
    assert moments.signal_power(Surrogate("round"), 0.0) == 0
    assert moments.signal_power(Surrogate("round"), 1e8) == pytest.approx(1e8 + 1 / 12, rel=1e-5)
    shape = moments.signal_power(Surrogate("sign"), np.ones((2, 3))).shape
    assert shape == (2, 3)


def chi_at_0(spacing, levels):
    """The factor of small correlations in a layer, from SciPy's density: (E[z f])**2 / E[f**2]."""
    places = spacing * (np.arange(1, levels) - levels / 2)
    heights = np.linspace(-1, 1, levels)
    cells = np.diff(ndtr(np.concatenate([[-np.inf], places, [np.inf]])))
    gain = 2 / (levels - 1) * stats.norm.pdf(places).sum()
    return gain**2 / (heights**2 @ cells)


def test_the_depth_that_a_number_of_levels_allows():
    """Max 1960 for the losses; Blumenfeld et al. 2019 for depth, 1 / loss, which grows as N**1.82.

    The exponent is not constant: 1.63 from 3 to 4 levels, 1.70 from 8 to 16, 1.82 from 256 to 1024.
    """
    lost = {}
    for levels in (3, 4, 16, 256, 1024):
        best = optimize.minimize_scalar(
            lambda spacing, n=levels: -chi_at_0(spacing, n),
            bounds=(2 / levels, 8 / levels**0.8),
            method="bounded",
            options={"xatol": 1e-10},
        )
        pair = Surrogate(functions.Staircase(levels, best.x))
        small = 1e-4
        _, product = mean_field._mean_and_product(pair)(1.0, small)
        chi = product / small / moments.signal_power(pair, 1.0)
        assert chi == pytest.approx(-best.fun, abs=1e-7)
        lost[levels] = 1 - chi
    # The least mean square error of uniform quantisers of a Gaussian, Max 1960, table 2.
    assert lost[3] == pytest.approx(0.1902, abs=2e-4)
    assert lost[4] == pytest.approx(0.1188, abs=2e-4)
    assert lost[16] == pytest.approx(0.01154, abs=2e-5)
    exponent = np.log(lost[256] / lost[1024]) / np.log(1024 / 256)
    assert exponent == pytest.approx(1.82, abs=0.01)


def networks(pair, scale, depth=8, width=400, draws=12):
    """Mean log10 of the gradient's norm at the first layer over the last, and the last signal."""
    generator = np.random.default_rng(3)
    ratios, signals = [], []
    for _ in range(draws):
        x = generator.normal(size=width)
        layers = []
        for _ in range(depth):
            matrix = generator.normal(size=(width, width)) * np.sqrt(scale / width)
            h = matrix @ x
            layers.append((matrix, h))
            x = pair.forward.value(tf.constant(h)).numpy()
        d = generator.normal(size=width)
        norms = []
        for matrix, h in reversed(layers):
            d = d * pair.scale * pair.backward.slope(tf.constant(h)).numpy()
            norms.append(np.linalg.norm(d))
            d = matrix.T @ d
        ratios.append(np.log10(norms[-1] / norms[0]))
        signals.append(layers[-1][1].var())
    return np.mean(ratios), np.mean(signals)


@pytest.mark.parametrize("function", [functions.Sign(1.0), functions.Staircase(4, 0.6)], ids=str)
def test_balance_and_critical_weights_of_quantisers_keep_the_gradient(function):
    pair = theory.balance(Surrogate(function, "hard_tanh"), 1.5)
    ratio, signal = networks(pair, 1.5)
    assert ratio == pytest.approx(0, abs=0.07)
    assert signal == pytest.approx(theory.fixed_point(pair, 1.5), rel=0.1)
    pair = Surrogate(function, "hard_tanh")
    scale = theory.critical_weight_variance(pair)
    ratio, _ = networks(pair, scale)
    assert ratio == pytest.approx(0, abs=0.07)


# --------------------------------------------------------------------------------------------------
# the straight-through estimator that a slope amounts to

INPUTS = np.random.default_rng(0).normal(size=(64, 30))
TARGETS = INPUTS @ np.random.default_rng(1).uniform(-6, 6, 30)
WEIGHTS = np.random.default_rng(2).uniform(-5.5, 5.5, 30)


def trained(pair, start, optimizer, steps):
    """The latent and the quantised weights after gradient descent on a regression."""
    w = tf.Variable(start)
    optimizer.build([w])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.linalg.matvec(INPUTS, pair(w)) - TARGETS) ** 2)
        optimizer.apply([tape.gradient(loss, w)])

    for _ in range(steps):
        step()
    return w.numpy(), pair(w).numpy()


def test_plain_sgd_with_dge_is_straight_through_with_another_rate_and_start():
    pair = Surrogate("fp4", "dge")
    same = theory.equivalent_straight_through(pair)
    alpha = same.learning_rate_factor
    sgd = keras.optimizers.SGD
    steps = 400
    latent, quantised = trained(pair, WEIGHTS, sgd(1e-3), steps)
    plain = Surrogate("fp4", "linear")
    other, other_quantised = trained(plain, same.start(WEIGHTS), sgd(alpha * 1e-3), steps)
    assert (quantised != pair(tf.constant(WEIGHTS)).numpy()).mean() > 0.2
    assert (quantised == other_quantised).mean() > 0.9
    inside = np.abs(latent) < 6
    np.testing.assert_allclose(same.start(latent[inside]), other[inside], atol=0.08)
    # With the rate unchanged, or the start, the runs part.
    rate, _ = trained(plain, same.start(WEIGHTS), sgd(1e-3), steps)
    start, _ = trained(plain, WEIGHTS, sgd(alpha * 1e-3), steps)
    right = np.abs(same.start(latent[inside]) - other[inside]).mean()
    for wrong in (rate, start):
        assert np.abs(same.start(latent[inside]) - wrong[inside]).mean() > 3 * right


def test_adam_needs_no_change():
    """A slope that varies slowly: a sign with the slope of a wide sigmoid."""
    pair = Surrogate("sign", functions.get("scaled_sigmoid", alpha=0.3))
    plain = Surrogate("sign", "linear")
    start = WEIGHTS / 6
    runs = [
        trained(each, start, keras.optimizers.Adam(1e-3, epsilon=1e-12), 300)
        for each in (pair, plain)
    ]
    np.testing.assert_allclose(runs[0][0], runs[1][0], atol=0.02)
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_the_factors_of_known_slopes():
    # k u**(1 - 1 / k) is 1 over the slope of dge beyond its start, and 1 / limit before it.
    start = 15 ** (-5 / 4)
    time = start / 3 + 5 / 1.8 * (1 - start**1.8)
    same = theory.equivalent_straight_through("dge_fp4")
    assert same.learning_rate_factor == pytest.approx(1 / time, rel=1e-6)
    np.testing.assert_allclose(same.factors, 1 / time, rtol=1e-6)
    # A sign with the slope of tanh: M is the integral of cosh(w)**2.
    sign = theory.equivalent_straight_through(Surrogate("sign", "tanh", scale=2.0))
    assert sign.learning_rate_factor == pytest.approx(2.0)
    w = np.array([[-1.2, 0.0], [0.4, 2.0]])
    np.testing.assert_allclose(sign.start(w), w / 2 + np.sinh(2 * w) / 4, rtol=1e-6)
    # Slope 1 changes nothing.
    plain = theory.equivalent_straight_through(Surrogate(functions.Staircase(5), "linear"))
    assert plain.learning_rate_factor == pytest.approx(1)
    np.testing.assert_allclose(plain.start(w), w, atol=1e-12)
    assert "learning rate factor" in repr(plain)


def test_where_cells_differ_there_is_no_single_rate():
    same = theory.equivalent_straight_through(Surrogate(functions.Staircase(5), "tanh"))
    assert same.learning_rate_factor is None
    assert same.factors.shape == (3,)
    assert same.factors[1] > same.factors[0]
    np.testing.assert_allclose(same.start(same.jumps), same.jumps, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.equivalent_straight_through("relu"), "relu is not constant between jumps"),
        (
            lambda: theory.equivalent_straight_through("sign"),
            "slope of sign at 0 is 0.*must be positive",
        ),
        (
            lambda: theory.equivalent_straight_through("ste_sign").start([0.5, 1.5]),
            "slope of hard_tanh at 1.* is 0",
        ),
        (
            lambda: theory.equivalent_straight_through(Surrogate("sign", "tanh", scale=-1.0)),
            "must be positive",
        ),
        (lambda: theory.equivalent_straight_through("ste_sign").start([np.nan]), "finite numbers"),
        (lambda: theory.equivalent_straight_through("ste_sing"), "Did you mean 'ste_sign'"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_steps_are_read_off_the_value():
    steps = staircases.steps_of(functions.Fp4(), 1.0)
    np.testing.assert_array_equal(steps.levels[:3], [-6, -4, -3])
    assert staircases.steps_of(functions.Tanh(), 1.0) is None
