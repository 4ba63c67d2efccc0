"""The theory against what shares no code with it: closed forms, adaptive quadrature, and random NumPy networks."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from products import some
from scipy import integrate, stats

from keras_surrogate import Surrogate, functions, presets, theory
from keras_surrogate.theory import finite_width, mean_field, moments, stacks, weights


def at(function, x):
    return float(function(tf.constant(float(x), tf.float64)))


def quad(integrand, variance, breaks=(0.0,)):
    """E[integrand(sqrt(q) z)] by adaptive quadrature, split where the integrand has kinks or jumps."""
    deviation = np.sqrt(variance)
    edges = sorted({-9.0, 9.0, *(edge / deviation for edge in breaks if abs(edge / deviation) < 9)})
    return sum(
        integrate.quad(
            lambda z: integrand(deviation * z) * stats.norm.pdf(z),
            low,
            high,
            epsabs=1e-12,
            limit=200,
        )[0]
        for low, high in itertools.pairwise(edges)
    )


def network(pair, depth, width, scale, generator, bias=0.0):
    """One random network, in float64: per layer the gradient's norm and its cosine with the true gradient."""
    x = generator.normal(size=width)
    x *= np.sqrt(width) / np.linalg.norm(x)
    layers = []
    for _ in range(depth):
        matrix = generator.normal(size=(width, width)) * np.sqrt(scale / width)
        h = matrix @ x + generator.normal(size=width) * np.sqrt(bias)
        layers.append((matrix, h))
        x = np.asarray(pair.forward.value(tf.constant(h)))
    upstream = generator.normal(size=width)
    artificial, true = upstream / np.linalg.norm(upstream), upstream / np.linalg.norm(upstream)
    norms, cosines = [], []
    for matrix, h in reversed(layers):
        artificial = artificial * pair.scale * np.asarray(pair.backward.slope(tf.constant(h)))
        true = true * np.asarray(pair.forward.slope(tf.constant(h)))
        norms.append(np.linalg.norm(artificial))
        cosines.append(
            artificial @ true / (norms[-1] * np.linalg.norm(true)) if true.any() else np.nan
        )
        artificial, true = matrix.T @ artificial, matrix.T @ true
    return norms[::-1], cosines[::-1]


def measured(pair, depth, width, scale, draws, bias=0.0):
    """Medians over the draws of log10 of the norms and of the cosines, (depth,), and standard errors of the first."""
    generator = np.random.default_rng(5)
    networks = [network(pair, depth, width, scale, generator, bias) for _ in range(draws)]
    norms, cosines = np.array(networks).swapaxes(0, 1)
    norms = np.log10(norms)
    errors = [1.25 * part[:, 0].std() / np.sqrt(draws) for part in (norms, cosines)]
    return np.median(norms, axis=0), np.median(cosines, axis=0), *errors


@pytest.mark.parametrize("variance", [1e-3, 0.4, 2.0, 30.0])
@pytest.mark.parametrize(
    ("name", "breaks"),
    [
        ("relu", [0]),
        ("softplus", [0]),
        ("bsilu", [0]),
        ("hard_tanh", [-1, 0, 1]),
        ("boxcar", [-1, 0, 1]),
        ("tanh", [0]),
    ],
)
def test_averages_are_those_of_adaptive_quadrature(name, breaks, variance):
    pair = Surrogate(name)
    signal = quad(lambda x: at(pair.forward.value, x) ** 2, variance, breaks)
    slope = quad(lambda x: at(pair.backward.slope, x) ** 2, variance, breaks)
    assert moments.signal_power(pair, variance) == pytest.approx(signal, rel=2e-3)
    assert moments.slope_power(pair, variance) == pytest.approx(slope, rel=2e-3)


def test_a_narrow_spike_is_resolved():
    pair, variance = Surrogate("step", functions.FastSigmoid(25.0)), 100.0
    expected = quad(lambda x: at(pair.backward.slope, x) ** 2, variance, [-0.1, 0, 0.1])
    assert moments.slope_power(pair, variance) == pytest.approx(expected, rel=1e-3)


