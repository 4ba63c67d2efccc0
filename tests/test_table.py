"""The table in the terminal has the logs' numbers and overwrites only itself."""

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_surrogate.callbacks import GradientNormLogger, GradientTable, table

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 4)).astype("float32"), RANDOM.normal(size=(40, 3)).astype("float32")
UP_AND_ERASE = "\x1b[1A\x1b[2K"


def make_model(depth=2):
    layers = [keras.layers.Dense(4, "tanh", name=f"layer_{number}") for number in range(depth)]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, name="last")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fit(*callbacks, model=None, epochs=3, verbose=0):
    model = model or make_model()
    return model.fit(
        X, Y, batch_size=10, epochs=epochs, verbose=verbose, callbacks=list(callbacks)
    ).history


def console(terminal, width=100, height=40, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    return Console(
        file=file,
        force_terminal=terminal,
        width=width,
        height=height,
        color_system=None,
        _environ={},
    )


def printed(console):
    console.file.flush()
    return console.file.buffer.getvalue().decode(console.file.encoding)


def tables(text):
    """The title and the words of the rows of each printed table."""
    titles = text.split("raw gradient norms, ")[1:]
    return [
        (title.splitlines()[0].strip(), [row.split() for row in title.splitlines()[2:]])
        for title in titles
    ]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("every", [1, 3])
def test_norms_are_those_of_the_logs_and_changes_their_quotients(every, order):
    screen, logger = console(terminal=False), GradientNormLogger(every)
    history = fit(*[GradientTable(logger, console=screen), logger][::order])
    found = tables(printed(screen))
    assert [title for title, _ in found] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    for epoch, (_, rows) in enumerate(found):
        for number, (name, row) in enumerate(zip(logger.layer_names, rows, strict=False)):
            norms = history[f"gradient_norm/{name}"]
            assert row[:3] == [str(number + 1), name, f"{norms[epoch]:.2e}"]
            if epoch:
                assert row[3:5] == ["x", f"{norms[epoch] / norms[epoch - 1]:.3g}"]
        assert rows[-1][:3] == ["all", "layers", f"{history['gradient_norm/global'][epoch]:.2e}"]
    assert "\x1b" not in printed(screen)


def test_in_a_terminal_without_progress_bar_a_table_takes_the_place_of_the_last():
    screen, logger = console(terminal=True), GradientNormLogger()
    fit(logger, GradientTable(logger, console=screen))
    first, second, third = printed(screen).split(UP_AND_ERASE * 6)
    assert "\x1b[1A" not in first + second + third
    assert [text.count("\n") for text in (first, second, third)] == [6, 6, 6]
    for number, text in enumerate((first, second, third), 1):
        assert f"epoch {number}/3" in text


def test_not_live_nothing_is_overwritten():
    screen, logger = console(terminal=True), GradientNormLogger()
    fit(logger, GradientTable(logger, live=False, console=screen))
    assert len(tables(printed(screen))) == 3
    assert "\x1b[1A" not in printed(screen)


@pytest.mark.parametrize("verbose", [1, 2])
def test_tables_stand_between_the_lines_of_the_progress_bar(verbose, capsys):
    logger = GradientNormLogger()
    fit(logger, GradientTable(logger), epochs=2, verbose=verbose)
    text = capsys.readouterr().out
    places = [text.index(words) for words in ("Epoch 1/2", "epoch 1/2", "Epoch 2/2", "epoch 2/2")]
    assert places == sorted(places)
    for place in (places[1], places[3]):
        line = text[:place].rfind("raw gradient norms")
        assert text[line - 1] == "\n" and "4/4" in text[:line].splitlines()[-1]


def test_it_may_come_before_a_progress_bar_that_is_free_of_norms(capsys):
    logger = GradientNormLogger()
    fit(GradientTable(logger), keras.callbacks.ProgbarLogger(), logger, epochs=2, verbose=1)
    text = capsys.readouterr().out
    places = [text.index(words) for words in ("Epoch 1/2", "epoch 1/2", "Epoch 2/2", "epoch 2/2")]
    assert places == sorted(places) and "gradient_norm/" not in text


def test_many_layers_are_shortened_to_the_height_of_the_terminal():
    screen, logger = console(terminal=True, height=14), GradientNormLogger()
    fit(logger, GradientTable(logger, rows=30, console=screen), model=make_model(30), epochs=1)
    ((_, rows),) = tables(printed(screen))
    assert printed(screen).count("\n") <= 14
    assert [row[1] for row in rows[:2]] == ["layer_0", "layer_1"]
    assert rows[-2][:2] == ["31", "last"]
    assert rows[-1][-4:] == ["10", "of", "31", "layers"]


def test_an_epoch_without_a_recorded_step_has_no_table():
    screen, logger = console(terminal=False), GradientNormLogger(every=6)
    fit(logger, GradientTable(logger, console=screen), epochs=4)
    assert [title for title, _ in tables(printed(screen))] == [
        "epoch 1/4",
        "epoch 2/4",
        "epoch 4/4",
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_where_only_ascii_can_be_printed_only_ascii_is(encoding):
    screen, logger = console(terminal=True, encoding=encoding), GradientNormLogger()
    shown = GradientTable(logger, console=screen)
    fit(logger, shown, model=make_model(), epochs=1)
    assert "layer_0" in printed(screen) and "####" in printed(screen)
    screen.print(
        table.norm_table(
            "title", ["the_long_name_of_a_layer_\u03b1", "all"], np.ones(2), np.ones(2), 4, True
        )
    )
    assert "1  ~_long_name_of_a_layer_?  " in printed(screen)


def test_names_are_no_markup():
    screen = console(terminal=False)
    screen.print(table.norm_table("[b]", ["[red]", "all"], np.ones(2), np.ones(2)))
    assert "[b]" in printed(screen) and "1  [red]  " in printed(screen)


def test_norms_that_are_no_numbers():
    norms = np.array([0.0, np.nan, np.inf, 1e-30, 2.0, np.nan])
    screen = console(terminal=False)
    screen.print(table.norm_table("title", list("abcdef"), norms, norms[::-1]))
    rows = [line.split() for line in printed(screen).splitlines()]
    assert [row[2] for row in rows[2:7]] == ["0.00e+00", "nan", "inf", "1.00e-30", "2.00e+00"]
    assert "1e-30 to 1e1" in printed(screen)
    assert [row[-1].count("\u2588") for row in rows[2:7]] == [0, 0, 0, 1, 20]


def test_steps_that_are_not_finite_are_counted():
    screen, logger = console(terminal=False), GradientNormLogger()
    x = X.copy()
    x[-1] = np.nan
    model = make_model()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(
        x,
        Y,
        batch_size=10,
        verbose=0,
        shuffle=False,
        callbacks=[logger, GradientTable(logger, console=screen)],
    )
    assert tables(printed(screen))[0][0] == "epoch 1/1, not finite in 1 steps"


def test_bars_between_powers_of_ten():
    norms = np.array([1e-3, 1e-2, 1.0, 10**-1.5, 0.0, np.nan])
    assert table.decades(norms) == (-3, 0)
    np.testing.assert_array_equal(table.bar_lengths(norms, -3, 0, 31), [1, 11, 31, 16, 0, 0])
    assert table.decades(np.array([0.2, 0.3])) == (-1, 0)
    assert table.decades(np.array([100.0])) == (2, 3)
    assert table.decades(np.array([0.0, np.nan])) == (-1, 0)


def test_the_chosen_are_the_first_the_last_and_the_extremes():
    norms = np.full(100, 1.0)
    norms[[40, 50, 60]], norms[[30, 70, 80]] = (np.nan, 9.0, 8.0), (0.0, 0.1, 0.2)
    assert table.chosen(norms, 8) == [0, 1, 30, 40, 50, 70, 98, 99]
    assert table.chosen(norms, 12) == [0, 1, 2, 30, 40, 50, 60, 70, 80, 97, 98, 99]
    assert table.chosen(norms, 100) == list(range(100))
    for rows in range(4, 100):
        assert len(table.chosen(norms, rows)) == rows


NOT_IN_FIT = "GradientTable: put its GradientNormLogger into the callbacks of the same fit"


def test_a_logger_that_is_not_in_the_same_fit_is_missed_before_the_first_step():
    model, logger = make_model(), GradientNormLogger()
    before = model.get_weights()
    with pytest.raises(ValueError, match=NOT_IN_FIT):
        fit(GradientTable(logger), model=model)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    fit(logger)
    with pytest.raises(ValueError, match=NOT_IN_FIT):
        fit(GradientTable(logger), model=model)


def test_a_logger_of_an_earlier_fit_is_missed_at_once():
    model, logger, seen = make_model(), GradientNormLogger(), []
    shown = GradientTable(logger, console=console(terminal=False))
    fit(logger, shown, model=model)
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    with pytest.raises(ValueError, match=NOT_IN_FIT):
        fit(count, shown, model=model)
    assert seen == []
    fit(shown, logger, model=model)


def test_a_table_that_is_not_in_the_fit_prints_nothing(capsys):
    logger = GradientNormLogger()
    GradientTable(logger)
    fit(logger)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("rows", [3, 0, -1, 5.0, True, None, "all"])
def test_rows_out_of_range(rows):
    with pytest.raises(ValueError, match="rows must be an integer of at least 4, but is"):
        GradientTable(GradientNormLogger(), rows=rows)
