"""The command line: options reach the demo; mistakes are one line and status 2."""

import subprocess
import sys

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_surrogate import cli, datasets, demo, functions, presets, records
from keras_surrogate.layers import SurrogateActivation


def test_options_reach_the_demo(monkeypatch, tmp_path):
    asked = []

    def fake_run(settings):
        asked.append(settings)
        return [demo.Run("", None, None, 0.0, 0.0, None, interrupted=False)]

    monkeypatch.setattr(demo, "run", fake_run)
    options = {
        "data": "mnist",
        "data_dir": "folder",
        "epochs": 3,
        "depth": 4,
        "width": 5,
        "forward": "relu",
        "backward": "softplus",
        "scale": -2.0,
        "learning_rate": 0.5,
        "batch_size": 7,
        "seed": 8,
        "output": str(tmp_path),
    }
    arguments = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), str(value))]
    assert cli.main(["demo", *arguments]) == 0
    assert asked == [demo.Settings(**options)]
    assert cli.main(["demo"]) == 0
    assert asked[1] == demo.Settings()


def test_an_interrupted_demo_has_status_130(monkeypatch):
    monkeypatch.setattr(demo, "run", lambda _: [demo.Run("", None, None, 0.0, 0.0, None, interrupted=True)])
    assert cli.main(["demo"]) == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--backward", "sofplus"], "No function is called 'sofplus'. Did you mean 'softplus'"),
        (["demo", "--epochs", "0"], "epochs must be an integer of at least 1, but is 0"),
        (["demo", "--data", "imagenet"], "No data set is called 'imagenet'"),
        (["demo", "--data", "mnist", "--data-dir", "no/such/folder"], "no/such/folder does not exist"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["train"], ["demo", "--epochs", "many"], ["demo", "--nonsense"]])