def test_relu_with_he_weights_keeps_signal_and_gradient():
    prediction = theory.predict("relu", 60, "he_normal", input_variance=3.0)
    np.testing.assert_allclose(prediction.signal_variance, 6.0, rtol=1e-6)
    np.testing.assert_allclose(prediction.gradient_norm, np.sqrt(0.5), rtol=1e-6)
    np.testing.assert_allclose(prediction.alignment, 1.0)
    assert prediction.depth_scales.signal > 1e6
    assert prediction.correlation is None and prediction.depth_scales.correlation is None


def arc_cosine(c):
    """The correlation after a ReLU layer with He weights, Cho and Saul 2009."""
    return (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c) / np.pi


def test_correlation_under_relu_is_the_arc_cosine_kernel():
    expected = [-0.6]
    for _ in range(29):
        expected.append(arc_cosine(expected[-1]))
    prediction = theory.predict("relu", 30, 2.0, input_correlation=-0.6)
    np.testing.assert_allclose(prediction.correlation, expected, atol=2e-4)


@pytest.mark.parametrize("correlation", [-1.0, -0.7, -1e-3, 0.0, 0.3, 0.95, 1.0])
def test_correlation_under_sign_and_erf_are_arc_sines(correlation):
    sign = theory.predict("ste_sign", 2, 1.0, input_correlation=correlation)
    assert sign.correlation[1] == pytest.approx(2 / np.pi * np.arcsin(correlation), abs=5e-3)
    # E[(1 + erf(a u)) (1 + erf(a v))] / 4, Williams 1997
    share = 2 * 4 * 1.0 / (1 + 2 * 4 * 1.0)
    kernel = [0.25 + np.arcsin(share * c) / (2 * np.pi) for c in (correlation, 1.0)]
    erf = theory.predict(functions.get("erf", alpha=2.0), 2, 1.0, input_correlation=correlation)
    assert erf.correlation[1] == pytest.approx(kernel[0] / kernel[1], abs=1e-4)
    assert erf.signal_variance[1] == pytest.approx(kernel[1], rel=1e-4)


def test_correlation_decays_at_the_rate_of_the_theory():
    """Schoenholz et al. 2017: 1 - c shrinks by sw2 E[f'(h)**2] a layer where it converges to 1."""
    prediction = theory.predict("tanh", 40, 0.8, bias_variance=0.3, input_correlation=0.5)
    rate = 0.8 * quad(lambda x: (1 - np.tanh(x) ** 2) ** 2, prediction.signal_variance[-1])
    assert prediction.depth_scales.correlation == pytest.approx(-1 / np.log(rate), rel=0.02)


PAIRS = [
    "relu",
    "sugar_bsilu",
    "artificial_relu",
    "leaky_backward",
    "flat_spot",
    "gradient_reversal",
    "ste_sign",
]


@some("name", PAIRS, ["relu", "sugar_bsilu", "flat_spot", "ste_sign"])
@pytest.mark.parametrize("bias", [0.0, pytest.param(0.2, marks=pytest.mark.slow)])
def test_a_width_predicts_real_networks(name, bias):
    """Within the bar, log10 of the norm within 0.2 or 10 %, cosine within 0.05, and what 100 draws leave open."""
    pair, depth, width = presets.get(name), 24, 64
    norm, cosine, norm_error, cosine_error = measured(pair, depth, width, 1.6, 100, bias)
    prediction = theory.predict(pair, depth, 1.6, bias, width=width)
    off = abs(np.log10(prediction.gradient_norm[0]) - norm[0])
    assert off < max(0.15, 0.07 * abs(norm[0])) + 2 * norm_error
    if prediction.alignment is not None:
        np.testing.assert_allclose(prediction.alignment[0], cosine[0], atol=0.04 + 2 * cosine_error)
        np.testing.assert_allclose(prediction.alignment, cosine, atol=0.15)


def test_the_part_along_the_layers_own_input_takes_over_at_depth():
    """Without it the prediction would be 1.7 decades lower, at a cosine of 0.06."""
    pair = Surrogate("relu", "silu")
    norm, cosine, norm_error, cosine_error = measured(pair, 40, 64, 2.0, 150)
    prediction = theory.predict(pair, 40, 2.0, width=64)
    assert np.log10(prediction.gradient_norm[0]) == pytest.approx(norm[0], abs=0.2 + 2 * norm_error)
    assert prediction.alignment[0] == pytest.approx(cosine[0], abs=0.05 + 2 * cosine_error)


