"""Pictures show the numbers they are given."""

import types
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, plots, presets
from keras_surrogate.plots import lines, runs
from keras_surrogate.recording.quantities import GradientHistogram
from keras_surrogate.records import Record


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


LABELS = GradientHistogram.labels


def run(norms, epochs=None, kind="raw", **further):
    """A `Record` of norms, shape (steps, layers), every third step; further quantities have a column a layer."""
    norms = np.asarray(norms, float)
    steps, layers = norms.shape
    names = [f"block/layer_{number}" for number in range(layers)]
    columns = ["gradient_norm/global", *(f"gradient_norm/{name}" for name in names)]
    values = [np.linalg.norm(norms, axis=1, keepdims=True), norms]
    for quantity, numbers in further.items():
        owners = names if np.shape(numbers)[1] == layers else ["global"]
        columns += [f"{quantity}/{name}" for name in owners]
        values.append(numbers)
    epochs = np.zeros(steps, int) if epochs is None else np.asarray(epochs)
    return Record(tuple(columns), 3 * np.arange(steps), epochs, np.concatenate(values, axis=1), kind)


def with_histograms(record, counts):
    """With counts of shape (steps, owners, bins), the first of them for all layers together."""
    owners = ("global", *record.layer_names)
    columns = tuple(f"gradient_histogram[{label}]/{owner}" for owner in owners for label in LABELS)
    values = np.concatenate([record.values, np.reshape(counts, (len(record.steps), -1))], axis=1)
    return Record(record.columns + columns, record.steps, record.epochs, values, record.kind)


NORMS = np.array([[1.0, 10.0], [3.0, 30.0], [np.nan, np.inf], [4.0, 0.0], [8.0, 0.5]])
EPOCHS = [0, 0, 0, 1, 1]


def test_a_run_is_a_record_what_has_one_or_a_file(tmp_path):
    record = run(NORMS)
    record.to_csv(tmp_path / "run.csv")
    record.to_npz(tmp_path / "run.npz")
    logger, norms = types.SimpleNamespace(record=record), types.SimpleNamespace(record=print, recorded=record)
    for source in (record, logger, norms, tmp_path / "run.csv", str(tmp_path / "run.npz")):
        for draw in (plots.gradient_norms, plots.gradient_ratio, plots.gradient_flow, plots.gradient_heatmap):
            assert draw(source).has_data()
            plt.close("all")
    for wrong in (NORMS, None, {"norms": NORMS}):
        with pytest.raises(TypeError, match=r"is a records.Record, a GradientNormLogger, a GradientNorms, or the path"):
            plots.gradient_flow(wrong)
        with pytest.raises(TypeError, match=r"is a records.Record, a GradientNormLogger, a GradientNorms, or the path"):
            plots.gradient_norms(wrong)
    with pytest.raises(ValueError, match=r"missing.csv cannot be read"):
        plots.gradient_ratio(tmp_path / "missing.csv")
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.gradient_flow(run(np.empty((0, 2))))


def test_medians_and_means_are_over_finite_numbers():
    values = np.array([[1.0, np.nan, 5.0], [2.0, np.inf, np.nan], [9.0, -np.inf, 6.0]])
    np.testing.assert_array_equal(runs.medians(values), [2, np.nan, 5.5])
    np.testing.assert_array_equal(runs.means(values), [4, np.nan, 5.5])


def test_spans_are_equal_parts():
    steps, values = np.arange(7) * 10, np.arange(7.0)[:, np.newaxis]
    values[3] = np.nan
    for points in (7, 8):
        np.testing.assert_array_equal(runs.spans(steps, values, points)[1], values)
    at, joined = runs.spans(steps, values, 2)
    np.testing.assert_array_equal(at, [15, 50])
    np.testing.assert_array_equal(joined[:, 0], [1, 5])