def test_what_cannot_be_parsed_is_one_line_and_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_data_that_cannot_be_had_is_one_line_and_status_2(monkeypatch, tmp_path, capsys):
    def unreachable():
        raise OSError("no\nnetwork")

    monkeypatch.setattr(datasets, "DEBIAN_FOLDER", tmp_path)
    monkeypatch.setattr(datasets.keras.datasets.cifar10, "load_data", unreachable)
    assert cli.main(["demo", "--data", "cifar10"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--data-dir" in error


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help_and_version(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    assert capsys.readouterr().out


def test_python_m_is_the_same_command():
    command = [sys.executable, "-m", "keras_surrogate", "demo", "--epochs", "0"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1].startswith("keras-surrogate: error: epochs must be")


def test_list_prints_every_function_and_preset(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in [*functions.names(), *presets.names()]:
        assert name in printed
    assert "negative_slope=0.2" in printed
    assert "arXiv:1511.07289" in printed


@pytest.mark.parametrize("arguments", [["relu", "bsilu"], ["sugar_bsilu"], ["relu", "softplus", "--scale", "-1"]])
def test_plot_writes_a_picture(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", *arguments]) == 0
    (picture,) = tmp_path.iterdir()
    assert picture.name == "-".join(name for name in arguments[:2] if not name.startswith("-")) + ".png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["plot", *arguments, "--output", "other.pdf"]) == 0
    assert (tmp_path / "other.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rleu", "bsilu"], "'rleu'. Did you mean 'relu'"),
        (["relu", "bsilu", "--output", "missing/x.png"], "missing/x.png cannot be written"),
        (["relu", "bsilu", "--output", "x.nonsense"], "nonsense"),
        (["relu", "bsilu", "--scale", "nan"], "scale must be a finite number, but is nan"),
    ],
)
def test_plot_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_predict_prints_verdict_layers_and_advice(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    arguments = ["--forward", "relu", "--backward", "bsilu", "--depth", "50", "--initializer", "he_normal"]
    assert cli.main(["predict", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "explodes: the first layer gets 2.7e+05 times" in printed
    assert "Balanced, with scale=0.775" in printed
    assert "should hurt training under plain SGD and hurt training under Adam" in printed
    assert "50 layers" in printed
    assert "true slope" in printed


def test_predict_takes_a_preset_a_width_weights_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["predict", "--forward", "superspike", "--weight-variance", "2", "--width", "64", "--depth", "5"]
    assert cli.main([*arguments, "--plot", "x.png"]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "5 layers of width 64" in printed
    assert "undefined" in printed
    assert cli.main(["predict", "--forward", "relu", "--depth", "5"]) == 0
    assert "Beside the true slope" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forward", "rleu"], "'rleu'. Did you mean 'relu'"),
        (["--forward", "sugar_bsilu", "--backward", "silu"], "has its backward"),
        (["--forward", "relu", "--depth", "0"], "depth must be an integer of at least 1, but is 0"),
        (["--forward", "relu", "--initializer", "he_norml"], "he_norml"),
        (["--forward", "exponential"], "The signal explodes"),
        (["--forward", "relu", "--plot", "missing/x.png"], "missing/x.png cannot be written"),
    ],
)
def test_predict_mistakes_are_one_line_and_status_2(arguments, message, capsys):
    assert cli.main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def save_model(path, *layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, name="last")])
    model.save(path)
    return model


def test_swap_and_strip_from_file_to_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    layers = keras.layers.Dense(5, activation="relu", name="first"), keras.layers.Dense(5, activation="tanh")
    save_model("in.keras", *layers)
    model = keras.saving.load_model("in.keras")
    pairs = ["--activation", "relu", "--surrogate", "leaky_backward", "--activation", "tanh", "--surrogate", "softsign"]
    assert cli.main(["swap", "in.keras", "swapped.keras", *pairs]) == 0
    printed = capsys.readouterr().out
    assert "first.activation: relu -> relu with the slope of leaky_relu" in printed
    assert "Written to swapped.keras." in printed
    assert keras.saving.load_model("swapped.keras").layers[0].activation == presets.get("leaky_backward")
    assert cli.main(["strip", "swapped.keras", "stripped.keras"]) == 0
    assert "2 activation(s) changed" in capsys.readouterr().out
    stripped = keras.saving.load_model("stripped.keras")
    assert stripped.get_config() == model.get_config()
    np.testing.assert_array_equal(stripped(np.ones((2, 4))), model(np.ones((2, 4))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.keras", "stripped.keras", "swapped.keras"]


def test_an_existing_model_is_overwritten_only_by_force(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    save_model(path, keras.layers.ReLU())
    arguments = ["swap", path, path, "--activation", "relu", "--surrogate", "softplus"]
    before = (tmp_path / "model.keras").read_bytes()
    assert cli.main(arguments) == 2
    assert "exists already; --force" in capsys.readouterr().err
    assert (tmp_path / "model.keras").read_bytes() == before
    assert cli.main([*arguments, "--force"]) == 0
    assert keras.saving.load_model(path).layers[0].surrogate == presets.get("artificial_relu")


def test_code_in_a_model_is_run_only_with_unsafe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model("in.keras", keras.layers.ReLU(), keras.layers.Lambda(lambda x: x + 1))
    arguments = ["swap", "in.keras", "out.keras", "--activation", "relu", "--surrogate", "softplus"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Lambda" in error and "--unsafe" in error
    assert not (tmp_path / "out.keras").exists()
    assert cli.main([*arguments, "--unsafe"]) == 0
    assert "a Lambda layer is not looked into" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["swap", "none.keras", "out.keras", "--activation", "relu", "--surrogate", "elu"], "no file none.keras"),
        (
            ["swap", "bad.keras", "out.keras", "--activation", "relu", "--surrogate", "elu"],
            "bad.keras cannot be",
        ),
        (["swap", "in.keras", "out.h5", "--activation", "relu", "--surrogate", "elu"], "must be a .keras file"),
        (["swap", "in.keras", "no/out.keras", "--activation", "relu", "--surrogate", "elu"], "cannot be written"),
        (["swap", "in.keras", "out.keras", "--activation", "selu", "--surrogate", "elu"], "no activation 'selu'"),
        (["swap", "in.keras", "out.keras", "--activation", "relu", "--surrogate", "rleu"], "Did you mean 'relu'"),
        (["swap", "in.keras", "out.keras", "--activation", "relu", "--surrogate", "elu", "--surrogate", "elu"], "one"),
        (
            ["swap", "in.keras", "out.keras", "--activation", "relu", "--surrogate", "elu", "--layers", "lats"],
            "no layer 'lats'. Did you mean 'last'",
        ),
        (
            ["strip", "spike.keras", "out.keras"],
            "Keras has nothing that computes surrogate_activation (step with the slope",
        ),
    ],
)
def test_swap_and_strip_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model("in.keras", keras.layers.ReLU())
    save_model("spike.keras", SurrogateActivation("superspike", name="surrogate_activation"))
    (tmp_path / "bad.keras").write_bytes(b"not a model")
    files = sorted(tmp_path.iterdir())
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == files


@pytest.fixture
def recorded_run(tmp_path, monkeypatch):
    """A file of a training run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    columns = ("gradient_norm/global", "gradient_norm/first", "gradient_norm/last", "update_ratio/global")
    values = np.random.default_rng(0).random((6, len(columns)))
    record = records.Record(columns, np.arange(6), np.arange(6) // 2, values)
    record.to_npz("run.npz")
    record.to_csv("run.csv")
    return tmp_path


@pytest.mark.parametrize("run", ["run.npz", "run.csv"])
def test_plot_run_writes_a_picture(run, recorded_run, capsys):
    assert cli.main(["plot-run", run]) == 0
    assert "Written to run.png" in capsys.readouterr().out
    assert (recorded_run / "run.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["plot-run", run, "--output", "other.pdf"]) == 0
    assert (recorded_run / "other.pdf").read_bytes().startswith(b"%PDF")


def test_plot_run_draws_a_killed_run_with_a_word_on_it(recorded_run, capsys):
    (recorded_run / "killed.csv").write_bytes((recorded_run / "run.csv").read_bytes()[:-5])
    assert cli.main(["plot-run", "killed.csv"]) == 0
    assert capsys.readouterr().err == (
        "keras-surrogate: warning: killed.csv: the last line is incomplete and was dropped.\n"
    )
    assert (recorded_run / "killed.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.npz"], "missing.npz cannot be read"),
        (["empty.csv"], "empty.csv is no record of a training run"),
        (["started.csv"], "nothing to draw: the record has no steps"),
        (["run.npz", "--output", "missing/run.png"], "missing/run.png cannot be written"),
        (["run.npz", "--output", "run.nonsense"], "nonsense"),
    ],
)
def test_plot_run_mistakes_are_one_line_and_leave_nothing(arguments, message, recorded_run, capsys):
    (recorded_run / "empty.csv").write_text("")
    (recorded_run / "started.csv").write_text("step,epoch,kind,gradient_norm/global,gradient_norm/a\r\n")
    before = sorted(recorded_run.iterdir())
    assert cli.main(["plot-run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(recorded_run.iterdir()) == before


def test_plot_run_that_fails_while_it_writes_leaves_the_picture_before(recorded_run, monkeypatch, capsys):
    def fail(figure, path, **arguments):
        with open(path, "w") as file:
            file.write("half")
        raise ValueError("no more")

    assert cli.main(["plot-run", "run.npz"]) == 0
    before = (recorded_run / "run.png").read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    assert cli.main(["plot-run", "run.npz"]) == 2
    assert (recorded_run / "run.png").read_bytes() == before


def test_diagnose_prints_table_and_findings_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    hidden = [keras.layers.Dense(16, "sigmoid", name=f"hidden_{number}") for number in range(8)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save("model.keras")
    assert cli.main(["diagnose", "model.keras", "--data", "digits", "--batch", "50", "--plot", "x.png"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "one batch of 50" in printed
    assert "cannot learn: From hidden_" in printed
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_diagnose_takes_arrays_from_a_file_with_and_without_targets(tmp_path, capsys):
    path, data = str(tmp_path / "model.keras"), str(tmp_path / "data.npz")
    save_model(path, keras.layers.Dense(8, "relu", kernel_initializer="he_normal"))
    x = np.random.default_rng(0).standard_normal((40, 4))
    np.savez(data, x=x, y=np.arange(40))
    assert cli.main(["diagnose", path, "--data", data]) == 0
    assert "one batch of 40" in capsys.readouterr().out
    model = keras.saving.load_model(path)
    model.compile("sgd", "mse")
    model.save(path)
    assert cli.main(["diagnose", path, "--data", data]) == 2
    assert "the compiled loss cannot be computed from y of shape (40,)" in capsys.readouterr().err
    np.savez(data, x=x)
    assert cli.main(["diagnose", path, "--data", data]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.keras", "--data", "digits"], "no file none.keras"),
        (["bad.keras", "--data", "digits"], "bad.keras cannot be loaded"),
        (["in.keras", "--data", "imagenet"], "No data set is called 'imagenet'"),
        (["in.keras", "--data", "digits"], "cannot be called on x of shape (256, 8, 8)"),
        (["in.keras", "--data", "none.npz"], "none.npz cannot be read"),
        (["in.keras", "--data", "bad.npz"], "bad.npz cannot be read"),
        (["in.keras", "--data", "objects.npz"], "objects.npz cannot be read"),
        (["in.keras", "--data", "z.npz"], "none that is called x"),
        (["in.keras", "--data", "digits", "--batch", "0"], "--batch must be at least 1, but is 0"),
        (["in.keras", "--data", "digits", "--plot", "no/x.png"], "no/x.png cannot be written"),
        (["code.keras", "--data", "digits"], "--unsafe"),
    ],
)
def test_diagnose_mistakes_are_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model("in.keras", keras.layers.ReLU())
    save_model("code.keras", keras.layers.Lambda(lambda x: x + 1))
    (tmp_path / "bad.keras").write_bytes(b"not a model")
    (tmp_path / "bad.npz").write_bytes(b"PK no arrays")
    np.savez("objects.npz", x=np.array([{}], dtype=object))
    np.savez("z.npz", z=np.zeros(3))
    assert cli.main(["diagnose", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture(autouse=True)
def no_figures_left():
    """Matplotlib warns of more than twenty."""
    yield
    plt.close("all")


COMPARE = ["compare", "--depth", "2", "--width", "32", "--epochs", "1", "--images", "64", "--seeds", "2"]
COMPARE += ["--backward", "true", "4*true", "--output", "results.jsonl"]


def test_compare_writes_results_table_and_pictures_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(COMPARE) == 0
    shown = capsys.readouterr()
    assert "4*true" in shown.out and "4 of 4: slope 4*true, seed 1" in shown.err
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"results.jsonl", "results.md", "results-accuracy.png", "results-theory.png"}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 4
    assert cli.main([*COMPARE, "--show"]) == 0
    again = capsys.readouterr()
    assert again.out == shown.out and again.err == ""
    more = [*COMPARE, "--balanced", "no", "yes"]
    assert cli.main([*more, "--show"]) == 0
    assert "4 of 8 trainings are finished" in capsys.readouterr().out


def test_compare_draws_no_empty_picture_where_there_are_no_predictions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*COMPARE, "--bias", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"results.jsonl", "results.md", "results-accuracy.png"}
    assert "theory.png" not in capsys.readouterr().out


def test_options_of_compare_are_the_fields_of_a_case(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cli.comparison.comparison, "run", lambda grid, *_: asked.append(grid) or 1 / 0)
    values = {
        "data": ["mnist", "cifar10"],
        "network": ["vgg", "mlp"],
        "depth": [3, 4],
        "width": [5, 6],
        "forward": ["tanh", "sigmoid"],
        "backward": ["softplus", "leaky_relu:0.3"],
        "balanced": [True, False],
        "initializer": ["critical", "orthogonal"],
        "bias": [-3.0, 1.0],
        "normalization": ["batch", "layer"],
        "residual": [False],
        "optimizer": ["adam:0.1", "rmsprop:0.2"],
        "layer_rate": [2.0, 4.0],
        "annealing": [0.5, 1.0],
        "epochs": [7, 8],
        "batch_size": [16, 64],
        "images": [500, 600],
        "validation": [0.1, 0.2],
    }
    always = ["compare", "--output", str(tmp_path / "results.jsonl"), "--backward", "tanh"]
    for name, chosen in values.items():
        words = [{True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value) for value in chosen]
        with pytest.raises(ZeroDivisionError):
            cli.main([*always, "--" + name.replace("_", "-"), *words])
        assert [getattr(case, name) for case in asked[-1].cases] == chosen


def test_an_interrupted_comparison_prints_what_there_is_and_has_status_130(tmp_path, monkeypatch, capsys):
    from keras_surrogate.comparison import training

    monkeypatch.chdir(tmp_path)
    run, made = training.Trainer.run, []

    def interrupted(self, seed, progress):
        if len(made) == 3:
            progress(1)
            raise KeyboardInterrupt
        made.append(seed)
        return run(self, seed, progress)

    monkeypatch.setattr(training.Trainer, "run", interrupted)
    assert cli.main(COMPARE) == 130
    shown = capsys.readouterr().out
    assert "true" in shown and "3 of 4 trainings are finished; the same command goes on." in shown
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3
    made.clear()
    assert cli.main(COMPARE) == 0
    assert made == [1]


def test_compare_drops_half_a_line_with_one_line_of_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(COMPARE) == 0
    results = tmp_path / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-9])
    capsys.readouterr()
    assert cli.main(COMPARE) == 0
    warning, finished = capsys.readouterr().err.splitlines()
    assert warning.startswith("keras-surrogate: warning: results.jsonl: the last line is half-written and is dropped")
    assert finished.startswith("4 of 4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backward", "sofplus"], "Did you mean 'softplus'"),
        (["--data", "imagenet"], "data must be one of"),
        (["--initializer", "he"], "No initializer is called 'he'"),
        (["--optimizer", "adam"], "has no learning rate"),
        (["--depth", "0"], "depth must be an integer of at least 1, but is 0"),
        (["--seeds", "0"], "The grid is empty"),
        (["--network", "vgg", "--depth", "20"], "has at most depth 7"),
        (["--output", "missing/results.jsonl"], "missing/results.jsonl cannot be written"),
        (["--output", "notes.jsonl"], "notes.jsonl is no file of results"),
        (["--output", "results.md"], "results.md: the output must be a .jsonl file"),
        (["--output", "missing.jsonl", "--show"], "missing.jsonl cannot be read"),
        (["--tune"], "give --validation 0.1"),
        (["--data", "mnist", "--data-dir", "no/such/folder"], "no/such/folder does not exist"),
        (["none.py"], "There is no file none.py"),
        (["bad.py"], "bad.py fails: NameError"),
        (["empty.py"], "empty.py must define grid"),
        (["good.py", "--depth", "3", "--seeds", "2"], "good.py says what the grid is; leave out --depth, --seeds"),
    ],
)
def test_compare_mistakes_are_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.jsonl").write_text("notes\n")
    (tmp_path / "bad.py").write_text("grid = Grid()\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "good.py").write_text("from keras_surrogate.comparison import Grid\ngrid = Grid(epochs=1)\n")
    assert cli.main(["compare", "--output", "results.jsonl", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "notes.jsonl").read_text() == "notes\n"


@pytest.mark.parametrize("arguments", [["--balanced", "maybe"], ["--depth", "two"], ["--depth"], []])
def test_compare_usage_mistakes_are_one_line_and_status_2(arguments, capsys):
    output = ["--output", "results.jsonl"] if arguments else []
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *output, *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