def test_few_units_that_carry_a_narrow_slope_are_sampled_one_by_one():
    """The mean of such norms is decades above the typical one, which the limit of width cannot see."""
    pair = Surrogate("step", functions.FastSigmoid(25.0), scale=20.0)
    norm, _, error, _ = measured(pair, 12, 64, 400.0, 250)
    infinite = np.log10(theory.predict(pair, 12, 400.0).gradient_norm)
    finite = np.log10(theory.predict(pair, 12, 400.0, width=64, draws=250).gradient_norm)
    assert infinite[0] > norm[0] + 2
    assert finite[0] == pytest.approx(norm[0], abs=3 * np.sqrt(2) * error)
    np.testing.assert_allclose(finite[-4:], norm[-4:], atol=0.3)


def test_wide_networks_approach_the_limit_and_seeds_repeat():
    limit = theory.predict("leaky_backward", 10, 1.9)
    wide = theory.predict("leaky_backward", 10, 1.9, width=100_000)
    np.testing.assert_allclose(wide.gradient_norm, limit.gradient_norm, rtol=0.02)
    np.testing.assert_allclose(wide.alignment, limit.alignment, atol=0.01)
    again, other = (
        theory.predict("leaky_backward", 10, 1.9, width=64, seed=seed) for seed in (0, 1)
    )
    np.testing.assert_array_equal(
        theory.predict("leaky_backward", 10, 1.9, width=64).gradient_norm, again.gradient_norm
    )
    assert (again.gradient_norm != other.gradient_norm).all()


def test_fluctuations_of_relu_are_those_of_hanin_and_nica():
    """ln of the squared norm of a He ReLU network's output varies by 5 / N a layer, and lies half of that below 0."""
    depth, width = 40, 100
    network = finite_width.Network(
        Surrogate("relu"), 2.0, 0.0, 1.0, width, with_true=False, units=16
    )
    signal, *_ = network.sample(np.full(depth, 2.0), 4000)
    logarithm = np.log(signal[-1] / signal[0])
    assert logarithm.var() == pytest.approx(5 * (depth - 1) / width, rel=0.1)
    assert logarithm.mean() == pytest.approx(-2.5 * (depth - 1) / width, rel=0.1)


def batch_norm_network(pair, depth, width, batch, generator):
    """log10 of first over last gradient norm, and the first cosine, with the backward pass of batch normalisation."""
    x, layers = generator.normal(size=(width, batch)), []
    for _ in range(depth):
        matrix = generator.normal(size=(width, width)) / np.sqrt(width)
        h = matrix @ x
        deviation = h.std(axis=1, keepdims=True)
        normal = (h - h.mean(axis=1, keepdims=True)) / deviation
        layers.append((matrix, normal, deviation))
        x = np.asarray(pair.forward.value(tf.constant(normal)))
    artificial = true = generator.normal(size=x.shape)
    norms = []
    for matrix, normal, deviation in reversed(layers):
        artificial = artificial * pair.scale * np.asarray(pair.backward.slope(tf.constant(normal)))
        true = true * np.asarray(pair.forward.slope(tf.constant(normal)))
        norms.append(np.linalg.norm(artificial))
        cosine = np.sum(artificial * true) / (norms[-1] * np.linalg.norm(true))
        artificial, true = (
            matrix.T
            @ (
                (
                    d
                    - d.mean(axis=1, keepdims=True)
                    - normal * (d * normal).mean(axis=1, keepdims=True)
                )
                / deviation
            )
            for d in (artificial, true)
        )
    return np.log10(norms[-1] / norms[0]), cosine


