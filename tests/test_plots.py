"""Pictures show the numbers they are given."""

import subprocess
import sys
import types
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, plots, presets
from keras_surrogate.diagnosis import AlignedLayer, Alignment
from keras_surrogate.diagnosis.batches import Batch
from keras_surrogate.diagnosis.layer_table import Row
from keras_surrogate.diagnosis.report import Diagnosis
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
    ax = plots.gradient_norms(
        record(np.arange(1000), np.arange(1.0, 1001)[:, np.newaxis]), points=10
    )
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
    return Record(
        tuple(columns), 3 * np.arange(steps), epochs, np.concatenate(values, axis=1), kind
    )


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
    logger, norms = (
        types.SimpleNamespace(record=record),
        types.SimpleNamespace(record=print, recorded=record),
    )
    for source in (record, logger, norms, tmp_path / "run.csv", str(tmp_path / "run.npz")):
        for draw in (
            plots.gradient_norms,
            plots.gradient_ratio,
            plots.gradient_flow,
            plots.gradient_heatmap,
        ):
            assert draw(source).has_data()
            plt.close("all")
    for wrong in (NORMS, None, {"norms": NORMS}):
        with pytest.raises(
            TypeError,
            match=r"is a records.Record, a GradientNormLogger, a GradientNorms, or the path",
        ):
            plots.gradient_flow(wrong)
        with pytest.raises(
            TypeError,
            match=r"is a records.Record, a GradientNormLogger, a GradientNorms, or the path",
        ):
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
    np.testing.assert_array_equal(
        runs.log10(np.array([100.0, 0.0, np.nan, np.inf])), [2, -np.inf, np.nan, np.nan]
    )
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
    np.testing.assert_array_equal(
        mesh.get_coordinates()[0, :, 0], [-1.5, 1.5, 4.5, 7.5, 10.5, 13.5]
    )


def test_gradient_ratio_draws_the_ratio_and_where_it_vanishes():
    ax = plots.gradient_ratio(run(NORMS), vanishing=1e-2)
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [0.1, 0.1, np.nan, np.nan, 16])
    assert ax.lines[1].get_ydata()[0] == 1e-2
    assert ax.get_ylim()[0] < 1e-2
    assert "block/layer_0\nover that of block/layer_1" in ax.get_ylabel()


def test_dead_units_draws_the_end_of_each_epoch():
    shares = np.array([[1.0, 0.9], [0.5, 0.8], [0.25, 0.75], [0.9, 0.9], [0.125, 0.75]])
    ax = plots.dead_units(run(NORMS, EPOCHS, dead_units=shares))
    np.testing.assert_array_equal(
        [line.get_ydata() for line in ax.lines], [[0.25, 0.125], [0.75, 0.75]]
    )
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1])
    with pytest.raises(ValueError, match=r'No dead units were recorded.*also="activations"'):
        plots.dead_units(run(NORMS))


def test_over_time_draws_any_quantity():
    values = np.array([[1.0, np.nan], [-2.0, np.nan], [3.0, np.nan], [4.0, np.nan], [5.0, np.nan]])
    record = run(
        NORMS,
        activation_mean=values,
        update_ratio=abs(values),
        gradient_clipped=np.array([[0, 1, 1, 0, 1]]).T,
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
    names, counts = runs.histogram_rows(counted())
    assert names == ["block/layer_0", "block/layer_1"]
    assert counts[0].sum() == counts[0][LABELS.index("1e-3")] == 4 + 5
    assert runs.histogram_rows(counted(), epoch=0)[1][0].sum() == 1 + 2 + 3
    epochs, counts = runs.histogram_rows(counted(), layer="global")
    assert epochs == [0, 1]
    assert counts.sum(axis=1).tolist() == [6 + 30, 9 + 20]


def test_decades_are_shares_of_what_is_not_zero_and_finite():
    counts = np.stack([*runs.histogram_rows(counted())[1], np.zeros(len(LABELS))])
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
        (
            {"layer": "layer_7"},
            "No layer 'layer_7' was recorded. There are: global, block/layer_0, block/layer_1",
        ),
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


def aligned(*cosines):
    rows = tuple(
        AlignedLayer(f"layer_{number}", cosine, None if number else 0.1, 1.0, 1.0)
        for number, cosine in enumerate(cosines)
    )
    return Alignment("model", 64, "noise", rows, rows[0])


def test_alignment_of_a_batch_has_bars_of_two_errors_and_gaps():
    ax = plots.alignment(aligned(0.5, None, -0.3))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.5, np.nan, -0.3])
    bars = ax.containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bars, [[0, 0.3], [0, 0.7]])
    assert ax.get_ylim() == pytest.approx((-0.35, 1.05))
    assert "'noise'" in ax.get_ylabel()


