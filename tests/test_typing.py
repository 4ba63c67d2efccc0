"""What editors and type checkers know of the package: pyright and mypy on small files of calls."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_surrogate as ks

ROOT = Path(__file__).parents[1]

RIGHT = """
import keras
import numpy as np
import keras_surrogate as ks

model = keras.Sequential()
x = np.zeros((4, 3))
y = np.zeros(4)
logger = ks.callbacks.GradientNormLogger(every=2, also="activations")

ks.Surrogate("relu", "softplus")
ks.Surrogate(ks.functions.Relu(), lambda x: x, scale=2.0, residual="uint8")
ks.get("sugar_bsilu")
ks.get("leaky_backward", negative_slope=0.3)
ks.get("relu").scaled(2).true().title.upper()
ks.presets.flat_spot(constant=0.2).get_config()["forward"]
ks.layers.SurrogateActivation("relu", "softplus")
ks.layers.SurrogateActivation("sugar_bsilu", name="first")
ks.layers.SurrogatePReLU(shared_axes=[1, 2])
ks.layers.SurrogateStep(0.5, "superspike", learn_threshold=False)
ks.layers.LIF(0.8, reset="zero", learn_leak="channel", surrogate="atan_spike", name="first")
ks.layers.Spiking(ks.layers.neurons.ALIFNeuron(adaptation=2.0), learn={"leak": "unit"})
ks.layers.OverTime(keras.layers.Dense(3))
ks.layers.SurrogateWeights(keras.layers.Dense(2), "ste_sign", scale="mean_abs", name="first")
ks.layers.SurrogateWeights(keras.layers.Dense(2), "ste_sign", weights=["kernel"]).levels
ks.constraints.WeightClip(limit=0.5)
ks.optimizers.Bop(1e-6, gamma=1e-3, rest="sgd")
ks.optimizers.LayerRates("adam", {"first": 0.5, 0: 2}).rates
ks.optimizers.LayerRates(keras.optimizers.SGD(0.1), 0.9).factor(model.weights[0]).is_integer()
ks.initializers.RandomizedAsymmetric(1, fan_in=4)
ks.callbacks.RecycleUnits(x, every=10, layers="first").refused.items()
ks.callbacks.Calibration(x, y, every=10)
ks.diagnosis.calibration_report(ks.diagnosis.calibrate(model, x, y)).spread_after.is_integer()
ks.plots.unit_scores(logger)
ks.conversion.weight_report(model).bits_per_weight.is_integer()
ks.conversion.quantize(model, bits=4, ends=None, layers={"first": 8}).summary()
ks.conversion.export_litert(model, "model.tflite")
ks.initializers.CriticalNormal("tanh", bias_variance=0.05)
ks.functions.LeakyRelu(0.1)
ks.functions.LeakyRelu(negative_slope=0.1).negative_slope.is_integer()
ks.functions.LeakyRelu()
ks.functions.get("elu", alpha=2.0).get_config()
ks.callbacks.GradientAlerts(logger)
ks.plots.gradient_flow(logger)
ks.conversion.swap(model, {"relu": "leaky_backward"})
ks.theory.predict("relu", 20, "he_normal")
ks.diagnosis.diagnose(model, x, y)
ks.testing.check_function(ks.functions.Relu())
with ks.true_gradients(model), ks.smooth_forward(model):
    pass


class Mine(ks.functions.Function):
    width: float = ks.functions.positive(default=2.0)

    def value(self, x):
        return self.width * x