@pytest.mark.parametrize("name", ["relu", "leaky_backward", "flat_spot"])
def test_batch_normalised_stacks(name):
    pair, generator = presets.get(name), np.random.default_rng(1)
    ratio, cosine = np.mean(
        [batch_norm_network(pair, 12, 128, 128, generator) for _ in range(3)], axis=0
    )
    prediction = theory.predict(pair, 12, 1.0, stack="batch_norm")
    assert np.log10(prediction.gradient_ratio) == pytest.approx(ratio, abs=0.1)
    assert prediction.alignment[0] == pytest.approx(cosine, abs=0.05)
    if name == "relu":  # pi / (pi - 1) a layer, Yang et al. 2019
        np.testing.assert_allclose(
            prediction.gradient_norm[:-1] ** 2 / prediction.gradient_norm[1:] ** 2, 1.4669, 1e-3
        )


def residual_network(pair, depth, width, scale, generator):
    x, layers = generator.normal(size=width), []
    for _ in range(depth):
        matrix = generator.normal(size=(width, width)) * np.sqrt(scale / width)
        layers.append((matrix, matrix @ x))
        x = x + np.asarray(pair.forward.value(tf.constant(layers[-1][1])))
    artificial = true = generator.normal(size=width)
    last = None
    for matrix, h in reversed(layers):
        inner = artificial * pair.scale * np.asarray(pair.backward.slope(tf.constant(h)))
        true_inner = true * np.asarray(pair.forward.slope(tf.constant(h)))
        last = np.linalg.norm(inner) if last is None else last
        artificial, true = artificial + matrix.T @ inner, true + matrix.T @ true_inner
    cosine = inner @ true_inner / (np.linalg.norm(inner) * np.linalg.norm(true_inner))
    return np.log10(np.linalg.norm(inner) / last), cosine, np.log10(np.mean(layers[-1][1] ** 2))


@pytest.mark.parametrize("name", ["relu", "leaky_backward", "flat_spot", "tanh"])
def test_residual_stacks(name):
    pair, generator = presets.get(name), np.random.default_rng(2)
    ratio, cosine, signal = np.median(
        [residual_network(pair, 12, 256, 1.5, generator) for _ in range(12)], axis=0
    )
    prediction = theory.predict(pair, 12, 1.5, stack="residual")
    assert np.log10(prediction.gradient_ratio) == pytest.approx(ratio, abs=0.1)
    assert prediction.alignment[0] == pytest.approx(cosine, abs=0.05)
    assert np.log10(prediction.signal_variance[-1]) == pytest.approx(signal, abs=0.1)


@pytest.mark.parametrize(
    "initializer",
    [
        "he_normal",
        "he_uniform",
        "glorot_uniform",
        "glorot_normal",
        "lecun_normal",
        "orthogonal",
        keras.initializers.VarianceScaling(1.7, "fan_out"),
        keras.initializers.RandomNormal(stddev=0.04),
        keras.initializers.TruncatedNormal(stddev=0.05),
        keras.initializers.RandomUniform(-0.1, 0.1),
    ],
)
@pytest.mark.parametrize(
    ("shape", "fans"), [((500, 300), (500, 300)), ((3, 3, 60, 40), (540, 360))]
)
def test_initializers_have_the_variance_that_keras_draws(initializer, shape, fans):
    if initializer == "orthogonal" and len(shape) == 4:
        shape, fans = (300, 500), (300, 500)
    variance = np.var(np.asarray(keras.initializers.get(initializer)(shape)))
    np.testing.assert_allclose(
        weights.variances(initializer, fans), np.multiply(fans, variance), rtol=0.03
    )


def test_the_gradient_uses_the_fan_out():
    wider = theory.predict("linear", 5, "he_normal", fans=(100, 150))
    np.testing.assert_allclose(wider.signal_variance, 2.0 ** np.arange(1, 6))
    np.testing.assert_allclose(wider.gradient_norm**2, 3.0 ** np.arange(4, -1, -1))
    assert (
        theory.predict(
            "relu", 3, keras.initializers.RandomNormal(0.0, 0.1), width=50
        ).signal_variance[0]
        == 0.5
    )


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["relu", "tanh", "sigmoid", "sign", "elu", "softsign"]),
    st.sampled_from(["softplus", "silu", "tanh", "leaky_relu", "hard_tanh", "atan"]),
    st.floats(0.2, 1.9),
    st.floats(0.01, 1.0),
    st.sampled_from([1.0, -3.0]),
)
def test_a_balanced_pair_has_a_gain_of_1_where_its_signal_rests(
    forward, backward, scale, bias, factor
):
    pair = theory.balance(Surrogate(forward, backward, scale=factor), scale, bias)
    assert (pair.forward, pair.backward, pair.scale > 0) == (
        functions.get(forward),
        functions.get(backward),
        factor > 0,
    )
    deep = theory.predict(pair, 400, scale, bias)
    rest = deep.signal_variance[-1]
    assert theory.fixed_point(pair, scale, bias) == pytest.approx(rest, rel=0.02)
    chi = scale * pair.scale**2 * quad(lambda x: at(pair.backward.slope, x) ** 2, rest, [-1, 0, 1])
    assert chi == pytest.approx(1, abs=0.02)


