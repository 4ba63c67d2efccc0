"""The pictures of the simulations show the numbers they are given, with names on their axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_surrogate import plots, simulation


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sample():
    return simulation.gradient_sample("scaled_tanh", depth=8, networks=200, width=3)


@pytest.fixture(scope="module")
def gradient_map():
    return simulation.gradient_map(
        "linear", 4, [0.5, 1.0, 3.0], [-1.0, 0.0, 1.0, 2.0], steps=20, learning_rate=0.5
    )


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def named(ax):
    return bool(ax.get_xlabel() and ax.get_ylabel())


def test_distributions_count_all_networks_and_name_the_shares():
    logarithms = {
        "one": np.array([-5.0, -5.0, 0.0, 9.0]),
        "other": np.array([-np.inf, 0.1, 0.2, 0.3]),
    }
    ax = plots.gradient_distribution(logarithms, bins=5)
    assert labels(ax) == [
        "one: 50.0% vanished, 25.0% exploded",
        "other: 25.0% vanished, 0.0% exploded",
    ]
    heights = [np.unique(patch.get_xy()[:, 1]) for patch in ax.patches[:2]]
    assert [height.max() for height in heights] == [0.5, 0.25]
    assert named(ax) and ax.get_xlim()[0] < -3 and ax.get_xlim()[1] > 3


def test_a_distribution_of_zeros_is_drawn_too():
    ax = plots.gradient_distribution({"step": np.full(5, -np.inf)})
    assert labels(ax) == ["step: 100.0% vanished, 0.0% exploded"]


@pytest.mark.parametrize("gradient", ["product", "norm"])
def test_rates_are_stacked_to_one_over_the_deviations(gradient):
    rates = simulation.vanishing_rates("scaled_tanh", [4.0, 0.1, 1.0], networks=50, depth=10)
    ax = plots.vanishing_rates(rates, gradient=gradient)
    assert labels(ax) == ["vanished", "healthy", "exploded"]
    assert ax.get_xlim() == (rates.deviations.min(), rates.deviations.max()) and named(ax)
    bottom = ax.collections[0].get_paths()[0].vertices
    vanished = getattr(rates, gradient).vanished
    for deviation, share in zip(rates.deviations, vanished, strict=True):
        assert np.isclose(bottom, [deviation, share]).all(axis=1).any()
    top = ax.collections[2].get_paths()[0].vertices[:, 1]
    assert top.max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("quantity", "gradient", "names"),
    [
        ("x", "product", ("pre-activation x", "product of slopes")),
        ("w", "norm", ("weight w", "gradient's norm")),
    ],
)
def test_joint_histograms_are_images_of_the_counts(sample, quantity, gradient, names):
    histogram = simulation.joint_histogram(sample, quantity, gradient, bins=7)
    ax = plots.joint_histogram(histogram)
    drawn = np.ma.filled(ax.collections[0].get_array(), np.nan)
    np.testing.assert_allclose(np.where(np.isnan(drawn), 0, 10**drawn), histogram.counts.T)
    assert ax.get_xlabel() == names[0] and names[1] in ax.get_ylabel()


def test_the_chain_is_drawn_beside_what_happened():
    chain = simulation.two_state_chain(np.array([[0.0, 0.0], [0.0, -9.0], [-9.0, 0.0]]))
    ax = plots.two_state_chain(chain)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0, 0.5, 0.5])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), chain.forecast)
    assert ax.get_title() == "per step: vanishing 6.7e-01, recovery 1.0e+00"
    assert labels(ax) == ["observed", "Markov chain's forecast"] and named(ax)
    ax = plots.two_state_chain(simulation.two_state_chain(np.zeros((3, 2))))
    assert ax.get_title() == "per step: vanishing 0.0e+00, recovery undefined"


@pytest.mark.parametrize("gradient", ["product", "norm"])
@pytest.mark.parametrize("time", [0, 7, -1])
def test_maps_show_the_gradient_at_a_time_and_the_overflown(gradient_map, gradient, time):
    ax = plots.gradient_map(gradient_map, gradient=gradient, time=time, trajectories=2, limit=1.5)
    drawn = np.ma.filled(ax.collections[0].get_array(), np.nan)
    logarithms = getattr(gradient_map, f"log10_{gradient}")[time]
    assert np.isnan(logarithms).any() == (time != 0)
    np.testing.assert_array_equal(drawn, np.clip(logarithms, -1.5, 1.5))
    colorbar = ax.figure.axes[1].get_ylabel()
    assert {0: "before training", 7: "at step 7", -1: "after 20 steps"}[time] in colorbar
    assert named(ax)


def test_ways_begin_at_the_start_and_end_where_training_ends_or_overflows(gradient_map):
    ax = plots.gradient_map(gradient_map, trajectories=9)
    ways, starts, ends = ax.lines[::3], ax.lines[1::3], ax.lines[2::3]
    assert len(ways) == 3 * 4
    for way, start, end in zip(ways, starts, ends, strict=True):
        points = way.get_xydata()
        kept = points[~np.isnan(points).any(axis=1)]
        np.testing.assert_array_equal(start.get_xydata()[0], kept[0])
        np.testing.assert_array_equal(end.get_xydata()[0], kept[-1])
    assert {tuple(start.get_xydata()[0]) for start in starts} == {
        (w, b) for w in (0.5, 1, 3) for b in (-1, 0, 1, 2)
    }
    assert len(plots.gradient_map(gradient_map, trajectories=0).lines) == 0


@pytest.mark.parametrize("draw", [plots.gradient_map, plots.vanishing_rates])
def test_an_unknown_gradient_is_an_error(draw, gradient_map):
    with pytest.raises(ValueError, match="gradient must be one of 'product', 'norm', but is 'sum'"):
        draw(gradient_map, gradient="sum")


def test_uniform_products_have_their_exact_distribution_beside_them():
    products = simulation.uniform_products(50, 2000)
    ax = plots.uniform_products(products)
    line, threshold = ax.lines
    np.testing.assert_array_equal(
        line.get_ydata(), simulation.uniform_product_density(line.get_xdata(), 50)
    )
    assert threshold.get_xdata()[0] == pytest.approx(-18)
    assert f"above 1e-18: {np.mean(products > -18):.2%}, exactly 10.78%" in labels(ax)
    areas = [patch.get_height() * patch.get_width() for patch in ax.patches]
    assert sum(areas) == pytest.approx(1)
    assert named(ax)


def test_every_picture_takes_an_axis(sample, gradient_map):
    chain = simulation.two_state_chain(np.zeros((3, 2)))
    rates = simulation.vanishing_rates("tanh", [0.5, 1.0], networks=5, depth=2)
    for draw in (
        lambda ax: plots.gradient_distribution({"tanh": sample.log10_norm}, ax),
        lambda ax: plots.vanishing_rates(rates, ax),
        lambda ax: plots.joint_histogram(simulation.joint_histogram(sample), ax),
        lambda ax: plots.two_state_chain(chain, ax),
        lambda ax: plots.gradient_map(gradient_map, ax),
        lambda ax: plots.uniform_products(np.array([-1.0, -2.0]), 2, ax),
    ):
        given = plt.figure().add_subplot()
        assert draw(given) is given