Mine()
Mine(3.0)
Mine(width=3.0)
"""

WRONG = [
    "ks.functions.LeakyReluu",
    "ks.functions.Function.no_method",
    "ks.plots.nothing",
    "ks.layers.Nothing",
    'ks.layers.LIF(reset="subtrct")',
    'ks.layers.LIF(learn_leak="all")',
    "ks.presets.nothing",
    "ks.no_room",
    "ks.importlib",
    'ks.Surrogate("relu", sclae=2.0)',
    'ks.Surrogate("relu", scale="two")',
    'ks.Surrogate("relu", residual="int4")',
    "ks.Surrogate(3)",
    'ks.Surrogate("relu").titel',
    "ks.functions.LeakyRelu(slope=1.0)",
    'ks.functions.LeakyRelu("0.1")',
    "ks.presets.flat_spot(constnt=1.0)",
    "ks.get(3)",
    'ks.layers.SurrogateActivation("relu", 3)',
    'ks.layers.SurrogateWeights(ks.layers.RReLU(), "ste_sign", scale="mean")',
    'ks.optimizers.Bop("1e-6")',
    'ks.optimizers.LayerRates("adam", ["first"])',
    "ks.callbacks.Calibration([1.0], evry=2)",
    'ks.callbacks.GradientNormLogger(every="two")',
    "ks.callbacks.GradientNormLogger(evry=2)",
    "ks.testing.check_functoin",
]


# Errors in the README, the pages and the examples that the sources of other packages cause.
FOREIGN = re.compile(
    # Keras: a parameter without annotation whose default is a string or a number.
    r"(verbose|kernel_initializer|bias_initializer|initializer)\" of type \"str\""
    r"|\"learning_rate\" of type \"float\""
    # Keras: results that may be None or of any class.
    r"|known attribute of \"None\"|for class \"object\"|not supported for \"None\""
    r"|OpenVINO|No overloads for \"gradient\"|\"None\" is not subscriptable"
    # TensorFlow: signatures of a loaded SavedModel, and the type of gradients.
    r"|\"serve\" for class \"Module\"|list\[Gradients\]"
    # NumPy and typeshed: np.savez(**arrays), sys.modules[name] = None, main(*sys.argv[1:]).
    r"|\"allow_pickle\"|\"ModuleType\" in function|\"epochs\" of type \"int\" in function \"main\""
)


def errors_of_pyright(folder):
    """A dictionary from a file's name to its errors, pairs of a line's number and a message."""
    files = [*folder.glob("*.py"), *(ROOT / "examples").glob("*.py")]
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable]
    finished = run(command + ["--project", str(ROOT)] + [str(path) for path in files])
    found = {}
    for diagnostic in json.loads(finished)["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            error = diagnostic["range"]["start"]["line"] + 1, diagnostic["message"]
            found.setdefault(Path(diagnostic["file"]).name, []).append(error)
    return found


def errors_of_mypy(folder):
    """The same by mypy, for the calls only."""
    files = [str(folder / "right.py"), str(folder / "wrong.py")]
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(folder / "cache")]
    # The package is read for its types; its own errors are not reported.
    finished = run(["mypy", *options, "--follow-imports", "silent", *files])
    found = {}
    for path, line, message in re.findall(r"^(.*?):(\d+): error: (.*)$", finished, re.MULTILINE):
        found.setdefault(Path(path).name, []).append((int(line), message))
    return found


def run(command):
    environment = {**os.environ, "MYPYPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    finished = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    # 1 means that there are errors in the files; wrong.py always has some.
    assert finished.returncode == 1, finished.stdout + finished.stderr
    return finished.stdout


CHECKERS = {"pyright": errors_of_pyright, "mypy": errors_of_mypy}


# pyright, which reads the README, the pages and the examples too, takes twice as long as mypy.
@pytest.fixture(scope="module", params=["mypy", pytest.param("pyright", marks=pytest.mark.slow)])
def errors(request, tmp_path_factory):
    """The errors that one checker finds in all files, in one run."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text("\n".join(["import keras_surrogate as ks", *WRONG]))
    for name, code in programs().items():
        (folder / f"{name}.py").write_text(code)
    return CHECKERS[request.param](folder)


def programs():
    """The code of the README and of each page of docs/, by the page's name.

    A block may use what the blocks above it on the page have made.
    """
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    code = {
        page.stem: "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
        for page in pages
    }
    assert len(code) == len(pages)
    return code


def test_right_calls_have_no_error(errors):
    lines = RIGHT.split("\n")
    assert not [(lines[line - 1], message) for line, message in errors.get("right.py", [])]


def test_every_wrong_line_is_an_error(errors):
    found = {line for line, _ in errors["wrong.py"]}
    assert not [call for line, call in enumerate(WRONG, start=2) if line not in found]


def test_the_readme_the_pages_and_the_examples_have_no_error_of_ours(errors):
    ours = [
        (name, line, message)
        for name, found in errors.items()
        for line, message in found
        if name not in ("right.py", "wrong.py") and not FOREIGN.search(message)
    ]
    assert not ours


def test_completion_shows_the_public_names_only():
    assert dir(ks) == sorted(ks.__all__)
    assert dir(ks.functions) == sorted(ks.functions.__all__)
    assert not [name for name in dir(ks.functions) if name.startswith("_")]
    for hidden in ("importlib", "keras", "recording", "surrogate", "checks"):
        assert hidden not in dir(ks)


def test_every_function_of_the_collection_is_a_public_name():
    """A class that its file's `__all__` lacks would be unknown to type checkers."""
    own = {
        cls.__name__
        for cls in map(type, map(ks.functions.get, ks.functions.names()))
        if cls.__module__.startswith("keras_surrogate.")
    }
    assert own <= set(ks.functions.__all__)


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "keras_surrogate" / "py.typed").exists()
    assert "keras_surrogate = py.typed" in (ROOT / "setup.cfg").read_text()