def test_a_balanced_pair_keeps_its_gradient_at_depth():
    pair = theory.balance("sugar_bsilu", "he_normal")
    assert pair.scale == pytest.approx(
        np.sqrt(0.5 / quad(lambda x: at(pair.backward.slope, x) ** 2, 2.0)), rel=1e-4
    )
    assert theory.predict(pair, 50, "he_normal").gradient_ratio == pytest.approx(1, rel=1e-3)
    at_another = theory.balance("sugar_bsilu", 2.0, signal_variance=0.4)
    assert theory.gain(at_another, 2.0, signal_variance=0.4) == pytest.approx(1)
    assert theory.gain(at_another, 2.0) != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "bias", "expected"),
    [
        ("relu", 0.0, 2.0),
        ("tanh", 0.0, 1.0),
        ("linear", 0.0, 1.0),
        ("scaled_tanh", 0.0, 0.25),
        ("tanh", 0.05, 1.7603),
    ],
)
def test_critical_weights_are_the_known_ones(name, bias, expected):
    """The last is Schoenholz et al. 2017's, for sigma_b**2 = 0.05."""
    assert theory.critical_weight_variance(name, bias) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    "name", ["ste_sign", "approx_sign", "atan_spike", "flat_spot", "sugar_nelu"]
)
def test_at_critical_weights_signal_and_gradient_stay(name):
    scale = theory.critical_weight_variance(name)
    prediction = theory.predict(name, 300, scale, input_variance=1.0)
    norms, signal = prediction.gradient_norm, prediction.signal_variance
    assert signal[-1] == pytest.approx(signal[200], rel=0.03)
    assert norms[200] / norms[-1] == pytest.approx(1, rel=0.1)
    lower, higher = (theory.predict(name, 300, scale * factor) for factor in (0.8, 1.25))
    assert lower.gradient_norm[200] < norms[200] < higher.gradient_norm[200]


def test_critical_weights_of_a_balanced_pair_and_at_a_given_variance():
    assert theory.critical_weight_variance(theory.balance("sugar_bsilu", 2.0)) == pytest.approx(2.0)
    scale = theory.critical_weight_variance("sugar_bsilu", signal_variance=1.5)
    assert theory.gain("sugar_bsilu", scale, signal_variance=1.5) == pytest.approx(1)


@pytest.mark.parametrize("name", ["sugar_bsilu", "gelu", "step"])
def test_where_no_weights_are_critical_the_error_says_what_to_do(name):
    with pytest.raises(ValueError, match="signal_variance"):
        theory.critical_weight_variance(name)


def test_the_question_of_the_demand_is_answered_in_words():
    verdict = str(theory.predict("sugar_bsilu", 50, "he_normal"))
    assert "The signal survives" in verdict
    assert "explodes: the first layer gets 2.7e+05 times" in verdict
    assert "loses its direction" in verdict
    assert "vanishes" in theory.predict("artificial_relu", 60, "he_normal").verdict
    assert "keeps its size" in theory.predict("relu", 50, "he_normal").verdict
    assert (
        "shrinks: the first layer gets 0.0027 times"
        in theory.predict("sigmoid", 5, "glorot_uniform", width=64).verdict
    )
    assert (
        "grows: the first layer gets 17 times"
        in theory.predict("sugar_bsilu", 12, "he_normal").verdict
    )
    assert "points uphill" in theory.predict("gradient_reversal", 5, 1.0).verdict