def test_epochs_are_summed_up_by_medians_or_by_their_last_step():
    record = run(NORMS, EPOCHS)
    epochs, medians = runs.epoch_medians(record, "gradient_norm")
    np.testing.assert_array_equal(epochs, [0, 1])
    np.testing.assert_array_equal(medians, [[2, 20], [6, 0.25]])
    epochs, ends = runs.epoch_ends(record, "gradient_norm")
    np.testing.assert_array_equal(epochs, [0, 1])
    np.testing.assert_array_equal(ends, NORMS[[2, 4]])


def test_ratio_and_logarithms():
    np.testing.assert_array_equal(runs.first_over_last(NORMS), [0.1, 0.1, np.nan, np.inf, 16])
    np.testing.assert_array_equal(runs.first_over_last(np.zeros((1, 3))), [np.nan])
    np.testing.assert_array_equal(runs.log10(np.array([100.0, 0.0, np.nan, np.inf])), [2, -np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(runs.edges(np.array([0.0, 2.0, 6.0])), [-1, 1, 4, 8])
    np.testing.assert_array_equal(runs.edges(np.array([5.0])), [4.5, 5.5])


def test_layers_without_a_number_are_left_out_unless_all_are():
    names, values = runs.measured("abc", np.array([[np.nan, 1, np.inf], [np.nan, np.nan, np.inf]]))
    assert names == ["b", "c"] and values.shape == (2, 2)
    assert runs.measured("ab", np.full((2, 2), np.nan))[0] == ["a", "b"]


def crosses(ax):
    """The x of the red crosses at the upper border."""
    marks = [one.get_offsets() for one in ax.collections if _is_border(ax, one, 1)]
    return np.concatenate([np.asarray(mark)[:, 0] for mark in marks]).tolist() if marks else []


def triangles(ax):
    """The x of the triangles at the lower border."""
    marks = [one.get_offsets() for one in ax.collections if _is_border(ax, one, 0)]
    return np.concatenate([np.asarray(mark)[:, 0] for mark in marks]).tolist() if marks else []


def _is_border(ax, collection, height):
    offsets = np.asarray(collection.get_offsets())
    border = collection.get_offset_transform() == ax.get_xaxis_transform()
    return border and len(offsets) and (offsets[:, 1] == height).all()


def test_gradient_norms_marks_zeros_and_every_step_that_is_not_finite():
    ax = plots.gradient_norms(run(NORMS))
    assert crosses(ax) == [6]
    assert triangles(ax) == [9]
    ax = plots.gradient_norms(run(np.concatenate([NORMS] * 100)), points=10)
    assert len(crosses(ax)) == 100
    assert crosses(plots.gradient_norms(record(np.arange(5), NORMS))) == [2]
    low, high = plots.gradient_norms(run([[0.0], [0.0]])).get_xlim()
    assert low <= 0 < 3 <= high


def test_an_applied_step_that_updates_nothing_is_no_cross():
    norms = np.array([[1.0, 1.0], [np.nan, np.nan], [2.0, np.inf]])
    assert crosses(plots.gradient_norms(run(norms, kind="applied"))) == [6]
    assert crosses(plots.gradient_norms(run(norms))) == [3, 6]


def test_gradient_flow_draws_a_line_an_epoch_over_the_layers():
    ax = plots.gradient_flow(run(NORMS, EPOCHS))
    assert ax.get_yscale() == "log"
    assert [line.get_label() for line in ax.lines] == ["0", "1"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 2], [1, 20]])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [6, 0.25])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["block/layer_0", "block/layer_1"]
    assert crosses(plots.gradient_flow(run([[1.0, np.nan]]))) == [1]
    dark, light = (sum(line.get_color()[:3]) for line in ax.lines)
    assert dark < light