def test_alignment_of_a_run_is_drawn_over_layers_and_over_sampled_steps():
    cosines = np.full((6, 2), np.nan)
    cosines[[0, 2, 4]] = [[0.1, 0.9], [0.3, 0.7], [0.5, 0.8]]
    record = run(np.ones((6, 2)), [0, 0, 0, 1, 1, 2], alignment=cosines)
    ax = plots.alignment(record)
    drawn = [line.get_ydata() for line in ax.lines if line.get_marker() == "."]
    # The last epoch has no sampled step.
    np.testing.assert_allclose(drawn, [[0.2, 0.8], [0.5, 0.8]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]
    ax = plots.over_time(record, "alignment")
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 0.1], [6, 0.3], [12, 0.5]])
    assert ax.get_yscale() == "linear"
    axes = plots.overview(record)
    assert [ax.get_ylabel() for ax in axes[2:4]] == ["alignment, mean of the epoch", "alignment"]


def test_alignment_that_was_not_recorded_or_sampled():
    with pytest.raises(ValueError, match='GradientNormLogger\\(also="alignment"\\)'):
        plots.alignment(run(np.ones((2, 2))))
    never = run(np.ones((2, 2)), alignment=np.full((2, 2), np.nan))
    plots.overview(never)


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
    columns, values = (
        (*record.columns, "gradient_clipped/global"),
        np.append(record.values, clipped, axis=1),
    )
    values = values if fill is None else np.full_like(values, fill)
    return Record(columns, record.steps, record.epochs, values, "raw")


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        pytest.param((1, 4, 1), marks=pytest.mark.slow),
        pytest.param((3, 1, 3), marks=pytest.mark.slow),
        pytest.param((4, 3, 2, 0.0), marks=pytest.mark.slow),
        (4, 3, 2, np.nan),
        pytest.param((210, 110, 12), marks=pytest.mark.slow),
    ],
)
def test_an_overview_of_anything_can_be_drawn_without_a_warning(shape, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = plots.overview(full(*shape))
        plots.save(axes, tmp_path / "run.png", dpi=30)
    figure = axes[0].figure.figure
    labels = [ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes]
    panels = [
        "gradient norm, median",
        "gradient norm",
        "gradient norm of",
        "share of units",
        "update",
        "clipped",
    ]
    for words in panels:
        assert any(words in label for label in labels), words
    assert sum("abs(gradient)" in label for label in labels) == 1
    assert (
        f"recorded steps: {shape[0]}, epochs: {shape[2]}, gradients: raw" in figure.get_suptitle()
    )


def test_an_overview_has_no_panels_of_what_was_not_recorded():
    axes = plots.overview(run(NORMS))
    assert axes.shape == (4,)
    assert len(axes[0].figure.figure.axes) == 5  # one of them the colour bar


def test_epochs_of_a_second_fit_are_not_merged_with_those_of_the_first():
    shares = np.array([[0.0, 0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 0.7], [0.8, 0.9]])
    record = run(NORMS[[0, 1, 3, 4, 0]], [0, 0, 1, 0, 1], dead_units=shares)
    epochs, medians = runs.epoch_medians(record, "gradient_norm")
    np.testing.assert_array_equal(epochs, [0, 1, 0, 1])
    np.testing.assert_array_equal(medians, [[2, 20], [4, 0], [8, 0.5], [1, 10]])
    epochs, ends = runs.epoch_ends(record, "dead_units")
    np.testing.assert_array_equal(epochs, [0, 1, 0, 1])
    np.testing.assert_array_equal(ends, shares[[1, 2, 3, 4]])
    ax = plots.dead_units(record)
    np.testing.assert_array_equal(
        ax.lines[0].get_xydata(), np.stack([np.arange(4), ends[:, 0]], axis=1)
    )
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "0", "1"]
    assert "epochs: 4" in plots.overview(record)[0].figure.figure.get_suptitle()
    counts = np.ones((5, 3, len(LABELS))) * np.arange(5)[:, np.newaxis, np.newaxis]
    with_counts = with_histograms(record, counts)
    names, counts = runs.histogram_rows(with_counts, layer="global")
    assert names == [0, 1, 0, 1] and counts[:, 0].tolist() == [0 + 1, 2, 3, 4]
    assert runs.histogram_rows(with_counts, epoch=0)[1][0, 0] == 3


def taking_turns(layers):
    """Norms like those of kernels and scales: a trend from 1 to 0.1, ten times that by turns."""
    return np.geomspace(1, 0.1, layers) * np.where(np.arange(layers) % 2, 1, 10)


