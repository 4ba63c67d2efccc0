"""The command line: options reach the demo; mistakes are one line and status 2."""

import inspect
import io
import json
import os
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_surrogate import (
    Surrogate,
    cli,
    comparison,
    datasets,
    demo,
    diagnosis,
    functions,
    presets,
    records,
    theory,
)
from keras_surrogate.cli import console
from keras_surrogate.layers import SurrogateActivation

ROOT = Path(__file__).parents[1]


def test_options_reach_the_demo(monkeypatch, tmp_path):
    asked = []

    def fake_run(settings, console):
        asked.append(settings)
        return [demo.TrainedModel("", None, None, 0.0, 0.0, None, interrupted=False)]

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
    arguments = [
        text
        for name, value in options.items()
        for text in ("--" + name.replace("_", "-"), str(value))
    ]
    assert cli.main(["demo", *arguments]) == 0
    assert asked == [demo.Settings(**options)]
    assert cli.main(["demo"]) == 0
    assert asked[1] == demo.Settings()


def test_an_interrupted_demo_has_status_130(monkeypatch):
    monkeypatch.setattr(
        demo,
        "run",
        lambda *_: [demo.TrainedModel("", None, None, 0.0, 0.0, None, interrupted=True)],
    )
    assert cli.main(["demo"]) == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["demo", "--backward", "sofplus"],
            "No function is called 'sofplus'. Did you mean 'softplus'",
        ),
        (["demo", "--epochs", "0"], "epochs must be an integer of at least 1, but is 0"),
        (["demo", "--data", "imagenet"], "The data set must be one of 'digits'"),
        (
            ["demo", "--data", "mnist", "--data-dir", "no/such/folder"],
            "no/such/folder does not exist",
        ),
        (["demo", "--output", "file/x"], "is a file; name another folder"),
        (["demo", "--output", "file"], "is a file; name another folder"),
        (["list", "bsil"], "No function or preset is called 'bsil'. Did you mean 'bsilu'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "train", lambda *_: pytest.fail("trained"))
    (tmp_path / "file").write_text("")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["demo", "--epochs", "many"], ["demo", "--nonsense"]]
)
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


@pytest.fixture(scope="module")
def folder_of_files(tmp_path_factory):
    """A folder with a model, its data and the record of a training run."""
    folder = tmp_path_factory.mktemp("files")
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", x=np.ones((8, 4), "float32"), y=np.ones((8, 1), "float32"))
    record = records.Record(
        ("gradient_norm/global", "gradient_norm/a"), np.arange(3), np.zeros(3, int), np.ones((3, 2))
    )
    record.to_csv(folder / "run.csv")
    return folder


SILENT = [
    "--version",
    "demo --help",
    "list",
    "list bsilu --json",
    "plot sugar_bsilu --output pair.png",
    "predict --forward relu --depth 3",
    "diagnose model.keras --data data.npz",
    "swap model.keras swapped.keras --activation relu --surrogate leaky_backward --force",
    "strip model.keras stripped.keras --force",
    "plot-run run.csv",
    "demo --depth 1 --width 4 --epochs 1 --output demonstrated",
]
LOGGING = {"TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"}


def run_command(arguments, folder, start=("-m", "keras_surrogate"), **environment):
    """The finished process of a command whose standard error is a pipe."""
    kept = {name: value for name, value in os.environ.items() if name not in LOGGING}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *start, *arguments.split()],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**kept, "PYTHONPATH": path, "MPLBACKEND": "agg", **environment},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, marks=[] if number == 5 else pytest.mark.slow)
        for number, arguments in enumerate(SILENT)
    ],
)
def test_standard_error_is_empty(arguments, folder_of_files):
    finished = run_command(arguments, folder_of_files)
    assert finished.stderr == ""
    assert finished.returncode == 0
    assert finished.stdout


@pytest.mark.slow
def test_compare_writes_only_its_progress_to_standard_error(folder_of_files):
    arguments = (
        "compare --depth 1 --width 4 --backward true --epochs 1 --images 100 --seeds 1 "
        "--output compared.jsonl"
    )
    finished = run_command(arguments, folder_of_files)
    assert finished.stderr.startswith("1 of 1: digits, mlp, depth 1, width 4, relu")
    assert finished.stderr.count("\n") == 1
    assert finished.returncode == 0


def test_an_error_is_the_only_line_on_standard_error(folder_of_files):
    finished = run_command("list bsil", folder_of_files)
    assert finished.stderr.startswith("keras-surrogate: error: No function or preset is called")
    assert finished.stderr.count("\n") == 1
    assert finished.returncode == 2


# Stand-ins for Keras, whose import takes seconds and writes through C++ to file descriptor 2.
NOISY = "import os, sys, warnings\nos.write(2, b'from C++\\n')\nwarnings.warn('from Python')\n"
FAILING = NOISY + "raise ImportError('libtensorflow.so is damaged')\n"


# As `multiprocessing` starts the processes of `python -m keras_surrogate compare`.
WORKER = f"import sys; sys.argv[0] = {str(ROOT / 'keras_surrogate' / '__main__.py')!r}; import keras_surrogate"


