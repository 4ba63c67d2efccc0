"""The file of results: one line of JSON for each finished training."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from keras_surrogate import files
from keras_surrogate.comparison.cases import Case
from keras_surrogate.reprs import Shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike
    from keras_surrogate.theory.verdicts import Effect

FORMAT = 1
# The beginning of every line.
_START = b'{"format":'


@dataclasses.dataclass(frozen=True, repr=False)
class Run(Shown):
    """One finished training. None replaces numbers that are not finite or not defined.

    Attributes:
        case, seed: the training's `Case` and seed.
        diverged: True if the loss became NaN or infinite; then no further steps were made.
        accuracy, loss: on the test images; a NaN output is a guess of the class 0.
        validation_accuracy: on the images held out; None without such images.
        dead_units, initial_dead_units: the share of hidden units whose output is the same for 1000
            test images, at the end and before training.
        gradient_ratio: norm of the gradient of the first hidden layer's pre-activations over that
            of the last's, with the initial weights, for the mean loss over 256 training images.
        cosine: that of the gradient of the first layer's pre-activations with the true gradient,
            for the same loss; None if the true gradient is 0.
        kernel_cosine: the same for the gradient of the first layer's kernel.
        predicted_gradient_ratio, predicted_cosine: predictions of `theory.predict` for
            `gradient_ratio` and `cosine`; None where it has none.
        predicted_effect: the prediction of `theory.effect`: "helps", "hurts", "none" or "cannot
            tell"; None for the true derivative itself, and where the theory does not apply.
        final_gradient_ratio, final_cosine: `gradient_ratio` and `cosine` after training.
        history: for each epoch "loss" and "accuracy", over its training steps, "dead_units" and,
            where images were held out, "validation_accuracy" after it.
        seconds: the time of the training with all measurements; a case's first training in a
            process includes tracing.
        versions: those of "keras_surrogate", "keras" and "tensorflow".
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
    predicted_effect: Effect | None
    final_gradient_ratio: float | None
    final_cosine: float | None
    history: dict[str, list[float | None]]
    seconds: float
    versions: dict[str, str]

    _more = "run.history, run.case"

    def _facts(self) -> dict[str, object]:
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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _finite(getattr(self, field.name)))

    @property
    def key(self) -> tuple[Case, int]:
        """The case and the seed."""
        return self.case, self.seed

    def to_line(self) -> str:
        """A line of JSON."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str | bytes) -> Run:
        """The run of a line that `to_line` wrote.

        Raises:
            ValueError: the line is no run, or this version cannot read it.
        """
        entry = json.loads(line)
        if not isinstance(entry, dict) or entry.pop("format", None) != FORMAT:
            raise ValueError(f"it is no run of format {FORMAT}")
        try:
            return cls(**{**entry, "case": Case(**entry["case"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from error


def _finite(value: object) -> object:
    """The value with each NaN and infinity in it replaced by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read(path: PathLike) -> dict[tuple[Case, int], Run]:
    """The runs in a file, oldest first, each case and seed once, from (case, seed) to `Run`.

    Damaged lines, and an incomplete last line of a killed process, are left out with a warning.

    Raises:
        ValueError: the file cannot be read, or is no file of results.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    *lines, rest = content.split(b"\n")
    runs = {}
    damaged = []
    for number, line in enumerate(lines, 1):
        try:
            found = Run.from_line(line)
            runs.setdefault(found.key, found)
        except ValueError as error:
            damaged.append(f"{path}: line {number} is damaged and is left out ({error}).")
    if (damaged or not _half_a_run(rest)) and not runs:
        raise ValueError(f"{path} is no file of results; name another one.")
    if rest:
        damaged.append(
            f"{path}: the last line is incomplete and is dropped; that training will be repeated."
        )
    for message in damaged:
        warnings.warn(message, stacklevel=2)
    return runs


def _half_a_run(rest: bytes) -> bool:
    """True if this may be the beginning of a file's first line, or if it is empty."""
    return rest[: len(_START)] == _START[: len(rest)]


class ResultsFile:
    """A file of results, open for appending.

        with ResultsFile(path) as results:
            results.runs            its runs
            results.append(run)     on disk when this returns

    An incomplete last line is removed. A second process is refused where the system has
    `fcntl.flock` (all but Windows). On Windows two processes may make the same run; the first is
    read.

    Raises:
        ValueError: the file cannot be written, is no file of results, or another process is writing
            to it.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.runs: dict[tuple[Case, int], Run] = {}

    def __enter__(self) -> ResultsFile:
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

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"Another process is writing to {self.path}; wait for it, or name another output."
            ) from error

    def _cut_off_half_a_line(self) -> None:
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
        self._file.seek(0, os.SEEK_END)

    def append(self, run: Run) -> None:
        """Write a run, and wait until it is on disk."""
        try:
            self._file.write(run.to_line().encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ValueError(f"{self.path} cannot be written: {error.strerror}.") from error
        self.runs[run.key] = run
