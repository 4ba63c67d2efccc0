"""The command line: options reach the demo; mistakes are one line and status 2."""

import subprocess
import sys

import pytest

from keras_surrogate import cli, datasets, demo, functions, presets


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
