"""Pictures show the numbers they are given."""

import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, plots, presets


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def record(steps, norms):
    names = [f"layer_{number}" for number in range(norms.shape[1])]
    return types.SimpleNamespace(layer_names=names, steps=np.asarray(steps), norms=norms)


def test_gradient_norms_draws_a_line_a_layer_on_a_log_scale():
    norms = np.array([[1e-5, 1.0], [1e-6, 2.0], [0.0, 3.0]])
    ax = plots.gradient_norms(record([0, 5, 10], norms))
    assert ax.get_yscale() == "log"
    assert [line.get_label() for line in ax.lines] == ["layer_0", "layer_1"]
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[0, 1], [5, 2], [10, 3]])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1e-5, 1e-6, np.nan])


def test_many_steps_are_drawn_as_medians():
    ax = plots.gradient_norms(record(np.arange(1000), np.arange(1.0, 1001)[:, np.newaxis]), points=10)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.arange(50.5, 1000, 100))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(49.5, 1000, 100))


def test_a_legend_names_at_most_ten_of_many_layers_with_the_first_and_the_last():
    ax = plots.gradient_norms(record([0, 1], np.ones((2, 50))))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(texts) == 10
    assert {"layer_0", "layer_49"} <= set(texts)


def test_an_empty_record_and_a_given_axis():
    given = plt.figure().add_subplot()
    assert plots.gradient_norms(record([], np.empty((0, 0))), given) is given


@pytest.mark.parametrize("name", presets.names())
def test_surrogate_draws_value_true_slope_and_surrogate_slope(name):
    pair = presets.get(name)
    value, true, slope = plots.surrogate(name).lines[:3]
    x = value.get_xdata()
    for line, function in (
        (value, pair.forward.value),
        (true, pair.forward.slope),
        (slope, lambda x: pair.scale * pair.backward.slope(x)),
    ):
        y = line.get_ydata()
        drawn = ~np.isnan(y)
        assert drawn.mean() > 0.99
        np.testing.assert_allclose(y[drawn], np.asarray(function(tf.constant(x)))[drawn])


def test_jumps_are_gaps():
    value = plots.surrogate("ste_sign").lines[0].get_ydata()
    assert np.isnan(value).any()


def test_a_function_without_a_name_to_save_it_by_is_drawn_too():
    ax = plots.surrogate(Surrogate(lambda x: 2 * x, tf.math.atan))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "value: <lambda>",
        "true slope",
        "surrogate slope: slope of atan",
    ]