@pytest.mark.parametrize(
    ("pair", "depth", "weights", "rescaled", "plain"),
    [
        # Adam: only a lost direction matters, and a true gradient below its epsilon.
        (Surrogate("relu", functions.LeakyRelu(0.3)), 20, "he_normal", "none", "helps"),
        (Surrogate("relu", functions.LeakyRelu(0.3)), 60, "he_normal", "hurts", "hurts"),
        (Surrogate("relu", scale=2**0.5), 50, 1.0, "helps", "none"),
        (Surrogate("relu", scale=2**0.5), 30, 1.0, "none", "hurts"),
        (presets.get("sugar_bsilu"), 40, "he_normal", "hurts", "hurts"),
        # SGD: a larger step helps, one that is too large cannot be told.
        (Surrogate("relu", functions.LeakyRelu(0.01)), 20, "he_normal", "none", "none"),
        (Surrogate("relu", scale=1.3), 20, "he_normal", "none", "cannot tell"),
        (Surrogate("sigmoid", scale=4.0), 5, "glorot_uniform", "none", "helps"),
        # The weights must change first.
        (Surrogate("sigmoid", scale=4.0), 50, "glorot_uniform", "none", "none"),
        # The true gradient is 0.
        (Surrogate("sign", "hard_tanh"), 3, 1.0, "helps", "helps"),
        (Surrogate("sign", "hard_tanh", 1e-9), 3, 1.0, "none", "none"),
    ],
)
def test_the_effect_on_training_depends_on_norm_direction_and_optimizer(
    pair, depth, weights, rescaled, plain
):
    prediction = theory.predict(pair, depth, weights)
    true = theory.predict(Surrogate(pair.forward), depth, weights, input_correlation=0.5)
    assert theory.effect(prediction, true, rescaled=True) == rescaled
    assert theory.effect(prediction, true) == plain


def test_the_effect_under_plain_sgd_depends_on_the_learning_rate():
    relu = Surrogate("relu")
    weak = theory.predict(relu, 30, 1.0)
    balanced = theory.predict(relu.scaled(2**0.5), 30, 1.0)
    assert theory.effect(balanced, weak, rate=0.001) == "cannot tell"
    assert theory.effect(balanced, weak, rate=0.1) == "hurts"
    sigmoid = theory.predict("sigmoid", 5, "glorot_uniform")
    scaled = theory.predict(Surrogate("sigmoid", scale=4.0), 5, "glorot_uniform")
    rates = (1e-6, 0.01, 0.1, 1.0)
    found = [theory.effect(scaled, sigmoid, rate=rate) for rate in rates]
    assert found == ["none", "helps", "helps", "cannot tell"]


def test_what_collapses_or_grows_is_said():
    collapsed = theory.predict("sigmoid", 20, "glorot_uniform", input_correlation=0.5)
    assert "two inputs are indistinguishable in float32" in collapsed.verdict
    assert "dies out" in theory.predict("relu", 50, 1.0).verdict
    assert "explodes" in theory.predict("relu", 50, 4.0).verdict.split(".")[0]
    silent = theory.predict("relu", 5, 2.0, input_variance=0.0, input_correlation=0.5, width=10)
    assert "dies out" in silent.verdict
    np.testing.assert_array_equal(silent.signal_variance, 0)


@pytest.mark.parametrize("width", [None, 32])
def test_without_a_true_slope_the_alignment_is_none_and_the_rest_is_finite(width):
    prediction = theory.predict("superspike", 10, 1.0, width=width)
    assert prediction.alignment is None and prediction.depth_scales.alignment is None
    assert np.isfinite(prediction.gradient_norm).all() and (prediction.gradient_norm > 0).all()
    assert "alignment is undefined" in prediction.verdict
    without = theory.predict("step", 10, 1.0, width=width)
    assert without.alignment is None and without.gradient_ratio == 0
    assert "No gradient reaches the first layer" in without.verdict


