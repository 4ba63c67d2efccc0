"""The demo at a small size: what it trains, measures, prints and writes."""

import io
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from keras_surrogate import datasets, demo
from keras_surrogate.testing import roundtrip


def settings(tmp_path, **changes):
    return demo.Settings(
        **{"epochs": 1, "depth": 2, "width": 8, "output": str(tmp_path / "out"), **changes}
    )


@pytest.fixture
def no_fresh_process(monkeypatch):
    """Saves the seconds that fresh processes take, where they are not what is tested."""
    monkeypatch.setattr(demo.roundtrip, "difference", lambda *_: roundtrip.Difference(0.0, 0.0))


def run(settings):
    text = io.StringIO()
    return demo.run(settings, Console(file=text, width=100)), text.getvalue()


@pytest.mark.slow
def test_everything_that_is_promised_is_printed_and_written(tmp_path):
    runs, text = run(settings(tmp_path))
    for expected in (
        "test accuracy",
        "test loss",
        "hidden_1",
        "hidden_2",
        "output",
        "first / last",
        "dead",
        "points",
    ):
        assert expected in text
    assert text.count("opened in a fresh process: the same") == 2
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"gradient_norms.png", "gradient_norms.csv", "model.keras", "savedmodel"}
    rows = np.genfromtxt(
        tmp_path / "out" / "gradient_norms.csv",
        delimiter=",",
        names=True,
        dtype=None,
        encoding=None,
    )
    assert len(rows) == sum(len(finished.record.steps) for finished in runs) == 2 * 44
    np.testing.assert_allclose(rows["hidden_1"][44:], runs[1].record.norms[:, 0])


def test_both_runs_start_from_the_same_weights_and_see_the_same_batches(tmp_path):
    """With the true derivative for a surrogate nothing may differ, to the last bit."""
    small, data = settings(tmp_path, backward="sigmoid"), datasets.load("digits")
    first, second = (demo.train(small, data, "", small.surrogate) for _ in range(2))
    np.testing.assert_array_equal(first.record.norms, second.record.norms)
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    chosen = settings(tmp_path_factory.mktemp("plain"))
    return demo.train(chosen, datasets.load("digits"), "", chosen.surrogate)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.5},
        pytest.param({"backward": "softsign"}, marks=pytest.mark.slow),
        {"seed": 1},
        pytest.param({"learning_rate": 0.2}, marks=pytest.mark.slow),
    ],
)
def test_settings_change_the_training(change, plain, tmp_path):
    chosen = settings(tmp_path, **change)
    changed = demo.train(chosen, datasets.load("digits"), "", chosen.surrogate)
    assert not np.allclose(plain.record.norms[1:], changed.record.norms[1:])


@pytest.mark.slow
def test_the_surrogate_learns_where_the_true_derivative_stays_at_chance(tmp_path, no_fresh_process):
    (true, surrogate), _ = run(demo.Settings(output=str(tmp_path)))
    assert true.accuracy < 0.2 < 0.6 < surrogate.accuracy


def test_an_interruption_reports_what_was_recorded(tmp_path, monkeypatch, no_fresh_process):
    def interrupted(model, *args, callbacks, **kwargs):
        class Interrupt(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if batch == 4:
                    raise KeyboardInterrupt

        return fit(model, *args, callbacks=[*callbacks, Interrupt()], **kwargs)

    fit = keras.Sequential.fit
    monkeypatch.setattr(keras.Sequential, "fit", interrupted)
    runs, text = run(settings(tmp_path))
    assert len(runs) == 1
    assert runs[0].interrupted
    assert len(runs[0].record.steps) == 5
    assert "Interrupted" in text
    assert "Only the network with the true derivative was trained" in text
    assert (tmp_path / "out" / "gradient_norms.png").exists()


def test_dead_units_are_those_whose_output_never_changes():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(4, activation="relu", name="hidden_1")]
    )
    model.set_weights([np.ones((2, 4)), np.array([0.0, -5.0, 1.0, -9.0])])
    np.testing.assert_array_equal(demo.dead_units(model, np.array([[0.0, 0.1], [0.5, 0.9]])), [0.5])


def test_a_run_shows_itself_in_a_few_lines():
    run = demo.TrainedModel("surrogate", None, None, 0.9, 0.3, np.array([0.0, 0.5]), False)
    assert "surrogate; test accuracy 0.9; test loss 0.3; dead units 0 to 0.5" in repr(run)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.1, 0.9), "gains 80.0 points"),
        ((0.9, 0.5), "LOSES 40.0 points"),
        ((0.9, 0.895), "no relevant difference"),
    ],
)
def test_the_verdict_says_who_wins(accuracies, expected):
    runs = [
        demo.TrainedModel("", None, None, accuracy, 0.0, None, False) for accuracy in accuracies
    ]
    assert expected in demo.verdict(runs)


def test_a_failure_while_writing_leaves_old_files_whole_and_no_new_ones(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.keras").write_text("old")

    def disk_full(self, path, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(keras.Sequential, "export", disk_full)
    with pytest.raises(OSError, match="No space left"):
        run(settings(tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.keras"]
    assert (tmp_path / "out" / "model.keras").read_text() == "old"


@pytest.mark.slow
def test_a_second_demo_replaces_the_first(tmp_path, no_fresh_process):
    run(settings(tmp_path))
    runs, _ = run(settings(tmp_path, seed=1, width=9))
    loaded, x = (
        tf.saved_model.load(tmp_path / "out" / "savedmodel"),
        datasets.load("digits").x_test[:4],
    )
    np.testing.assert_allclose(loaded.serve(x), runs[1].model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, but is 0"),
        ({"depth": -1}, "depth must be"),
        ({"seed": -1}, "seed must be"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, but is nan"),
        ({"scale": float("inf")}, "scale must be a finite number"),
        ({"forward": "sigmod"}, "Did you mean 'sigmoid'"),
    ],
)
def test_mistakes_are_explained_before_anything_is_trained(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **change)


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_an_output_that_is_a_file_or_lies_below_one(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name another folder"):
        settings(tmp_path, output=str(tmp_path / name))


def test_a_missing_matplotlib_is_found_out_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_surrogate.plots", None)
    monkeypatch.setattr(demo, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(ImportError):
        run(settings(tmp_path))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_something_before_the_first_result(is_terminal, tmp_path, monkeypatch):
    def not_loaded(*_):
        raise ValueError("no data")

    monkeypatch.setattr(demo.datasets, "load", not_loaded)
    text = io.StringIO()
    with pytest.raises(ValueError, match="no data"):
        demo.run(settings(tmp_path), Console(file=text, force_terminal=is_terminal))
    assert ("Loading digits" in text.getvalue()) == is_terminal
    assert is_terminal or not text.getvalue()
