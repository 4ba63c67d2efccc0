"""Simulations: the same numbers as Keras, NumPy and closed forms give, whatever the chunks."""

import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats

from keras_surrogate import Surrogate, presets, simulation
from keras_surrogate.simulation.networks import RandomNetworks, measure
from keras_surrogate.simulation.training import overflown

# Chunks that do not divide the numbers of networks, of one network, and larger than the number.
all_chunks = pytest.mark.parametrize(
    "chunks", [(1, 16), pytest.param((5, 7, 9, 32, 100, 1000), marks=pytest.mark.slow)], ids=str
)

# ----------------------------------------------------------------------------------------- products
# of uniform numbers


@pytest.mark.parametrize("count", [1, 2, 7, 50, 1000])
def test_probability_is_that_of_the_gamma_distribution(count):
    thresholds = 10 ** np.linspace(-300, -1e-3, 2000)
    exact = stats.gamma.cdf(-np.log(thresholds), count)
    normal = exact > 1e-290
    ours = simulation.uniform_product_probability(thresholds, count)
    np.testing.assert_allclose(ours[normal], exact[normal], rtol=1e-10)
    np.testing.assert_allclose(ours, exact, atol=1e-13)


def test_probability_at_the_ends_and_of_a_number():
    np.testing.assert_array_equal(simulation.uniform_product_probability([0, 1, 2], 50), [1, 0, 0])
    assert simulation.uniform_product_probability(0.3, 1) == pytest.approx(0.7, rel=1e-14)
    assert np.ndim(simulation.uniform_product_probability(1e-18)) == 0


@pytest.mark.parametrize("count", [1, 3, 50])
def test_density_is_that_of_the_gamma_distribution(count):
    x = np.linspace(-40, -0.01, 300)
    exact = np.log(10) * stats.gamma.pdf(-np.log(10) * x, count)
    np.testing.assert_allclose(simulation.uniform_product_density(x, count), exact, rtol=1e-10)
    assert simulation.uniform_product_density(0.5, count) == 0
    total, _ = integrate.quad(simulation.uniform_product_density, -80, 0, args=(count,), limit=200)
    assert total == pytest.approx(1, abs=1e-6)


def test_one_product_in_nine_exceeds_what_is_told_never_to_be():
    exact = simulation.uniform_product_probability(1e-18, 50)
    assert 9 < 1 / exact < 10
    products = simulation.uniform_products(50, 40_000)
    found = np.mean(products > -18)
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 40_000)
    assert stats.kstest(-np.log(10) * products, stats.gamma(50).cdf).pvalue > 1e-3