@pytest.mark.parametrize("width", [None, 32])
def test_a_reversed_gradient_points_up_and_down_by_turns(width):
    np.testing.assert_allclose(
        theory.predict("gradient_reversal", 4, 1.0, width=width).alignment, [1, -1, 1, -1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth must be an integer of at least 1, but is 0"),
        ({"depth": 2.5}, "depth must be an integer"),
        ({"depth": True}, "depth must be an integer"),
        ({"weight_variance": -1.0}, "weight_variance must be a number of at least 0"),
        ({"weight_variance": float("nan")}, "weight_variance must be a number of at least 0"),
        ({"weight_variance": "he_norml"}, "he_norml"),
        ({"weight_variance": "ones"}, "independent weights of mean 0"),
        (
            {"weight_variance": keras.initializers.RandomNormal(mean=1.0)},
            "independent weights of mean 0",
        ),
        ({"weight_variance": keras.initializers.RandomNormal()}, "must know the size"),
        ({"bias_variance": -0.1}, "bias_variance must be a number of at least 0"),
        ({"input_variance": -1}, "input_variance must be"),
        ({"width": 1}, "width must be an integer of at least 2"),
        ({"input_correlation": 1.5}, "input_correlation must be a number from -1 to 1"),
        ({"fans": 3}, "fans must be a pair"),
        ({"fans": (3, 0)}, "fans must be two positive numbers"),
        ({"weight_variance": "he_normal", "fans": (3, 6), "width": 5}, "equal fans"),
        ({"stack": "dense"}, "stack must be one of"),
        ({"stack": "residual", "width": 5}, "infinite width"),
        ({"stack": "batch_norm", "input_correlation": 0.5}, "uncorrelated"),
        ({"surrogate": "exponential"}, "signal explodes"),
        ({"surrogate": "relu", "weight_variance": 1e9, "depth": 50}, "signal explodes"),
        ({"surrogate": "gradient_reversal", "scale": 1e200}, "gradient explodes"),
        ({"width": 8, "draws": 2}, "draws must be an integer of at least 8"),
        ({"surrogate": "rleu"}, "Did you mean 'relu'"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    arguments = {"surrogate": "tanh", "depth": 20, "weight_variance": 1.0, **arguments}
    if "scale" in arguments:
        arguments["surrogate"] = presets.get(arguments["surrogate"]).scaled(arguments.pop("scale"))
    with pytest.raises(ValueError, match=message):
        theory.predict(**arguments)


MODEL = keras.Sequential(name="mine")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.balance("step", 1.0), "no slope to scale"),
        (lambda: theory.balance("relu", 3.0), "grows without bound"),
        (lambda: theory.balance("relu", 2.0, signal_variance=-1), "signal_variance must be"),
        (lambda: theory.recommend("relu", 10, 2.0, count=0), "count must be"),
        (lambda: theory.recommend("step", 10, 1.0, candidates=["step"]), "none of the candidates"),
        (
            lambda: theory.recommend("relu", 10, 2.0, candidates=["sofplus"]),
            "Did you mean 'softplus'",
        ),
        (lambda: theory.recommend("relu", 0, 2.0), "depth must be"),
        (
            lambda: theory.recommend(MODEL, 10, 2.0),
            r"the model 'mine'.*diagnosis.diagnose\(model, x, y\)",
        ),
        (
            lambda: theory.predict(MODEL, 10, 2.0),
            r"the model 'mine'.*diagnosis.diagnose\(model, x, y\)",
        ),
        (lambda: theory.balance(keras.layers.ReLU(), 2.0), "needs a function, but got the layer"),
        (
            lambda: theory.recommend(presets.get("sugar_bsilu"), 10, 2.0),
            "needs one function, but got the pair",
        ),
        (lambda: theory.effect(MODEL, MODEL), "prediction must be a Prediction"),
        (
            lambda: theory.effect(*[theory.predict("relu", 5, 2.0)] * 2, rate=0.0),
            "rate must be a positive number",
        ),
        (
            lambda: theory.effect(theory.predict("relu", 5, 2.0), "relu"),
            "true must be a Prediction.*is 'relu'",
        ),
    ],
)
def test_mistakes_elsewhere_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_depth_one_and_a_zero_weight_variance_are_no_mistakes():
    one = theory.predict("sugar_bsilu", 1, 2.0, width=16, input_correlation=0.2)
    assert one.gradient_norm.shape == one.alignment.shape == one.correlation.shape == (1,)
    assert theory.predict("tanh", 3, 0.0, bias_variance=1.0).gradient_ratio == 0
    assert theory.predict("tanh", 3, 0.0).gradient_ratio == 0


