"""The file of results: one line of JSON for each finished training, and nothing is lost but the one in progress."""

import contextlib
import dataclasses
import json
import math
import os
import warnings
from pathlib import Path

from keras_surrogate import files
from keras_surrogate.comparison.cases import Case
from keras_surrogate.reprs import Shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FORMAT = 1


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Shown):
    """One finished training. None stands for what is not a finite number, or not defined.

    Attributes:
        case, seed: what was trained.
        diverged: whether the loss became NaN or infinite, after which no further steps were made.
        accuracy, loss: on the test images; with a NaN for output the class 0 is what is guessed.
        validation_accuracy: on the images held out; None without.
        dead_units, initial_dead_units: the share of hidden units whose output is the same for 1000
            test images, at the end and before training.
        gradient_ratio: norm of the gradient of the first hidden layer's pre-activations over that
            of the last's, with the initial weights, for the mean loss over 256 training images.
        cosine: of the first layer's pre-activations' gradient with the true one, likewise; None if
            that is 0.
        kernel_cosine: of the first layer's kernel's gradient, likewise.
        predicted_gradient_ratio, predicted_cosine: the first two as `theory.predict` has them; None
            where it has no prediction.
        predicted_effect: on training, beside the true derivative, as `theory.effect` has it:
            "helps", "hurts" or "none"; None of the true derivative itself, and where the theory
            does not reach.
        final_gradient_ratio, final_cosine: as measured after training.
        history: for each epoch "loss" and "accuracy", over its training steps, "dead_units" and,
            where images were held out, "validation_accuracy" after it.
        seconds: of the training, with all measurements; tracing too, which a case's first training
            in a process does.
        versions: of "keras_surrogate", "keras" and "tensorflow".
    """

    case: Case
    seed: int
    diverged: bool
    accuracy: float
    loss: float | None
    validation_accuracy: float | None
    dead_units: float | None
    initial_dead_units: float | None
    gradient_ratio: float | None
    cosine: float | None
    kernel_cosine: float | None
    predicted_gradient_ratio: float | None
    predicted_cosine: float | None
    predicted_effect: str | None
    final_gradient_ratio: float | None
    final_cosine: float | None
    history: dict
    seconds: float
    versions: dict

    _more = "run.history, run.case"

    def _facts(self):
        return {
            "": self.case,
            "seed": self.seed,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "diverged": self.diverged,
            "gradient ratio": self.gradient_ratio,
            "cosine": self.cosine,
            "seconds": self.seconds,
        }

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _finite(getattr(self, field.name)))

    @property
    def key(self):
        return self.case, self.seed

    def to_line(self):
        """A line of JSON."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line):
        """The run that `to_line` wrote.

        Raises:
            ValueError: it is none, or one that this version cannot read.
        """
        entry = json.loads(line)
        if not isinstance(entry, dict) or entry.pop("format", None) != FORMAT:
            raise ValueError(f"it is no run of format {FORMAT}")
        try:
            return cls(**{**entry, "case": Case(**entry["case"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from error


def _finite(value):
    """The value with None in place of each NaN and infinity within it."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path):
    """The runs in a file, oldest first, each case and seed once: a dictionary from (case, seed) to `Run`.

    Warns of a half-written last line, as killing leaves it, and of damaged lines, and leaves them
    out.

    Raises:
        ValueError: the file cannot be read, or is no file of results.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    *lines, rest = content.split(b"\n")
    runs, damaged = {}, []
    for number, line in enumerate(lines, 1):
        try:
            found = Run.from_line(line)
            runs.setdefault(found.key, found)
        except ValueError as error:
            damaged.append(f"{path}: line {number} cannot be used and is left out ({error}).")
    if (damaged or not _half_a_run(rest)) and not runs:
        raise ValueError(f"{path} is no file of results; name another one.")
    if rest:
        damaged.append(
            f"{path}: the last line is half-written and is dropped; that training is made anew."
        )
    for message in damaged:
        warnings.warn(message, stacklevel=2)
    return runs


_START = b'{"format":'


def _half_a_run(rest):
    """Whether this may be the beginning of the first line; of an empty file too."""
    return rest[: len(_START)] == _START[: len(rest)]


class ResultsFile:
    """A file of results, open for appending.

        with ResultsFile(path) as results:
            results.runs            what it holds
            results.append(run)     on disk when this returns

    A half-written last line is cut off. A second process is refused, where the system has
    `fcntl.flock` (all but Windows); where not, two processes may make the same run, and the first
    is read.

    Raises:
        ValueError: it cannot be written, is no file of results, or another process is writing to
            it.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.runs = {}

    def __enter__(self):
        files.check_writable(self.path)
        try:
            self._file = open(self.path, "r+b" if self.path.exists() else "x+b")
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror}.") from error
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._file.close)
            self._lock()
            self.runs = read(self.path)
            self._cut_off_half_a_line()
            on_error.pop_all()
        return self

    def __exit__(self, *_):
        self._file.close()

    def _lock(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"Another process is writing to {self.path}; wait for it, or name another output."
            ) from error

    def _cut_off_half_a_line(self):
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)

    def append(self, run):
        """Writes a run, and waits until it is on disk."""
        try:
            self._file.write(run.to_line().encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror}.") from error
        self.runs[run.key] = run