def test_products_repeat_and_do_not_depend_on_how_many_are_drawn():
    products = simulation.uniform_products(5, 10_000, seed=3)
    np.testing.assert_array_equal(simulation.uniform_products(5, 5000, seed=3), products[:5000])
    assert not np.array_equal(simulation.uniform_products(5, 5000, seed=4), products[:5000])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: simulation.uniform_products(0),
            "count must be an integer of at least 1, but is 0",
        ),
        (lambda: simulation.uniform_products(50, -1), "draws must be"),
        (
            lambda: simulation.uniform_products(50, 10, seed=-1),
            "seed must be an integer of at least 0",
        ),
        (lambda: simulation.uniform_product_probability(-1e-18), "threshold must be"),
        (lambda: simulation.uniform_product_probability(np.nan), "threshold must be"),
        (lambda: simulation.uniform_product_probability(0.5, 2.5), "count must be"),
        (lambda: simulation.uniform_product_density(-1, True), "count must be"),
    ],
)
def test_mistakes_about_products(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -------------------------------------------------------------------------------------------------
# random networks


PAIRS = {
    "tanh": Surrogate("tanh"),
    "scaled": Surrogate("sigmoid", "tanh", scale=-2.0),
    "sugar_bsilu": presets.get("sugar_bsilu"),
    "superspike": presets.get("superspike"),
}


def keras_model(networks, number, surrogate):
    """One network of a batch as a Keras model, without its readout."""
    width = networks.readout.shape[1]
    layers = [keras.layers.Dense(width, surrogate, dtype="float64") for _ in range(networks.depth)]
    model = keras.Sequential([keras.Input((width,), dtype="float64"), *layers])
    for layer, weights, biases in zip(layers, networks.weights, networks.biases, strict=True):
        layer.set_weights([np.transpose(weights[number]), biases[number, :, 0]])
    return model


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_gradients_are_those_of_a_keras_model(pair):
    depth, width, number = 6, 5, 3
    arguments = {"weight_variance": 2.0, "bias_variance": 0.5}
    sample = simulation.gradient_sample(
        pair, depth, 11, width, input_variance=3.0, seed=7, **arguments
    )
    source = RandomNetworks(depth, width, *arguments.values(), seed=7)
    networks, inputs = source.draw(11), source.draw_inputs(11, 3.0)
    model = keras_model(networks, number, pair)
    x = h = tf.transpose(inputs[number])
    path, product = [], 1.0
    for layer in model.layers:
        x = tf.matmul(h, layer.kernel) + layer.bias
        path.append(x[0, 0])
        product *= pair.scale * pair.backward.slope(x)[0, 0]
        h = pair(x)
    first = tf.matmul(tf.transpose(inputs[number]), model.layers[0].kernel) + model.layers[0].bias
    with tf.GradientTape() as tape:
        tape.watch(first)
        h = pair(first)
        for layer in model.layers[1:]:
            h = layer(h)
        arriving = tf.reduce_sum(h * networks.readout[number, :, 0])
    gradient = tape.gradient(arriving, first)
    np.testing.assert_allclose(sample.path[number], path, rtol=1e-6)
    np.testing.assert_allclose(
        sample.path_weights[number], [layer.kernel[0, 0] for layer in model.layers], rtol=1e-6
    )
    np.testing.assert_allclose(sample.log10_product[number], np.log10(np.abs(product)), rtol=1e-9)
    np.testing.assert_allclose(
        sample.log10_norm[number], np.log10(np.linalg.norm(gradient)), rtol=1e-9
    )
    np.testing.assert_allclose(np.linalg.norm(networks.readout[number]), 1)


def test_the_draws_have_the_distribution_that_is_promised():
    source = RandomNetworks(2, 4, 3.0, 0.5, seed=0)
    networks = source.draw(4000)
    for tensors, variance in (
        (networks.weights, 3 / 4),
        (networks.biases, 0.5),
        ([source.draw_inputs(4000, 2.0)], 2),
    ):
        for tensor in tensors:
            assert np.mean(tensor) == pytest.approx(0, abs=0.05)
            assert np.var(tensor) == pytest.approx(variance, rel=0.05)
    targets = source.draw_targets(4000, 3).numpy()
    assert set(targets.ravel()) == {-0.5, 0.5}
    assert np.mean(targets) == pytest.approx(0, abs=0.02)


def test_a_line_has_slopes_of_one_and_the_gradient_of_its_weights():
    sample = simulation.gradient_sample("linear", depth=20, networks=50, width=1)
    np.testing.assert_array_equal(sample.log10_product, 0)
    weights = np.log10(np.abs(sample.path_weights[:, 1:])).sum(axis=1)
    np.testing.assert_allclose(sample.log10_norm, weights, rtol=1e-4)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_wide_networks_have_the_gradient_of_mean_field_theory(name):
    sample = simulation.gradient_sample(name, depth=8, networks=400, width=64, weight_variance=2.0)
    z = np.linspace(-8, 8, 4001)
    density = stats.norm.pdf(z) * (z[1] - z[0])
    function = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}[name]
    slope = {
        "tanh": lambda x: 1 - np.tanh(x) ** 2,
        "sigmoid": lambda x: function(x) * (1 - function(x)),
    }[name]
    variance, expected = 2.0, 1.0
    for _ in range(8):
        expected *= 2 * np.sum(density * slope(np.sqrt(variance) * z) ** 2)
        variance = 2 * np.sum(density * function(np.sqrt(variance) * z) ** 2)
    found = np.mean(10 ** (2 * sample.log10_norm))
    assert found == pytest.approx(expected / 2, rel=0.1)