def test_what_goes_up_and_down_from_layer_to_layer_is_dots_with_a_trend():
    norms = taking_turns(40)
    ax = plots.gradient_flow(run([norms]))
    dots, trend = ax.lines
    assert dots.get_linestyle() == "None" and dots.get_marker() == "."
    np.testing.assert_array_equal(dots.get_ydata(), norms)
    np.testing.assert_array_equal(trend.get_xdata(), np.arange(39) + 0.5)
    between = np.sqrt(10) * np.sqrt(np.geomspace(1, 0.1, 40)[1:] * np.geomspace(1, 0.1, 40)[:-1])
    np.testing.assert_allclose(trend.get_ydata(), between)


@pytest.mark.parametrize(
    "norms", [np.geomspace(1, 1e-30, 40), np.full(40, 2.0), np.zeros(40), np.full(40, np.nan), [5]]
)
def test_what_falls_evenly_however_fast_is_a_line(norms):
    (line,) = plots.gradient_flow(run([norms])).lines
    assert line.get_linestyle() == "-"


def test_a_trend_has_gaps_where_a_layer_gets_nothing():
    norms = taking_turns(40)
    norms[20] = 0
    ax = plots.gradient_flow(run([norms]))
    gaps = np.isnan(ax.lines[1].get_ydata())
    assert gaps[[14, 19, 25]].all() and not gaps[[13, 26]].any()
    assert triangles(ax) == [20]


@pytest.mark.parametrize("repeat", [2, 3, 4, 6])
def test_the_trend_does_not_follow_what_repeats(repeat):
    norms = 10.0 ** (np.arange(36) % repeat)
    middle = lines.trend(norms)[6:-6]
    np.testing.assert_allclose(middle, middle[0])


def test_shares_of_zero_are_drawn_on_an_axis_up_to_1():
    record = run(NORMS, EPOCHS, dead_units=np.zeros((5, 2)), activation_zeros=np.zeros((5, 2)))
    for ax in (plots.dead_units(record), plots.over_time(record, "activation_zeros")):
        low, high = ax.get_ylim()
        assert -0.1 < low < 0 and 1 < high < 1.1
    record = run(
        NORMS, EPOCHS, dead_units=np.full((5, 2), 0.5), activation_saturated=np.full((5, 2), 0.01)
    )
    assert plots.dead_units(record).get_ylim()[1] == pytest.approx(0.55)
    assert plots.over_time(record, "activation_saturated").get_ylim()[1] == pytest.approx(0.11)


def test_short_names_stay_different():
    parts = ("key", "query")
    blocks = [
        f"transformer_block_{block}/self_attention/{part}_projection"
        for block in (1, 11)
        for part in parts
    ]
    short = lines.shortened(["embedding", *blocks])
    assert short[0] == "embedding"
    assert len(set(short)) == 5 and max(map(len, short)) <= 48
    assert all("\u2026" in name for name in short[1:])
    assert lines.shortened(["encoder/block/attention/query"]) == ["\u2026r/block/attention/query"]
    ends = [f"{number}{'_' * 30}" for number in range(3)]
    assert [name[:2] for name in lines.shortened(ends)] == ["0\u2026", "1\u2026", "2\u2026"]
    inside = [f"{'a' * 60}{number}{'b' * 60}" for number in range(3)]
    assert lines.shortened(inside) == inside
    assert lines.shortened([]) == [] and lines.shortened(["same", "same"]) == ["same", "same"]


def outside(figure, word):
    """The texts with that word that stick out of a figure."""
    figure.canvas.draw()
    frame = figure.bbox.padded(1)
    texts = figure.findobj(lambda artist: hasattr(artist, "get_text") and word in artist.get_text())
    assert len(texts) > 9
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    return [
        text
        for text, box in boxes.items()
        if not (frame.contains(*box.min) and frame.contains(*box.max))
    ]


@pytest.mark.parametrize(
    "draw", [plots.gradient_flow, plots.gradient_heatmap, plots.gradient_norms, plots.overview]
)
def test_names_of_many_layers_are_not_cut_by_the_border(draw):
    names = [f"expanded_conv_block_{number}_project_BN" for number in range(110)]
    columns = ("gradient_norm/global", *(f"gradient_norm/{name}" for name in names))
    record = Record(columns, np.arange(4), np.zeros(4, int), np.ones((4, 111)))
    drawn = np.ravel(np.asarray(draw(record), dtype=object))
    assert outside(drawn[0].figure.figure, "project") == []