def test_gradient_heatmap_colours_by_logarithm():
    ax = plots.gradient_heatmap(run(NORMS))
    mesh = ax.collections[0]
    cells = np.ma.filled(mesh.get_array().reshape(2, 5), np.nan)
    with np.errstate(divide="ignore"):
        expected = np.log10(NORMS.T)
    drawn = np.isfinite(expected)
    np.testing.assert_allclose(cells[drawn], expected[drawn])
    assert np.isnan(cells[:, 2]).all()
    assert cells[1, 3] < mesh.norm.vmin == np.log10(0.5) and mesh.norm.vmax == np.log10(30)
    assert mesh.cmap.get_under().tolist() == [1, 1, 1, 1]
    assert ax.get_ylim() == (1.5, -0.5)
    assert crosses(ax) == [6]
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], [-1.5, 1.5, 4.5, 7.5, 10.5, 13.5])


def test_gradient_ratio_draws_the_ratio_and_where_it_vanishes():
    ax = plots.gradient_ratio(run(NORMS), vanishing=1e-2)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [0.1, 0.1, np.nan, np.nan, 16])
    assert ax.lines[1].get_ydata()[0] == 1e-2
    assert ax.get_ylim()[0] < 1e-2
    assert "block/layer_0\nover that of block/layer_1" in ax.get_ylabel()


def test_dead_units_draws_the_end_of_each_epoch():
    shares = np.array([[1.0, 0.9], [0.5, 0.8], [0.25, 0.75], [0.9, 0.9], [0.125, 0.75]])
    ax = plots.dead_units(run(NORMS, EPOCHS, dead_units=shares))
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], [[0.25, 0.125], [0.75, 0.75]])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1])
    with pytest.raises(ValueError, match=r'No dead units were recorded.*also="activations"'):
        plots.dead_units(run(NORMS))


def test_over_time_draws_any_quantity():
    values = np.array([[1.0, np.nan], [-2.0, np.nan], [3.0, np.nan], [4.0, np.nan], [5.0, np.nan]])
    record = run(
        NORMS, activation_mean=values, update_ratio=abs(values), gradient_clipped=np.array([[0, 1, 1, 0, 1]]).T
    )
    ax = plots.over_time(record, "activation_mean")
    assert ax.get_yscale() == "linear" and ax.get_ylabel() == "activation mean"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), values[:, 0])
    assert len(ax.lines) == 1
    assert plots.over_time(record, "update_ratio").get_yscale() == "log"
    clipped = plots.over_time(record, "gradient_clipped", points=1)
    np.testing.assert_allclose(clipped.lines[0].get_ydata(), [0.6])
    with pytest.raises(ValueError, match="No quantity 'delta_norm' was recorded"):
        plots.over_time(record, "delta_norm")


def counted():
    counts = np.zeros((5, 3, len(LABELS)))
    for step in range(5):
        counts[step, 1, LABELS.index("1e-3")] = step + 1
        counts[step, 2, [0, LABELS.index("1e-1"), LABELS.index("1e0"), -1]] = 4, 3, 1, 2
    counts[:, 0] = counts.sum(axis=1)
    return with_histograms(run(NORMS, EPOCHS), counts)


def test_histogram_rows_are_sums_over_an_epoch():
    rows = runs.histogram_rows(counted())
    assert list(rows) == ["block/layer_0", "block/layer_1"]
    assert rows["block/layer_0"].sum() == rows["block/layer_0"][LABELS.index("1e-3")] == 4 + 5
    assert runs.histogram_rows(counted(), epoch=0)["block/layer_0"].sum() == 1 + 2 + 3
    rows = runs.histogram_rows(counted(), layer="global")
    assert {epoch: counts.sum() for epoch, counts in rows.items()} == {0: 6 + 30, 1: 9 + 20}


def test_decades_are_shares_of_what_is_not_zero_and_finite():
    counts = np.stack([*runs.histogram_rows(counted()).values(), np.zeros(len(LABELS))])
    borders, density = runs.decades(counts)
    assert len(borders) == density.shape[1] + 1
    np.testing.assert_array_equal(density.sum(axis=1), [1, 1, 0])
    assert density[0, borders.tolist().index(-3)] == 1
    assert density[1, borders.tolist().index(-1)] == 0.75
    assert [borders[end] for end in runs.occupied(density)] == [-3, 1]
    assert runs.occupied(np.zeros((2, 5))) == (0, 5)
    assert [runs.share_note(row) for row in counts] == ["", "0: 40.0%, not finite: 20.0%", ""]