def equal(one, other, part=slice(None)):
    return all(
        np.array_equal(a[part], b, equal_nan=True)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(Surrogate("tanh"), id="tanh", marks=pytest.mark.slow),
        pytest.param(presets.get("sugar_bsilu"), id="sugar_bsilu"),
    ],
)
@all_chunks
def test_samples_do_not_depend_on_chunks_or_number_bit_by_bit(pair, chunks):
    # Chaotic: a difference in the last bit would grow to any size within thirty layers.
    arguments = {"depth": 30, "width": 5, "weight_variance": 9.0, "bias_variance": 0.1, "seed": 2}
    sample = simulation.gradient_sample(pair, networks=101, **arguments)
    for chunk_size in chunks:
        assert equal(
            sample,
            simulation.gradient_sample(pair, networks=101, chunk_size=chunk_size, **arguments),
        )
    assert equal(sample, simulation.gradient_sample(pair, networks=23, **arguments), slice(23))
    other = simulation.gradient_sample(pair, networks=101, **{**arguments, "seed": 3})
    assert not np.array_equal(other.log10_norm, sample.log10_norm)


def test_tiny_gradients_keep_their_digits():
    ordinary, tiny = (
        simulation.gradient_sample(Surrogate("linear", scale=scale), depth=20, networks=50, width=3)
        for scale in (1.0, 1e-12)
    )
    np.testing.assert_allclose(tiny.log10_norm, ordinary.log10_norm - 240, rtol=1e-10)
    np.testing.assert_allclose(tiny.log10_product, -240, rtol=1e-10)


def test_deeper_networks_begin_as_shallower_ones():
    shallow, deep = (simulation.gradient_sample(depth=depth, networks=9) for depth in (3, 6))
    np.testing.assert_array_equal(shallow.path, deep.path[:, :3])


@pytest.mark.slow
def test_memory_is_bounded_by_the_chunk():
    simulation.gradient_sample(networks=64)
    tracemalloc.start()
    try:
        simulation.gradient_sample(networks=2000, chunk_size=64, depth=50, width=8)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All weights together take 51 MB; results take 0.8 MB, the weights of a chunk 1.6 MB.
    assert peak < 10e6


def test_slopes_of_zero_are_gradients_of_zero():
    sample = simulation.gradient_sample("step", depth=3, networks=5)
    assert (sample.log10_product == -np.inf).all() and (sample.log10_norm == -np.inf).all()
    assert simulation.shares(sample.log10_norm) == simulation.Shares(1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="All gradients are exactly 0"):
        simulation.joint_histogram(sample)


@pytest.mark.parametrize(
    "arguments", [{"weight_variance": 1e300}, {"surrogate": Surrogate("tanh", scale=1e200)}]
)
def test_what_overflows_is_an_error(arguments):
    with pytest.raises(ValueError, match="too large for floating numbers: lower weight_variance"):
        simulation.gradient_sample(
            **{"surrogate": "relu", "depth": 20, "networks": 8, "bias_variance": 1.0, **arguments}
        )


def test_the_progress_bar_is_asked_for(capsys):
    simulation.gradient_sample(depth=2, networks=4)
    simulation.training_paths(depth=2, networks=4, steps=2)
    assert not capsys.readouterr().out
    simulation.gradient_sample(depth=2, networks=4, verbose=1)
    assert "4/4" in capsys.readouterr().out
    simulation.training_paths(depth=2, networks=4, steps=2, chunk_size=2, verbose=1)
    assert "6/6" in capsys.readouterr().out


@pytest.mark.parametrize("function", [simulation.gradient_sample, simulation.training_paths])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth must be an integer of at least 1, but is 0"),
        ({"depth": 2.0}, "depth must be"),
        ({"networks": -5}, "networks must be"),
        ({"width": 0}, "width must be"),
        ({"weight_variance": -1}, "weight_variance must be a number of at least 0, but is -1"),
        ({"bias_variance": np.nan}, "bias_variance must be"),
        ({"input_variance": "1"}, "input_variance must be"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"chunk_size": 0}, "chunk_size must be"),
        ({"surrogate": "nonsense"}, "nonsense"),
    ],
)
def test_mistakes_about_networks(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**arguments)


