"""The picture of a prediction shows the numbers it is given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_surrogate import plots, theory


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_norms_are_drawn_layer_by_layer_on_a_log_scale():
    prediction = theory.predict("sugar_bsilu", 6, 2.0)
    ax = plots.prediction(prediction)
    assert ax.get_yscale() == "log"
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 7))
    np.testing.assert_array_equal(line.get_ydata(), prediction.gradient_norm)


def test_several_with_measurements_and_alignments():
    predictions = {
        name: theory.predict(name, 4, 2.0)
        for name in ("leaky_backward", "sugar_bsilu", "superspike")
    }
    measured = {"sugar_bsilu": np.array([4.0, 3.0, 2.0, 1.0])}
    axes = plt.subplots(1, 2)[1]
    assert plots.prediction(predictions, axes, measured) is axes
    norms, alignments = axes
    named = [text.get_text() for text in norms.get_legend().get_texts()]
    assert named == ["leaky_backward", "sugar_bsilu", "superspike"]
    assert norms.get_legend().get_title().get_text() == "dots: measured"
    np.testing.assert_array_equal(norms.lines[2].get_ydata(), measured["sugar_bsilu"])
    assert norms.lines[2].get_color() == norms.lines[1].get_color()
    assert len(alignments.lines) == 2
    np.testing.assert_array_equal(
        alignments.lines[0].get_ydata(), predictions["leaky_backward"].alignment
    )


def test_a_gradient_of_zero_leaves_a_gap():
    (line,) = plots.prediction(theory.predict("step", 3, 1.0)).lines
    assert np.isnan(line.get_ydata()).all()


def test_an_undefined_alignment_is_said_to_be_so():
    _, alignments = plots.prediction(theory.predict("superspike", 3, 1.0), plt.subplots(1, 2)[1])
    assert [text.get_text() for text in alignments.texts] == ["undefined: the true gradient is 0"]
    _, alignments = plots.prediction(theory.predict("sugar_bsilu", 3, 2.0), plt.subplots(1, 2)[1])
    assert not alignments.texts