def test_gradient_histograms_draws_a_ridge_a_layer_or_an_epoch():
    ax = plots.gradient_histograms(counted())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["block/layer_0", "block/layer_1"]
    assert ax.get_xlim() == (-3.5, 1.5)
    tops = ax.lines[0].get_ydata()
    assert tops.min() == -1.6 and ax.lines[0].get_xdata()[tops.argmin()] == -3
    np.testing.assert_allclose(np.unique(ax.lines[1].get_ydata()), [1 - 1.2, 1 - 0.4, 1])
    assert [text.get_text() for text in ax.texts] == ["", "0: 40.0%, not finite: 20.0%"]
    assert "epoch 1" in ax.get_xlabel()
    ax = plots.gradient_histograms(counted(), layer="block/layer_1")
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "layer_7"}, "No layer 'layer_7' was recorded. There are: global, block/layer_0, block/layer_1"),
        ({"epoch": 2}, "No epoch 2 was recorded. There are: 0, 1"),
        ({"epoch": 1, "layer": "global"}, "but not both"),
    ],
)
def test_ridges_that_are_not_there(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.gradient_histograms(counted(), **arguments)


def test_ridges_that_were_not_recorded():
    with pytest.raises(ValueError, match=r'No gradient histograms.*also="histogram"'):
        plots.gradient_histograms(run(NORMS))


def test_spread_and_single_points():
    assert lines.spread(100, 4) == [0, 33, 66, 99]
    assert lines.spread(3, 10) == [0, 1, 2]
    assert lines.spread(1, 10) == [0] and lines.spread(0, 10) == []
    ax = plt.figure().add_subplot()
    lines.line(ax, np.arange(6), [1.0, np.nan, 2.0, 3.0, np.nan, 4.0], "black")
    np.testing.assert_array_equal(ax.collections[0].get_offsets()[:, 0], [0, 5])


def full(steps, layers, epochs, fill=None):
    """A run with something of everything, zeros, NaN and infinity among it."""
    random = np.random.default_rng(0)
    norms = 10.0 ** random.normal(-3, 3, (steps, layers))
    norms[steps // 2, :] = np.nan
    norms[steps // 3, layers // 2 :] = np.inf
    norms[: steps // 2, layers // 4] = 0
    shares, clipped = random.random((steps, layers)), random.integers(0, 2, (steps, 1))
    record = run(norms, np.arange(steps) * epochs // steps, dead_units=shares, update_ratio=shares)
    record = with_histograms(record, random.integers(0, 9, (steps, layers + 1, len(LABELS))))
    columns, values = (*record.columns, "gradient_clipped/global"), np.append(record.values, clipped, axis=1)
    values = values if fill is None else np.full_like(values, fill)
    return Record(columns, record.steps, record.epochs, values, "raw")


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (3, 1, 3), (4, 3, 2, 0.0), (4, 3, 2, np.nan), (210, 110, 12)])
def test_an_overview_of_anything_can_be_drawn_without_a_warning(shape, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.overview(full(*shape))
        figure.savefig(tmp_path / "run.png", dpi=30)
    labels = [ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes]
    panels = ["gradient norm, median", "gradient norm", "gradient norm of", "share of units", "update", "clipped"]
    for words in panels:
        assert any(words in label for label in labels), words
    assert sum("abs(gradient)" in label for label in labels) == 1
    assert f"recorded steps: {shape[0]}, epochs: {shape[2]}, gradients: raw" in figure.get_suptitle()


def test_an_overview_has_no_panels_of_what_was_not_recorded():
    figure = plots.overview(run(NORMS))
    assert len(figure.axes) == 5  # one of them the colour bar