def test_shares_count_what_is_below_and_above():
    found = simulation.shares(
        [-np.inf, -3.1, -2.9, 0, 2.9, 3.1, 5, 6], vanishing=1e-3, exploding=1e3
    )
    assert (found.vanished, found.healthy, found.exploded) == (0.25, 0.375, 0.375)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "decimal logarithms"),
        (([0, np.nan],), "none of them NaN"),
        (([0], 0), "vanishing must be a positive number"),
        (([0], 1, -1), "exploding must be"),
        (([0], 10, 1), "vanishing must not be above exploding"),
    ],
)
def test_mistakes_about_shares(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulation.shares(*arguments)


def test_the_product_explodes_for_small_preactivations_and_vanishes_for_large_ones():
    variances = [0.01, 0.2, 0.5, 4.0]
    rates = simulation.vanishing_rates(Surrogate("scaled_tanh"), variances, networks=200, depth=30)
    assert (np.diff(rates.deviations) > 0).all() and (np.diff(rates.inside) < 0).all()
    np.testing.assert_array_equal(rates.weight_variances, variances)
    for shares in (rates.product, rates.norm):
        np.testing.assert_allclose(shares.vanished + shares.healthy + shares.exploded, 1)
    assert rates.product.exploded[0] == 1 and rates.product.vanished[-1] == 1
    sample = simulation.gradient_sample("scaled_tanh", networks=200, depth=30, weight_variance=0.5)
    assert rates.deviations[2] == pytest.approx(sample.path.std(), rel=1e-5)
    assert rates.inside[2] == pytest.approx(np.mean(np.abs(sample.path) < 0.44068679), abs=1e-3)
    assert rates.norm.vanished[2] == simulation.shares(sample.log10_norm).vanished


@pytest.mark.parametrize("variances", [[], [np.inf], [[1.0]], "1", [-1.0]])
def test_mistakes_about_sweeps(variances):
    with pytest.raises(ValueError, match="weight_variance"):
        simulation.vanishing_rates("tanh", variances, networks=2, depth=2)


@pytest.mark.parametrize(("quantity", "field"), [("x", "path"), ("w", "path_weights")])
@pytest.mark.parametrize("gradient", ["product", "norm"])
def test_joint_histograms_count_every_pair(quantity, field, gradient):
    sample = simulation.gradient_sample("relu", networks=300, depth=4, width=2, bias_variance=1.0)
    histogram = simulation.joint_histogram(sample, quantity, gradient, bins=10)
    logarithms = getattr(sample, f"log10_{gradient}")
    zeros = np.sum(logarithms == -np.inf)
    assert 0 < zeros < 300
    assert histogram.zeros == 4 * zeros
    assert histogram.counts.shape == (10, 10)
    values = getattr(sample, field)[logarithms > -np.inf]
    np.testing.assert_array_equal(
        histogram.counts.sum(axis=1), np.histogram(values, bins=histogram.edges)[0]
    )
    low, high = histogram.log10_edges[:2]
    left, right = histogram.edges[4:6]
    within = (getattr(sample, field) >= left) & (getattr(sample, field) < right)
    inside = within & ((logarithms >= low) & (logarithms < histogram.log10_edges[6]))[:, np.newaxis]
    assert histogram.counts[4, :6].sum() == inside.sum() > 0
    lowest = np.isfinite(logarithms) & (logarithms >= low) & (logarithms < high)
    np.testing.assert_array_equal(histogram.counts[:, 0].sum(), 4 * lowest.sum())


@pytest.mark.parametrize("arguments", [("y",), ("x", "sum"), ("x", "norm", 0)])
def test_mistakes_about_histograms(arguments):
    sample = simulation.gradient_sample(networks=5, depth=2)
    with pytest.raises(ValueError, match="must be"):
        simulation.joint_histogram(sample, *arguments)


# ---------------------------------------------------------------------------------------------------
# training


@pytest.mark.parametrize("pair", [Surrogate("tanh"), PAIRS["scaled"]], ids=["tanh", "scaled"])
def test_training_is_that_of_a_keras_model_under_sgd(pair):
    depth, width, samples, steps, number = 3, 4, 5, 8, 2
    arguments = {"weight_variance": 1.5, "bias_variance": 0.25, "seed": 5}
    paths = simulation.training_paths(
        pair,
        depth,
        4,
        width,
        samples=samples,
        steps=steps,
        learning_rate=0.25,
        input_variance=2.0,
        **arguments,
    )
    source = RandomNetworks(depth, width, *arguments.values())
    networks = source.draw(4)
    inputs, targets = source.draw_inputs(4, 2.0, samples), source.draw_targets(4, samples)
    hidden = keras_model(networks, number, pair)
    readout = keras.layers.Dense(1, use_bias=False, dtype="float64")
    model = keras.Sequential([keras.Input((width,), dtype="float64"), *hidden.layers, readout])
    readout.set_weights([networks.readout[number]])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    x, y = np.transpose(inputs[number]), targets[number].numpy()[:, np.newaxis]
    losses = []
    for _ in range(steps + 1):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y)) / 2
        losses.append(loss)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)
    assert np.ptp(losses) > 1e-3
    np.testing.assert_allclose(paths.loss[:, number], losses, rtol=1e-9)