@pytest.mark.parametrize(
    ("start", "is_command"),
    [
        (["-m", "keras_surrogate"], True),
        (["-mkeras_surrogate"], True),
        (["keras-surrogate"], True),
        (["-c", WORKER], True),
        (["-c", "import keras_surrogate"], False),
        (["other.py"], False),
    ],
)
def test_only_the_command_hides_what_is_written_while_keras_is_imported(
    start, is_command, tmp_path
):
    for name in ("keras-surrogate", "other.py"):
        (tmp_path / name).write_text("from keras_surrogate import cli")
    (tmp_path / "keras.py").write_text(NOISY + "os._exit(3)\n")
    finished = run_command("", tmp_path, start, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert finished.returncode == 3
    assert ("from C++" in finished.stderr) != is_command
    assert "UserWarning: from Python" in finished.stderr


@pytest.mark.parametrize("level", ["0", "3"])
def test_what_was_hidden_is_shown_if_the_import_fails_or_is_asked_for(level, tmp_path):
    (tmp_path / "keras.py").write_text(FAILING)
    finished = run_command(
        "list", tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", TF_CPP_MIN_LOG_LEVEL=level
    )
    assert finished.returncode == 1
    for text in ("from C++", "from Python", "ImportError: libtensorflow.so is damaged"):
        assert finished.stderr.count(text) == (2 if text == "from Python" else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_there_is_a_line_at_once_and_it_is_erased(tmp_path):
    import pty

    (tmp_path / "keras.py").write_text("import sys\nsys.exit(0)\n")
    controller, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "keras_surrogate", "list"],
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    os.close(terminal)
    assert os.read(controller, 1000) == b"keras-surrogate: starting TensorFlow ...\r\x1b[K"
    os.close(controller)


def test_a_status_is_shown_on_a_terminal_only(monkeypatch, capsys):
    with console.status("Reading"):
        pass
    assert capsys.readouterr() == ("", "")
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.status("Reading [model]"):
        pass
    assert "Reading [model]" in screen.getvalue()


def test_list_prints_every_function_and_preset_uncut_into_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in functions.names():
        function = functions.get(name)
        row = next(line for line in printed.splitlines() if f"\u2502 {name} " in line)
        assert function.documented("value") in row and function.documented("Source") in row
    for name in presets.names():
        assert f"\u2502 {name} " in printed
    assert "negative_slope=0.2" in printed
    assert "2 times piecewise_quadratic(alpha=1.0)" in printed


@pytest.mark.parametrize("width", [40, 80])
def test_list_folds_what_is_wider_than_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setattr(console, "_PIPE", width)
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert "\u2026" not in printed
    # The fourth column of the first table, joined again.
    rows = [line.split("\u2502") for line in printed.splitlines() if line.count("\u2502") == 5]
    joined = "".join(cells[4] for cells in rows).replace(" ", "")
    for name in functions.names():
        assert functions.get(name).documented("Source").replace(" ", "") in joined
    assert all(any(name in cells[1] for cells in rows) for name in functions.names())


@pytest.mark.parametrize("name", ["leaky_relu", "sugar_bsilu", "swish_sign"])
def test_list_shows_everything_that_is_documented_of_one(name, capsys):
    assert cli.main(["list", name]) == 0
    printed = capsys.readouterr().out
    if name in functions.names():
        assert f"{name}, a function" in printed
        assert inspect.getdoc(type(functions.get(name))) in printed
    if name in presets.names():
        assert f"{name}, a preset: value of " in printed
        assert inspect.getdoc(getattr(presets, name)) in printed
    assert ("a function" in printed) == (name in functions.names())
    assert "relu6" not in printed


def test_list_as_json(capsys):
    assert cli.main(["list", "--json"]) == 0
    document = strict(capsys.readouterr().out)
    assert [facts["name"] for facts in document["functions"]] == functions.names()
    assert [facts["name"] for facts in document["presets"]] == presets.names()
    assert cli.main(["list", "leaky_relu", "--json"]) == 0
    document = strict(capsys.readouterr().out)
    assert document["presets"] == []
    (facts,) = document["functions"]
    assert facts["parameters"] == {
        "negative_slope": {"default": 0.2, "range": "a number from 0 to 1"}
    }
    assert facts["slope"] == "where(x > 0, 1, negative_slope)" and "Maas et al." in facts["source"]
    assert set(facts) == {"name", "value", "slope", "parameters", "source", "documentation"}
    assert cli.main(["list", "approx_sign", "--json"]) == 0
    (facts,) = strict(capsys.readouterr().out)["presets"]
    assert (
        facts["forward"] == "sign(at_zero=1.0)"
        and facts["scale"] == 2
        and facts["parameters"] == {}
    )


def strict(text):
    """The document that a text is, as other languages read JSON: without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_json_has_words_for_what_is_no_number(capsys):
    console.print_json(
        {"a": np.array([1.0, np.nan]), "b": [np.inf, -np.inf], "c": np.float64(2.0), "d": None}
    )
    assert strict(capsys.readouterr().out) == {
        "a": [1.0, "nan"],
        "b": ["inf", "-inf"],
        "c": 2.0,
        "d": None,
    }


def ascii_terminal(monkeypatch):
    """Puts a standard output in place that takes ASCII only; returns it, with all that is written in its buffer."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    return terminal


def test_ascii_terminals_get_every_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    terminal = ascii_terminal(monkeypatch)
    save_model(
        "m\u00f6del.keras",
        keras.layers.Dense(8, "relu", name="gr\u00fc\u00dfe_an_alle_von_weit_her_und_nah"),
    )
    np.save("x.npy", np.random.default_rng(0).standard_normal((40, 4)))
    assert cli.main(["list"]) == 0
    assert cli.main(["list", "gelu"]) == 0
    assert cli.main(["predict", "--forward", "relu", "--backward", "bsilu", "--depth", "3"]) == 0
    assert (
        cli.main(["diagnose", "m\u00f6del.keras", "--data", "x.npy", "--plot", "\u00e4.png"]) == 0
    )
    assert cli.main([*COMPARE, "--show"]) == 2
    assert cli.main([*COMPARE, "--backward", "true", "--seeds", "1"]) == 0
    records.Record(
        ("gradient_norm/global", "gradient_norm/a"), np.arange(2), np.zeros(2, int), np.ones((2, 2))
    ).to_csv("\u00fc.csv")
    assert cli.main(["plot-run", "\u00fc.csv"]) == 0
    printed = terminal.buffer.getvalue().decode("ascii")
    assert "+---" in printed and "gelu, a function" in printed
    # Of a name that is too long the end is kept, behind a mark for what is missing.
    assert "~le_von_weit_her_und_nah" in printed
    assert "Written to \\xe4.png." in printed and "Written to \\xfc.png." in printed


def test_an_ascii_terminal_is_shown_signs_like_those_it_lacks(monkeypatch):
    terminal = ascii_terminal(monkeypatch)
    console.prepare()
    print("\u2026end \u2501\u2501 \u00e9")
    assert terminal.buffer.getvalue() == b"~end == \\xe9\n"


PICTURES = {
    "plot": ["plot", "relu", "bsilu", "--output"],
    "predict": ["predict", "--forward", "relu", "--plot"],
    "diagnose": ["diagnose", "none.keras", "--data", "digits", "--plot"],
    "plot-run": ["plot-run", "none.npz", "--output"],
}


@pytest.mark.parametrize("command", PICTURES)
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("picture", "picture cannot be written as a picture: it has no suffix. Use one of"),
        ("picture.xyz", "the suffix .xyz is unknown. Use one of"),
        ("file/picture.png", "file/picture.png cannot be written"),
        ("folder.png", "folder.png cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_written_is_said_before_any_work(
    command, output, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.predict.theory, "predict", lambda *_, **__: pytest.fail("worked"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    # What is to be read does not exist either, so that a command that looked there first would say
    # so.
    assert cli.main([*PICTURES[command], output]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1 and shown.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["results.md", "results-accuracy.png", "results-theory.png"])
def test_compare_checks_all_that_it_writes_before_it_trains(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.compare.comparison, "run", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / name).mkdir()
    assert cli.main(COMPARE) == 2
    error = capsys.readouterr().err
    assert f"{name} cannot be written" in error and error.count("\n") == 1


def test_a_full_disk_is_one_line_and_status_2(monkeypatch, tmp_path, capsys):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    assert cli.main(["plot", "relu", "bsilu"]) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1


INTO_A_CLOSED_PIPE = """
import os, sys
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
from keras_surrogate import cli
sys.exit(cli.main(["list", "--json"]))
"""


def test_a_pipe_that_is_read_no_further_is_no_error():
    command = [sys.executable, "-c", INTO_A_CLOSED_PIPE]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 1
    assert "Broken" not in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "arguments", [["relu", "bsilu"], ["sugar_bsilu"], ["relu", "softplus", "--scale", "-1"]]
)
def test_plot_writes_a_picture(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", *arguments]) == 0
    (picture,) = tmp_path.iterdir()
    assert (
        picture.name
        == "-".join(name for name in arguments[:2] if not name.startswith("-")) + ".png"
    )
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
def test_plot_mistakes_are_one_line_and_leave_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_predict_prints_verdict_layers_and_advice(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    arguments = [
        "--forward",
        "relu",
        "--backward",
        "bsilu",
        "--depth",
        "50",
        "--initializer",
        "he_normal",
    ]
    assert cli.main(["predict", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "explodes: the first layer gets 2.7e+05 times" in printed
    assert "Balanced, with scale=0.775" in printed
    assert (
        "should hurt training with plain SGD (learning rate 0.01) and should hurt training with Adam"
        in printed
    )
    assert "50 layers" in printed
    assert "true slope" in printed


def test_predict_takes_a_preset_a_width_weights_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "predict",
        "--forward",
        "superspike",
        "--weight-variance",
        "2",
        "--width",
        "64",
        "--depth",
        "5",
    ]
    assert cli.main([*arguments, "--plot", "x.png"]) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "5 layers of width 64" in printed
    assert "undefined" in printed
    assert cli.main(["predict", "--forward", "relu", "--depth", "5"]) == 0
    assert "Compared to the true slope" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--forward", "rleu"], "'rleu'. Did you mean 'relu'"),
        (["--forward", "sugar_bsilu", "--backward", "silu"], "has its own backward"),
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


def test_predict_draws_norms_and_alignment(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        cli.outputs, "write_picture", lambda draw, *_, **__: drawn.extend(draw(None))
    )
    assert (
        cli.main(
            [
                "predict",
                "--forward",
                "relu",
                "--backward",
                "bsilu",
                "--depth",
                "5",
                "--plot",
                "x.png",
            ]
        )
        == 0
    )
    expected = theory.predict(Surrogate("relu", "bsilu"), 5, "glorot_uniform")
    norms, alignments = (ax.lines[0].get_ydata() for ax in drawn)
    np.testing.assert_allclose(norms, expected.gradient_norm)
    np.testing.assert_allclose(alignments, expected.alignment)


def test_predict_as_json_says_what_the_text_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "predict",
        "--forward",
        "relu",
        "--backward",
        "bsilu",
        "--depth",
        "50",
        "--initializer",
        "he_normal",
    ]
    assert cli.main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert cli.main([*arguments, "--json", "--plot", "x.png"]) == 0
    document = strict(capsys.readouterr().out)
    assert (tmp_path / "x.png").exists()
    for words in ("verdict", "advice"):
        assert document[words] in printed
    balanced = document["balanced"]
    assert f"Balanced, with scale={balanced['scale']:.3g}: {balanced['verdict']}" in printed
    assert document["effect"] == {"sgd": "hurts", "adam": "hurts"}
    assert {name: len(values) for name, values in document["layers"].items()} == {
        "signal_variance": 50,
        "gradient_norm": 50,
        "alignment": 50,
        "correlation": 50,
    }
    assert f"{document['gradient_ratio']:.2g} times" in printed
    for item in document["ranking"]:
        assert item["name"] in printed and item["reason"] in printed
    assert len(document["ranking"]) == 5


def test_predict_as_json_where_there_is_nothing_to_say(capsys):
    assert (
        cli.main(
            ["predict", "--forward", "relu", "--initializer", "he_normal", "--depth", "3", "--json"]
        )
        == 0
    )
    document = strict(capsys.readouterr().out)
    assert document["effect"] is None and document["balanced"] is None and document["width"] is None
    assert cli.main(["predict", "--forward", "step", "--depth", "3", "--json"]) == 0
    document = strict(capsys.readouterr().out)
    assert document["layers"]["alignment"] is None or document["gradient_ratio"] == 0
    assert document["balanced"]["scale"] is None and document["balanced"]["verdict"]


def save_model(path, *layers):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, name="last")])
    model.save(path)
    return model


def test_swap_and_strip_from_file_to_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    layers = (
        keras.layers.Dense(5, activation="relu", name="first"),
        keras.layers.Dense(5, activation="tanh"),
    )
    save_model("in.keras", *layers)
    model = keras.saving.load_model("in.keras")
    pairs = [
        "--activation",
        "relu",
        "--surrogate",
        "leaky_backward",
        "--activation",
        "tanh",
        "--surrogate",
        "softsign",
    ]
    assert cli.main(["swap", "in.keras", "swapped.keras", *pairs]) == 0
    printed = capsys.readouterr().out
    assert "first.activation: relu -> relu with the slope of leaky_relu" in printed
    assert "Written to swapped.keras." in printed
    assert keras.saving.load_model("swapped.keras").layers[0].activation == presets.get(
        "leaky_backward"
    )
    assert cli.main(["strip", "swapped.keras", "stripped.keras"]) == 0
    assert "2 activation(s) changed" in capsys.readouterr().out
    stripped = keras.saving.load_model("stripped.keras")
    assert stripped.get_config() == model.get_config()
    np.testing.assert_array_equal(stripped(np.ones((2, 4))), model(np.ones((2, 4))))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.keras",
        "stripped.keras",
        "swapped.keras",
    ]


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
    assert "a Lambda layer is not searched" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["swap", "none.keras", "out.keras", "--activation", "relu", "--surrogate", "elu"],
            "no file none.keras",
        ),
        (
            ["swap", "bad.keras", "out.keras", "--activation", "relu", "--surrogate", "elu"],
            "bad.keras is not a .keras file: it is text",
        ),
        (
            ["swap", "in.keras", "out.h5", "--activation", "relu", "--surrogate", "elu"],
            "must be a .keras file",
        ),
        (
            ["swap", "in.keras", "no/out.keras", "--activation", "relu", "--surrogate", "elu"],
            "cannot be written",
        ),
        (
            ["swap", "in.keras", "out.keras", "--activation", "selu", "--surrogate", "elu"],
            "no activation 'selu'",
        ),
        (
            ["swap", "in.keras", "out.keras", "--activation", "relu", "--surrogate", "rleu"],
            "Did you mean 'relu'",
        ),
        (
            [
                "swap",
                "in.keras",
                "out.keras",
                "--activation",
                "relu",
                "--surrogate",
                "elu",
                "--surrogate",
                "elu",
            ],
            "one",
        ),
        (
            [
                "swap",
                "in.keras",
                "out.keras",
                "--activation",
                "relu",
                "--surrogate",
                "elu",
                "--layers",
                "lats",
            ],
            "no layer 'lats'. Did you mean 'last'",
        ),
        (
            ["strip", "spike.keras", "out.keras"],
            "Keras has nothing that computes surrogate_activation (step with the slope",
        ),
    ],
)
def test_swap_and_strip_mistakes_are_one_line_and_leave_nothing(
    arguments, message, tmp_path, monkeypatch, capsys
):
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
    columns = (
        "gradient_norm/global",
        "gradient_norm/first",
        "gradient_norm/last",
        "update_ratio/global",
    )
    values = np.random.default_rng(0).random((6, len(columns)))
    record = records.Record(columns, np.arange(6), np.arange(6) // 2, values)
    record.to_npz("run.npz")
    record.to_csv("run.csv")
    return tmp_path


@pytest.mark.parametrize("run", ["run.npz", pytest.param("run.csv", marks=pytest.mark.slow)])
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
    (recorded_run / "started.csv").write_text(
        "step,epoch,kind,gradient_norm/global,gradient_norm/a\r\n"
    )
    before = sorted(recorded_run.iterdir())
    assert cli.main(["plot-run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(recorded_run.iterdir()) == before


def test_plot_run_that_fails_while_it_writes_leaves_the_picture_before(
    recorded_run, monkeypatch, capsys
):
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
    assert (
        cli.main(
            ["diagnose", "model.keras", "--data", "digits", "--batch", "50", "--plot", "x.png"]
        )
        == 0
    )
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
        (["bad.keras", "--data", "digits"], "bad.keras is not a .keras file: it is text"),
        (["in.keras", "--data", "imagenet"], "The data set must be one of 'digits'"),
        (["in.keras", "--data", "digits"], "cannot be called on x of shape (256, 8, 8)"),
        (["in.keras", "--data", "none.npz"], "none.npz cannot be read"),
        (["in.keras", "--data", "bad.npz"], "bad.npz cannot be read"),
        (["in.keras", "--data", "objects.npz"], "objects.npz cannot be read"),
        (["in.keras", "--data", "z.npz"], "none that is called x"),
        (
            ["in.keras", "--data", "digits", "--batch", "0"],
            "--batch must be an integer of at least 1, but is 0",
        ),
        (["in.keras", "--data", "digits", "--plot", "no/x.png"], "no/x.png cannot be written"),
        (["code.keras", "--data", "digits"], "--unsafe"),
    ],
)
def test_diagnose_mistakes_are_one_line_and_status_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
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


def test_diagnose_as_json_is_the_dictionary_of_the_diagnosis(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model("in.keras", keras.layers.Dense(8, "relu"))
    x = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
    np.save("x.npy", x)
    assert cli.main(["diagnose", "in.keras", "--data", "x.npy", "--json", "--plot", "x.png"]) == 0
    document = strict(capsys.readouterr().out)
    assert (tmp_path / "x.png").exists()
    assert document == diagnosis.diagnose(keras.saving.load_model("in.keras"), x).to_dict()


@pytest.fixture
def diagnosed(monkeypatch):
    """What `diagnose` was called with: the inputs and the targets."""
    called = []

    def fake(model, x, y, depth):
        called[:] = [x, y]
        return diagnosis.Diagnosis("model", types.SimpleNamespace(size=len(x)), (), ())

    monkeypatch.setattr(diagnosis, "diagnose", fake)
    return called


def compiled(path, *layers):
    model = save_model(path, *layers)
    model.compile("sgd", "mse")
    model.save(path)


NUMBERS = np.arange(15.0).reshape(3, 5)


@pytest.mark.parametrize(
    "header",
    ["", "0,1,2,3,4\n", "a,b,c,d,label\n", '"a", "b" ,c,d,"label"\r\n', "\ufeffa,b,c,d,label\n"],
)
@pytest.mark.parametrize(
    ("targets", "place"),
    [(None, 4), ("5", 4), ("1", 0), ("label", 4), ("a", 0), ("none", None), ("y.npy", None)],
)
def test_diagnose_takes_columns_of_a_csv(header, targets, place, tmp_path, monkeypatch, diagnosed):
    if "label" not in header and targets in ("a", "label"):
        return
    if header.startswith("0") and targets == "1":
        # The name of the second column.
        place = 1
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([keras.Input((5 if place is None else 4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.save("in.keras")
    np.save("y.npy", [7.0, 8.0, 9.0])
    lines = [", ".join(map(str, row)) for row in NUMBERS]
    (tmp_path / "data.csv").write_text(header + "\n\n".join(lines) + "\n", encoding="utf-8")
    assert (
        cli.main(
            [
                "diagnose",
                "in.keras",
                "--data",
                "data.csv",
                *(["--targets", targets] if targets else []),
            ]
        )
        == 0
    )
    x, y = diagnosed
    np.testing.assert_array_equal(
        x, NUMBERS if place is None else np.delete(NUMBERS, place, axis=1)
    )
    if targets == "none":
        assert y is None
    else:
        np.testing.assert_array_equal(y, [7, 8, 9] if place is None else NUMBERS[:, place])
    assert cli.main(["diagnose", "in.keras", "--data", "data.csv", "--batch", "2"]) == 0
    assert len(diagnosed[0]) == len(diagnosed[1]) == 2


def test_rows_of_a_csv_get_the_shape_that_the_model_takes(tmp_path, monkeypatch, diagnosed):
    monkeypatch.chdir(tmp_path)
    keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(1)]).save(
        "in.keras"
    )
    np.savetxt("data.csv", NUMBERS, delimiter=",")
    assert cli.main(["diagnose", "in.keras", "--data", "data.csv"]) == 0
    np.testing.assert_array_equal(diagnosed[0], NUMBERS[:, :4].reshape(3, 2, 2))


def test_diagnose_takes_an_npy_with_targets_beside_it_or_without(tmp_path, monkeypatch, diagnosed):
    monkeypatch.chdir(tmp_path)
    compiled("in.keras", keras.layers.ReLU())
    np.save("x.npy", NUMBERS[:, :4])
    np.save("y.npy", NUMBERS[:, 4])
    np.savez("both.npz", x=NUMBERS[:, :4], y=np.zeros(3))
    assert (
        cli.main(["diagnose", "in.keras", "--data", "x.npy", "--targets", "y.npy", "--batch", "2"])
        == 0
    )
    np.testing.assert_array_equal(diagnosed[0], NUMBERS[:2, :4])
    np.testing.assert_array_equal(diagnosed[1], NUMBERS[:2, 4])
    assert cli.main(["diagnose", "in.keras", "--data", "x.npy"]) == 0
    assert diagnosed[1] is None
    assert cli.main(["diagnose", "in.keras", "--data", "both.npz", "--targets", "y.npy"]) == 0
    np.testing.assert_array_equal(diagnosed[1], NUMBERS[:, 4])
    assert cli.main(["diagnose", "in.keras", "--data", "both.npz", "--targets", "none"]) == 0
    assert diagnosed[1] is None


@pytest.mark.parametrize("as_dictionary", [False, True])
@pytest.mark.parametrize("names", [("x_0", "x_1"), ("left", "right")])
def test_diagnose_takes_several_inputs_by_number_or_by_name(
    as_dictionary, names, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    inputs = {"left": left, "right": right} if as_dictionary else [left, right]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()([left, right])))
    model.compile("sgd", "mse")
    model.save("two.keras")
    shapes = {names[0]: (40, 3), names[1]: (40, 2), "y": (40, 1)}
    np.savez(
        "data.npz",
        **{name: np.random.default_rng(0).random(shape) for name, shape in shapes.items()},
    )
    assert cli.main(["diagnose", "two.keras", "--data", "data.npz", "--batch", "30"]) == 0
    shown = capsys.readouterr()
    assert "one batch of 30" in shown.out and shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["letter.csv"], "letter.csv, line 4, column 2 (b): 'x' is not a number"),
        (["unnamed.csv"], "unnamed.csv, line 2, column 1: '' is not a number"),
        (["ragged.csv"], "ragged.csv, line 2, has 2 columns, but the first line of numbers has 3"),
        (["empty.csv"], "empty.csv holds no line of numbers"),
        (["header.csv"], "header.csv holds no line of numbers"),
        (
            ["short.csv", "--targets", "a"],
            "short.csv: the header has 1 columns, but the first line of numbers has 2",
        ),
        (["single.csv"], "single.csv has one column only"),
        (["none.csv"], "none.csv cannot be read as a .csv file"),
        (["binary.csv"], "binary.csv cannot be read as a .csv file"),
        (
            ["letter.csv", "--targets", "d"],
            "--targets d: letter.csv has no such column. It has 3; their names are a, b, c",
        ),
        (
            ["ragged.csv", "--targets", "4"],
            "--targets 4: ragged.csv has no such column. It has 3 without names",
        ),
        (
            ["ragged.csv", "--batch", "1", "--targets", "none.npy"],
            "none.npy cannot be read as an .npy file of one array",
        ),
        (["none.npy"], "none.npy cannot be read as an .npy file of one array of numbers"),
        (["letters.npy"], "letters.npy holds no numbers, but <U1"),
        (
            ["archive.npy"],
            "archive.npy cannot be read as an .npy file of one array of numbers: it holds something else",
        ),
        (
            ["array.npz"],
            "array.npz cannot be read as an .npz file of numbers: it holds something else",
        ),
        (["x.npy", "--targets", "3"], "--targets 3: only a .csv has columns"),
        (["digits", "--targets", "none"], "--targets goes with a file"),
        (["labels.npz"], "labels.npz holds no numbers, but <U1"),
        (["x_1.npz"], "but none that is called x"),
    ],
)
def test_data_that_is_none_is_one_line_and_status_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_model("in.keras", keras.layers.ReLU())
    texts = {
        "letter": "a,b,c\n\n1,2,3\n4,x,6\n",
        "unnamed": "1,2,3\n,2,3\n",
        "ragged": "1,2,3\n1,2\n",
        "empty": "",
        "header": "a,b\n",
        "short": "a\n1,2\n",
        "single": "1\n2\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    np.save("x.npy", NUMBERS)
    np.save("letters.npy", np.array(["a", "b"]))
    np.savez("labels.npz", x=NUMBERS, y=np.array(["a", "b", "c"]))
    np.savez("x_1.npz", x_1=NUMBERS)
    (tmp_path / "x_1.npz").rename(tmp_path / "archive.npy")
    np.savez("x_1.npz", x_1=NUMBERS)
    (tmp_path / "array.npz").write_bytes((tmp_path / "x.npy").read_bytes())
    assert cli.main(["diagnose", "in.keras", "--data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


class Unregistered(keras.layers.Layer):
    # Keras 3.8 imports the module by itself where it is found.
    __module__ = "a_module_of_mine"

    def call(self, x):
        return x


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def damage(folder):
    """Files that are no models, or damaged or foreign ones, in a folder."""
    save_model(folder / "whole.keras", keras.layers.ReLU())
    whole = (folder / "whole.keras").read_bytes()
    (folder / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.zip").write_bytes(whole)
    (folder / "empty.keras").write_bytes(b"")
    (folder / "text.keras").write_text("gr\u00fcn" * 1000, encoding="utf-8")
    (folder / "noise.keras").write_bytes(bytes(range(256)))
    (folder / "picture.keras").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "lite.keras").write_bytes(b"\x1c\0\0\0TFL3")
    with zipfile.ZipFile(folder / "torch.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with zipfile.ZipFile(folder / "weightless.keras", "w") as archive:
        archive.writestr("config.json", zipfile.ZipFile(folder / "whole.keras").read("config.json"))
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"")
    save_model(folder / "own.keras", Unregistered())
    save_model(folder / "code.keras", keras.layers.Lambda(lambda x: x + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = save_model(folder / "old.h5", keras.layers.ReLU())
        save_model(folder / "own.h5", Unregistered())
        model.save_weights(folder / "only.weights.h5")
        model.compile("sgd", "mse")
        model.save(folder / "mse.h5")
    (folder / "hdf5.keras").write_bytes((folder / "old.h5").read_bytes())


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    damage(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.keras", "There is no file none.keras."),
        (
            "cut.keras",
            "cut.keras is not a .keras file: it is a zip archive that is cut off or damaged.",
        ),
        ("whole.zip", "whole.zip must have the suffix .keras to be loaded: rename it."),
        ("empty.keras", "empty.keras is not a .keras file: it is empty."),
        ("text.keras", "it is text."),
        ("noise.keras", "it is something else."),
        ("picture.keras", "it is a PNG picture."),
        ("lite.keras", "it is a LiteRT model."),
        (
            "torch.pt",
            "is an archive without config.json, so it is not a model saved by Keras; it holds: archive/data.pkl.",
        ),
        ("weightless.keras", "weightless.keras cannot be loaded: "),
        ("saved", "saved is a SavedModel, which is for serving: name the .keras file"),
        (".", ". is a folder: name the .keras file"),
        (
            "own.keras",
            "Name the module that defines it, --import MODULE",
        ),
        ("own.h5", "it has a layer 'Unregistered' that Keras does not know"),
        (
            "hdf5.keras",
            "it is an HDF5 file, the format of earlier versions of Keras. Rename it to .h5; keras.saving.load_model(",
        ),
        ("only.weights.h5", "it holds only weights"),
        (
            "code.keras",
            "it holds Python code, for example in a Lambda layer. If it comes from people you trust, --unsafe",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_and_status_2(
    name, message, damaged, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(damaged)
    for arguments in (
        ["diagnose", name, "--data", "digits"],
        ["strip", name, str(tmp_path / "out.keras")],
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert ("--unsafe" in error) == (name == "code.keras")


def test_a_legacy_file_is_loaded_if_keras_can(damaged, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(damaged)
    assert cli.main(["strip", "old.h5", str(tmp_path / "new.keras")]) == 0
    keras.saving.load_model(tmp_path / "new.keras")
    status = cli.main(["strip", "mse.h5", str(tmp_path / "other.keras")])
    error = capsys.readouterr().err
    if status:
        assert (
            "In Python try keras.saving.load_model('mse.h5', compile=False).save('model.keras')."
            in error
        )


def test_a_module_is_imported_for_its_layers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layers_of_mine.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable('layers_of_mine')\n"
        "class Mine(keras.layers.Layer):\n    def call(self, x):\n        return x\n"
    )
    before = list(sys.path)
    script = "import keras, layers_of_mine as m; keras.Sequential([keras.Input((4,)), m.Mine(), keras.layers.Dense(3)])"
    command = [sys.executable, "-c", f"{script}.save('mine.keras')"]
    subprocess.run(command, check=True, capture_output=True)
    arguments = ["strip", "mine.keras", "out.keras"]
    assert cli.main(arguments) == 2
    assert "'Mine' that Keras does not know" in capsys.readouterr().err
    assert cli.main([*arguments, "--import", "layers_of_mine"]) == 0
    assert cli.main(["strip", "mine.keras", "third.keras", "--import", "no_such_module"]) == 2
    assert (
        "--import no_such_module fails: ModuleNotFoundError"
        in capsys.readouterr().err.splitlines()[-1]
    )
    assert sys.path == before


def test_a_model_that_was_compiled_but_never_trained_is_loaded_without_a_word(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.save("in.keras")
    np.save("x.npy", NUMBERS[:, :4])
    assert cli.main(["diagnose", "in.keras", "--data", "x.npy"]) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture(autouse=True)
def no_figures_left():
    """Matplotlib warns of more than twenty."""
    yield
    plt.close("all")


COMPARE = [
    "compare",
    "--depth",
    "2",
    "--width",
    "32",
    "--epochs",
    "1",
    "--images",
    "64",
    "--seeds",
    "2",
]
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


def test_compare_draws_no_empty_picture_where_there_are_no_predictions(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*COMPARE, "--bias", "1", "--seeds", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.jsonl",
        "results.md",
        "results-accuracy.png",
    }
    assert "theory.png" not in capsys.readouterr().out


def test_options_of_compare_are_the_fields_of_a_case(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        cli.compare.comparison, "run", lambda grid, *_, **__: asked.append(grid) or 1 / 0
    )
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
        words = [
            {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            for value in chosen
        ]
        with pytest.raises(ZeroDivisionError):
            cli.main([*always, "--" + name.replace("_", "-"), *words])
        assert [getattr(case, name) for case in asked[-1].cases] == chosen


def test_an_interrupted_comparison_prints_what_there_is_and_has_status_130(
    tmp_path, monkeypatch, capsys
):
    from keras_surrogate.comparison import trainer

    monkeypatch.chdir(tmp_path)
    run, made = trainer.Trainer.run, []

    def interrupted(self, seed, progress):
        if len(made) == 3:
            progress(1)
            raise KeyboardInterrupt
        made.append(seed)
        return run(self, seed, progress)

    monkeypatch.setattr(trainer.Trainer, "run", interrupted)
    assert cli.main(COMPARE) == 130
    shown = capsys.readouterr().out
    assert "true" in shown and "3 of 4 trainings are finished; the same command continues." in shown
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3
    made.clear()
    assert cli.main(COMPARE) == 0
    assert made == [1]


def test_failed_trainings_of_worker_processes_are_one_line_and_status_1(
    tmp_path, monkeypatch, capsys
):
    from keras_surrogate.comparison import running

    def elsewhere(missing, settings, display, processes, executor, seeds_per_task):
        assert (len(missing), processes, executor) == (4, 3, None)
        case, seed = missing[0]
        yield case, seed, comparison.Trainer(case, datasets.load("digits")).run(seed)
        for case, seed in missing[1:]:
            yield case, seed, "its process was killed by signal 9"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "_elsewhere", elsewhere)
    assert cli.main([*COMPARE, "--processes", "3"]) == 1
    shown = capsys.readouterr()
    *_, warning = shown.err.splitlines()
    assert warning.startswith("keras-surrogate: warning: Failed trainings, which are not in the")
    assert "slope 4*true, seed 1 (its process was killed by signal 9)." in warning
    assert "1 of 4 trainings are finished; the same command continues." in shown.out


def test_compare_drops_half_a_line_with_one_line_of_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*COMPARE, "--seeds", "1"]) == 0
    results = tmp_path / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-9])
    capsys.readouterr()
    assert cli.main([*COMPARE, "--seeds", "1"]) == 0
    warning, finished = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        "keras-surrogate: warning: results.jsonl: the last line is incomplete and is dropped"
    )
    assert finished.startswith("2 of 2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backward", "sofplus"], "Did you mean 'softplus'"),
        (["--data", "imagenet"], "data must be one of"),
        (["--initializer", "he"], "No initializer is called 'he'"),
        (["--optimizer", "adam"], "has no learning rate"),
        (["--depth", "0"], "depth must be an integer of at least 1, but is 0"),
        (["--seeds", "0"], "The grid is empty"),
        (["--processes", "0"], "processes must be an integer of at least 1, but is 0"),
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
        (
            ["good.py", "--depth", "3", "--seeds", "2"],
            "good.py defines the grid; leave out --depth, --seeds",
        ),
    ],
)
def test_compare_mistakes_are_one_line_and_status_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.jsonl").write_text("notes\n")
    (tmp_path / "bad.py").write_text("grid = Grid()\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "good.py").write_text(
        "from keras_surrogate.comparison import Grid\ngrid = Grid(epochs=1)\n"
    )
    assert cli.main(["compare", "--output", "results.jsonl", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "notes.jsonl").read_text() == "notes\n"


@pytest.mark.parametrize(
    "arguments",
    [["--balanced", "maybe"], ["--depth", "two"], ["--depth"], ["--processes", "two"], []],
)
def test_compare_usage_mistakes_are_one_line_and_status_2(arguments, capsys):
    output = ["--output", "results.jsonl"] if arguments else []
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *output, *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
