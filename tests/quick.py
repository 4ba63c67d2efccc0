"""Shortcuts of the default tier: the same checks in less time. `pytest --all` takes none of them.

An optimizer's variables exist before `fit` traces its step. Keras creates them in the trace, and
then has to trace the step a second time.

A fresh interpreter is the copy of a prepared one, which has imported TensorFlow and Keras and
nothing of this package, and has not computed anything. The import takes seconds, a copy none.
"""

import atexit
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import pytest

# False while a test takes no shortcut.
_taken = True


def building_optimizer(fit):
    """Wrap `keras.Model.fit`."""

    @functools.wraps(fit)
    def fit_after_building(model, *args, **kwargs):
        if _taken and _is_ready(model) and not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        return fit(model, *args, **kwargs)

    return fit_after_building


def _is_ready(model):
    """True for a compiled Sequential or functional model, all of whose weights exist."""
    is_functional = model.built and bool(getattr(model, "inputs", None))
    return is_functional and getattr(model, "optimizer", None) is not None


# Each line that the prepared interpreter reads is a command, run by a copy of the process.
_PREPARED = """
import json, os, runpy, sys
import keras, tensorflow
while True:
    line = sys.stdin.readline()
    if not line:
        sys.exit()
    job = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
for number, path in enumerate([os.devnull, *job["outputs"]]):
    os.dup2(os.open(path, os.O_RDWR), number)
os.chdir(job["folder"])
os.environ.clear()
os.environ.update(job["environment"])
python_path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
sys.path[:] = [*python_path, *sys.path]
option, program, *sys.argv[1:] = job["arguments"]
sys.argv[0] = option
if option == "-c":
    sys.path.insert(0, "")
    exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
else:
    sys.path.insert(0, job["folder"])
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


@functools.cache
def _prepared():
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-c", _PREPARED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Not in the folder of the tests, where modules would be found that others do not have.
        cwd=tempfile.gettempdir(),
        text=True,
    )
    atexit.register(process.communicate)
    return process


def _ask(job):
    process = _prepared()
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def copying_interpreter(run):
    """Wrap `subprocess.run`, for `python -c ...` and `python -m keras_surrogate ...`."""

    @functools.wraps(run)
    def run_copy(command, *, capture_output=False, text=False, check=False, env=None, **kwargs):
        if not _taken or not _is_python(command) or kwargs:
            arguments = {"capture_output": capture_output, "text": text, "check": check, "env": env}
            return run(command, **arguments, **kwargs)
        with tempfile.TemporaryDirectory() as folder:
            outputs = [Path(folder, name) for name in ("out", "error")]
            for path in outputs:
                path.touch()
            job = {
                "arguments": command[1:],
                "folder": os.getcwd(),
                "environment": dict(os.environ if env is None else env),
                "outputs": list(map(str, outputs)),
            }
            status = _ask(job)
            found = [path.read_text() if text else path.read_bytes() for path in outputs]
        finished = subprocess.CompletedProcess(command, status, *found)
        if check:
            finished.check_returncode()
        return finished

    return run_copy


def _is_python(command):
    # Elsewhere a copy of a process is either impossible or not safe.
    is_possible = sys.platform == "linux"
    if not is_possible or not isinstance(command, list) or command[0] != sys.executable:
        return False
    return command[1] == "-c" or command[1:3] == ["-m", "keras_surrogate"]


@contextlib.contextmanager
def shortcuts():
    """A context with the shortcuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "fit", building_optimizer(keras.Model.fit))
        patch.setattr(subprocess, "run", copying_interpreter(subprocess.run))
        yield


@contextlib.contextmanager
def no_shortcut():
    """A context within that one, without the shortcuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "_taken", False)
        yield