def test_the_gradients_before_training_are_means_over_the_samples_of_single_ones():
    arguments = {"depth": 4, "networks": 6, "width": 3, "steps": 1}
    paths = simulation.training_paths(samples=7, **arguments)
    source = RandomNetworks(4, 3, 1.0, 0.0, seed=0)
    networks, inputs = source.draw(6), source.draw_inputs(6, 1.0, 7)
    single = [
        measure(networks, Surrogate("tanh"), inputs[:, :, index : index + 1]) for index in range(7)
    ]
    for name, found in (("log10_product", paths.log10_product), ("log10_norm", paths.log10_norm)):
        squares = np.mean([10 ** (2 * getattr(part, name)[:6].numpy()) for part in single], axis=0)
        np.testing.assert_allclose(found[0], np.log10(squares) / 2, rtol=1e-10)


@all_chunks
def test_paths_do_not_depend_on_chunks_bit_by_bit(chunks):
    arguments = {
        "networks": 21,
        "depth": 8,
        "width": 3,
        "weight_variance": 4.0,
        "steps": 15,
        "learning_rate": 0.5,
    }
    paths = simulation.training_paths(**arguments)
    for chunk_size in chunks:
        assert equal(paths, simulation.training_paths(chunk_size=chunk_size, **arguments))
    assert not equal(paths, simulation.training_paths(**arguments, seed=1))


def test_networks_that_overflow_are_not_a_number_from_then_on():
    paths = simulation.training_paths(
        "linear", depth=6, networks=40, steps=60, learning_rate=1.0, weight_variance=2.0
    )
    assert 0 < paths.diverged <= 1
    for array in (paths.log10_product, paths.log10_norm, paths.loss):
        lost = np.isnan(array)
        assert (lost[1:] >= lost[:-1]).all()
        assert not lost[0].any() and lost[-1].mean() == paths.diverged
        assert not np.isposinf(array).any()


def test_what_has_overflown_once_has_for_good_and_zero_gradients_have_not():
    norms = np.array([[0.0, -np.inf, 1.0], [np.inf, -np.inf, 1.0], [0.0, 0.0, 1.0]])
    losses = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, np.nan]])
    lost = [[False, False, False], [True, False, False], [True, False, True]]
    np.testing.assert_array_equal(overflown([norms, losses]), lost)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"steps": 0}, "steps"), ({"samples": 0}, "samples"), ({"learning_rate": 0}, "learning_rate")],
)
def test_mistakes_about_training(arguments, message):
    with pytest.raises(ValueError, match=f"{message} must be"):
        simulation.training_paths(**arguments)


# --------------------------------------------------------------------------------------------- the
# two-state chain


def logarithms(states):
    """Logarithms of gradients that have vanished where `states` is 1, and are lost where it is -1."""
    states = np.asarray(states)
    return np.where(states < 0, np.nan, np.where(states == 1, -9.0, 0.0))