def test_a_map_of_many_layers_is_higher_and_has_more_names():
    few, many = (plots.gradient_heatmap(run(np.ones((2, layers)))) for layers in (10, 110))
    assert few.figure.get_figheight() == 4.8 < 8 < many.figure.get_figheight() <= 12
    assert len(many.get_yticks()) > 30
    assert plots.gradient_heatmap(run(np.ones((2, 110))), few) is few


def test_a_picture_is_saved_from_an_axis_axes_or_a_figure(tmp_path):
    ax = plots.gradient_norms(run(NORMS))
    axes = plt.subplots(1, 3, figsize=(12, 2))[1]
    for number, drawn in enumerate(
        [ax, [ax], axes, list(axes), axes[0], plt.subplots(2, 2)[1], axes[0].figure, ax.figure]
    ):
        plots.save(drawn, tmp_path / f"{number}.png", dpi=20)
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
    plots.save(axes, str(tmp_path / "other.PDF"))
    assert (tmp_path / "other.PDF").read_bytes().startswith(b"%PDF")
    wide, narrow = (plt.imread(tmp_path / f"{number}.png").shape for number in (4, 0))
    assert wide[1] > 1.5 * narrow[1]


def test_saving_says_what_is_wrong_and_leaves_the_old_picture(tmp_path, monkeypatch):
    ax = plots.gradient_norms(run(NORMS))
    for name, message in {
        "picture": "picture cannot be written as a picture: it has no suffix. Use one of .*.pdf.*.png.*.svg",
        "picture.nonsense": "the suffix .nonsense is unknown. Use one of .*.png",
        "picture.pgf": "the suffix .pgf is unknown",
        "missing/picture.png": "missing/picture.png cannot be written: name a file in an existing folder",
    }.items():
        with pytest.raises(ValueError, match=message):
            plots.save(ax, tmp_path / name)
    for drawn, found in {None: "NoneType", "ax": "str"}.items():
        with pytest.raises(
            TypeError,
            match=rf"must be matplotlib axes, an array or list of axes, or a figure, but .* {found}",
        ):
            plots.save(drawn, tmp_path / "picture.png")
    for drawn in ([], [ax, plt.figure().add_subplot()]):
        with pytest.raises(ValueError, match=r"must be of one figure, but are of [02]"):
            plots.save(drawn, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())
    plots.save(ax, tmp_path / "picture.png")
    before = (tmp_path / "picture.png").read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plots.save(ax, tmp_path / "picture.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_no_public_function_returns_a_figure_which_notebooks_would_draw_twice():
    for drawn in (plots.overview(run(NORMS)), plots.gradient_flow(run(NORMS))):
        assert not hasattr(drawn, "_repr_html_") and not isinstance(drawn, plt.Figure)


def test_without_matplotlib_the_error_is_a_command_that_works():
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "try:\n    import keras_surrogate.plots\nexcept ImportError as error:\n    print(error)"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert finished.stdout == "Plots need matplotlib: python -m pip install matplotlib.\n"


def diagnosed(rows, findings=()):
    """What `plots.diagnosis` takes of a `Diagnosis`: rows of layer, norm and whether it has a kernel."""
    found = [
        Row(
            layer,
            "Layer",
            gradient_norm=norm,
            signal_variance=1.0,
            weight_variance=1.0 if has_kernel else None,
        )
        for layer, norm, has_kernel in rows
    ]
    return Diagnosis("model", Batch(32), tuple(found), tuple(findings))


def test_a_diagnosis_with_normalisation_draws_kernels_and_what_was_found():
    rows = [
        ("conv", 1.0, True),
        ("bn", 0.1, False),
        ("relu", None, False),
        ("bn_2", 0.1, False),
        ("out", 1.0, True),
    ]

    def names(*arguments):
        return [
            text.get_text() for text in plots.diagnosis(diagnosed(*arguments)).get_xticklabels()
        ]

    assert names(rows) == ["conv", "out"]
    finding = types.SimpleNamespace(kind="dead_units", severity=2, layers=("relu",))
    assert names(rows, [finding]) == ["conv", "relu", "out"]
    assert names([row for row in rows if "bn" not in row[0]]) == ["conv", "relu", "out"]
    assert names(rows[1:4]) == ["bn", "relu", "bn_2"]


def test_a_diagnosis_whose_layers_take_turns_is_dots_with_a_trend():
    rows = [(f"layer_{number}", norm, True) for number, norm in enumerate(taking_turns(30))]
    ax = plots.diagnosis(diagnosed(rows))
    styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
    assert styles["gradient norm of the weights"] == "None"
    assert styles["signal: standard deviation"] == "-"