def test_nothing_recommended_beats_the_true_slope_of_relu_with_he_weights():
    advice = theory.recommend("relu", 50, "he_normal", count=8)
    assert advice.ranking[0].surrogate == Surrogate("relu")
    assert "needed only for units that are dead" in advice.advice
    scores = [item.score for item in advice.ranking]
    assert scores == sorted(scores, reverse=True)
    for item in advice.ranking:
        assert item.reason.endswith(".") and item.reason in str(advice)
    names = [
        type(item.surrogate.backward).__name__
        for item in theory.recommend("relu", 50, 2.0, count=50).ranking
    ]
    assert names.index("LeakyRelu") < names.index("Bsilu")


def test_revive_keeps_only_what_reaches_units_that_are_off():
    for item in theory.recommend("relu", 20, "he_normal", revive=True, width=64).ranking:
        assert item.revives > 0 and item.surrogate.backward != functions.get("relu")
        assert "inactive units" in item.reason


def test_sigmoid_layers_are_recommended_a_steeper_slope_or_other_weights():
    shallow = theory.recommend("sigmoid", 5, "glorot_uniform")
    assert "plain SGD" in shallow.advice
    assert (
        "does not bring the gradient back"
        in theory.recommend("sigmoid", 6, "glorot_uniform", count=1).advice
    )
    assert shallow.ranking[0].surrogate == theory.balance("sigmoid", "glorot_uniform")
    assert shallow.ranking[0].surrogate.scale == pytest.approx(4.2, abs=0.1)
    deep = theory.recommend("sigmoid", 20, "glorot_uniform")
    assert (
        "Change the weight initialisation" in deep.advice and "weight_variance=103" in deep.advice
    )


def test_steps_are_ranked_by_how_many_units_take_part():
    advice = theory.recommend("step", 10, 1.0, candidates=["fast_sigmoid", "atan", "hard_tanh"])
    assert [item.surrogate.backward.title for item in advice.ranking] == [
        "hard_tanh",
        "atan",
        "fast_sigmoid",
    ]
    assert "no true one" in advice.ranking[0].reason


def test_parameters_reach_the_names():
    (item,) = theory.recommend(
        "relu", 5, 2.0, candidates=[functions.get("leaky_relu", negative_slope=0.3)], count=2
    ).ranking[1:]
    assert item.name.endswith("slope of leaky_relu(negative_slope=0.3)")


def test_the_grid_of_the_correlation_map_agrees_with_double_quadrature():
    pair, variance, c = Surrogate("bsilu"), 1.7, 0.6
    value = lambda x: np.asarray(pair.forward.value(tf.constant(x)))  # noqa: E731
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    first, second = np.meshgrid(z, z)
    u, v = np.sqrt(variance) * first, np.sqrt(variance) * (c * first + np.sqrt(1 - c**2) * second)
    expected = np.sum(value(u) * value(v) * np.outer(weight, weight)) / weight.sum() ** 2
    assert mean_field.Smoothed(pair, variance).mean_and_product(c)[1] == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize(("depth", "width"), [(2, 8), (10, 3)])
def test_a_width_at_which_whole_layers_are_off_is_too_small(depth, width):
    with pytest.raises(
        ValueError, match=f"width {width} is too small: of .* some have no active unit in layer"
    ):
        theory.predict("relu", depth, 2.0, width=width)


def test_a_new_stack_is_one_class():
    class Fixed(stacks.Stack):
        name = "fixed"

        def variance(self, weights, bias, power):
            return 2.0

    try:
        prediction = theory.predict("tanh", 3, 1.0, stack="fixed", input_correlation=0.5)
    finally:
        del stacks._STACKS["fixed"]
    np.testing.assert_array_equal(prediction.signal_variance, 2.0)
    assert stacks.names() == ("plain", "residual", "batch_norm")