def test_transitions_are_counted():
    chain = simulation.two_state_chain(logarithms([[0, 1, 0], [1, 1, 0], [1, 0, -1], [0, 0, -1]]))
    np.testing.assert_array_equal(chain.counts, [[2, 1], [2, 2]])
    assert chain.vanishing == 1 / 3 and chain.recovery == 1 / 2
    assert chain.left_out == 2
    np.testing.assert_allclose(chain.observed, [1 / 3, 2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(
        chain.forecast[:3], [1 / 3, 1 / 3 / 2 + 2 / 9, 0.5 * (7 / 18) + (11 / 18) / 3]
    )


def test_a_known_chain_is_recovered():
    generator = np.random.default_rng(1)
    vanishing, recovery = 0.05, 0.02
    states = [np.zeros(2000, bool)]
    for _ in range(200):
        draws = generator.random(2000)
        states.append(np.where(states[-1], draws >= recovery, draws < vanishing))
    chain = simulation.two_state_chain(logarithms(np.array(states, int)))
    for probability, found, (low, high) in (
        (vanishing, chain.vanishing, chain.vanishing_interval),
        (recovery, chain.recovery, chain.recovery_interval),
    ):
        assert found == pytest.approx(probability, rel=0.03)
        assert low < probability < high
    np.testing.assert_allclose(chain.forecast, chain.observed, atol=0.04)
    assert chain.forecast[-1] == pytest.approx(vanishing / (vanishing + recovery), abs=0.01)


@pytest.mark.parametrize(("count", "of"), [(0, 10), (10, 10), (3, 200)])
def test_intervals_are_those_of_wilson(count, of):
    states = np.zeros((2, of), int)
    states[1, :count] = 1
    exact = stats.binomtest(count, of).proportion_ci(method="wilson")
    np.testing.assert_allclose(
        simulation.two_state_chain(logarithms(states)).vanishing_interval, exact, atol=1e-12
    )


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ([[0, 0], [0, 0]], "No gradient vanished."),
        (
            [[0, 0], [1, 0], [1, 0]],
            "A one-way street in these data: no vanished gradient recovered in 1 steps",
        ),
        ([[1, 1], [0, 1]], "No one-way street into vanishing"),
        (
            [[0] * 50 + [1] * 50, [1] * 51 + [0] + [1] * 48],
            "Not quite a one-way street",
        ),
        ([[0, 1], [1, 0]], "Not a one-way street"),
    ],
)
def test_verdicts(states, verdict):
    assert simulation.two_state_chain(logarithms(states)).verdict.startswith(verdict)


def test_a_probability_without_any_trial_is_undefined_and_says_so():
    chain = simulation.two_state_chain(logarithms([[0], [0]]))
    assert chain.recovery is None and chain.vanishing == 0
    assert chain.recovery_interval == (0, 1)
    assert simulation.two_state_chain(logarithms([[1], [1]])).vanishing is None


def test_a_gradient_that_trembles_about_the_threshold_is_not_back_before_it_reaches_another():
    trembling = np.array([[0.0], [-3.1], [-2.9], [-3.1], [-2.9], [-0.5], [-2.9]])
    assert simulation.two_state_chain(trembling).counts[1, 0] == 2
    chain = simulation.two_state_chain(trembling, alive=1e-1)
    np.testing.assert_array_equal(chain.counts, [[1, 1], [1, 3]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(5),), "shape"),
        ((np.zeros((1, 5)),), "at least two times"),
        ((np.zeros((5, 0)),), "shape"),
        ((np.full((3, 2), np.nan),), "All gradients are NaN"),
        ((np.zeros((3, 2)), 0), "vanishing must be"),
        ((np.zeros((3, 2)), 1e-3, 1e-4), "alive must be at least vanishing"),
    ],
)
def test_mistakes_about_chains(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulation.two_state_chain(*arguments)


@pytest.mark.slow
def test_steeper_tanh_of_the_same_weights_loses_more_gradients_in_training():
    vanished = {}
    for n in (1, 2):
        pair = Surrogate({"name": "scaled_tanh", "n": n})
        paths = simulation.training_paths(
            pair, depth=20, networks=300, weight_variance=4 / n**2, steps=100
        )
        vanished[n] = simulation.two_state_chain(paths.log10_norm).observed
    # The same functions at the start, to rounding: what differs is the step, by n**2.
    assert vanished[1][0] == vanished[2][0] < 0.05
    assert vanished[2][-1] > vanished[1][-1] + 0.05


# ------------------------------------------------------------------------------------------------------------
# maps


def trained_chain(weight, bias, depth, inputs, targets, steps, rate, tied):
    """Gradient descent on a chain of tanh with the derivatives written out: means, products, norms and losses."""
    w, b = np.full(depth, float(weight)), np.full(depth, float(bias))
    rows = []
    for _ in range(steps + 1):
        h, slopes = [np.asarray(inputs, float)], []
        for layer in range(depth):
            h.append(np.tanh(w[layer] * h[-1] + b[layer]))
            slopes.append(1 - h[-1] ** 2)
        product = np.sqrt(np.mean(np.prod(slopes, axis=0) ** 2))
        norm = np.sqrt(np.mean((np.prod(slopes, axis=0) * np.prod(w[1:])) ** 2))
        error = h[-1] - targets
        rows.append((w.mean(), b.mean(), np.log10(product), np.log10(norm), np.mean(error**2) / 2))
        delta, dw, db = error / len(error), np.zeros(depth), np.zeros(depth)
        for layer in reversed(range(depth)):
            delta = delta * slopes[layer]
            dw[layer], db[layer] = np.sum(delta * h[layer]), np.sum(delta)
            delta = delta * w[layer]
        w = w - rate * (dw.sum() if tied else dw)
        b = b - rate * (db.sum() if tied else db)
    return np.array(rows).T


@pytest.mark.parametrize("tied", [False, True])
def test_maps_are_those_of_gradient_descent_written_out(tied):
    weights, biases = [-1.5, 0.5, 1.2], [0.3, -0.7]
    inputs, targets = (-1.0, 0.5, 2.0), (0.3, -0.2, 0.8)
    found = simulation.gradient_map("tanh", 4, weights, biases, inputs, targets, 12, 0.5, tied)
    assert found.loss.shape == (13, 2, 3)
    for row, bias in enumerate(biases):
        for column, weight in enumerate(weights):
            expected = trained_chain(weight, bias, 4, inputs, targets, 12, 0.5, tied)
            fields = (
                found.weight_paths,
                found.bias_paths,
                found.log10_product,
                found.log10_norm,
                found.loss,
            )
            for field, values in zip(fields, expected, strict=True):
                np.testing.assert_allclose(field[:, row, column], values, rtol=1e-9, atol=1e-12)
    assert found.weight_paths[0].tolist() == [weights, weights]
    assert found.bias_paths[0].tolist() == [[bias] * 3 for bias in biases]


@all_chunks
def test_maps_do_not_depend_on_chunks_bit_by_bit(chunks):
    arguments = {
        "depth": 6,
        "weights": np.linspace(-4, 4, 7),
        "biases": np.linspace(-1, 1, 5),
        "steps": 10,
    }
    whole = simulation.gradient_map(**arguments, learning_rate=1.0)
    for chunk_size in chunks:
        assert equal(
            whole, simulation.gradient_map(**arguments, learning_rate=1.0, chunk_size=chunk_size)
        )


def test_the_map_of_an_odd_function_and_odd_data_is_symmetric_in_the_bias():
    found = simulation.gradient_map(
        depth=5, weights=[0.5, 2.0], biases=[-1.0, 0.0, 1.0], steps=20, tied=True
    )
    np.testing.assert_allclose(found.log10_norm[:, 0], found.log10_norm[:, 2], rtol=1e-6)
    np.testing.assert_allclose(found.bias_paths[:, 1], 0, atol=1e-12)


def test_a_vanished_gradient_stays_where_it_is_in_the_map():
    found = simulation.gradient_map(depth=10, weights=[1.0, 3.0], biases=[0.0, 3.0], steps=50)
    moved = np.hypot(*(path[-1] - path[0] for path in (found.weight_paths, found.bias_paths)))
    assert found.log10_norm[-1, 1, 1] < -10 and moved[1, 1] < 1e-3
    assert found.log10_norm[-1, 0, 0] > -2 and moved[0, 0] > 1e-2
    assert found.loss[-1, 0, 0] < found.loss[0, 0, 0]


def test_chains_that_overflow_are_not_a_number_from_then_on():
    found = simulation.gradient_map(
        "linear", depth=4, weights=[0.5, 3.0], biases=[0.0], steps=30, learning_rate=1.0
    )
    assert found.diverged == 0.5
    assert np.isnan(found.weight_paths[-1, 0, 1]) and np.isfinite(found.weight_paths[:, 0, 0]).all()
    assert np.isnan(found.log10_norm[-1, 0, 1]) and np.isfinite(found.log10_norm[0]).all()


def test_the_default_grid():
    found = simulation.gradient_map(depth=1, steps=1)
    assert found.loss.shape == (2, 61, 61)
    assert (found.weights.min(), found.biases.max()) == (-3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth must be"),
        ({"steps": -1}, "steps must be"),
        ({"learning_rate": -0.1}, "learning_rate must be"),
        ({"weights": []}, "weights must be a list of finite numbers"),
        ({"biases": [np.nan]}, "biases must be"),
        ({"inputs": (1.0,)}, "inputs and targets must have the same length, but have 1 and 4"),
        ({"tied": 1}, "tied must be True or False"),
        ({"chunk_size": -1}, "chunk_size must be"),
        ({"surrogate": 3}, "3"),
    ],
)
def test_mistakes_about_maps(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulation.gradient_map(**arguments)
