"""The numbers that were recorded of a training run, as arrays and as files."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

import numpy as np

from keras_surrogate.files import replacing_file
from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    import pandas

    from keras_surrogate._types import PathLike

# The first columns of a CSV file.
_INDEX = ("step", "epoch", "kind")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record(Shown):
    """The numbers of a training run, with one row for each recorded step.

    `record["update_ratio"]` is an array of shape (steps, layers), with the layers
    `record.names("update_ratio")`.

    Attributes:
        columns: names of the columns, "<quantity>/<layer>", such as "gradient_norm/global" or
            "update_ratio/encoder/dense".
        steps: numbers of the steps, from 0, shape (steps,).
        epochs: numbers of their epochs, from 0, shape (steps,).
        values: shape (steps, columns), in float64.
        kind: "raw" for gradients as they reach the optimizer, "applied" for those that the updates
            are made with. An applied norm is NaN where nothing was updated, and infinite where the
            gradient was NaN.
    """

    columns: tuple[str, ...]
    steps: np.ndarray
    epochs: np.ndarray
    values: np.ndarray
    kind: str = "raw"

    _more: ClassVar[str] = "record[quantity], record.names(quantity), record.to_dataframe()"

    def _facts(self) -> dict[str, object]:
        steps = self.steps
        facts: dict[str, object] = {
            "kind": self.kind,
            "steps": f"{len(steps)} ({steps[0]} to {steps[-1]})" if len(steps) else 0,
            "epochs": len(np.unique(self.epochs)),
            "layers": len(self._layers()),
            "quantities": self._kinds_of_quantity(),
        }
        if "gradient_norm/global" in self._places and len(steps):
            facts["last global norm"] = float(self.global_norms[-1])
        return facts

    def _table(self) -> tuple[list[str], list[list[object]]]:
        """The last number of each quantity, layer by layer."""
        quantities = [quantity for quantity in self.quantities if "[" not in quantity]
        last = self.values[-1] if len(self.values) else np.full(len(self.columns), np.nan)
        rows: list[list[object]] = []
        for layer in ["global", *self._layers()]:
            places = [self._places.get(f"{quantity}/{layer}") for quantity in quantities]
            numbers = ["" if place is None else float(last[place]) for place in places]
            rows.append([layer, *numbers])
        return ["at the last step", *quantities], rows

    def _layers(self) -> list[str]:
        names = dict.fromkeys(column.split("/", 1)[1] for column in self.columns)
        return [name for name in names if name != "global"]

    def _kinds_of_quantity(self) -> list[str]:
        """The quantities. A quantity of several bins appears once."""
        return list(dict.fromkeys(quantity.split("[")[0] for quantity in self.quantities))

    @property
    def quantities(self) -> tuple[str, ...]:
        """The recorded quantities, in the order of the columns."""
        return tuple(dict.fromkeys(column.split("/")[0] for column in self.columns))

    def names(self, quantity: str) -> tuple[str, ...]:
        """The layers (or variables) of a quantity, in order, without "global"."""
        self._check(quantity)
        split = [column.split("/", 1) for column in self.columns]
        return tuple(name for owner, name in split if owner == quantity and name != "global")

    def __getitem__(self, quantity: str) -> np.ndarray:
        return self._of(quantity, self.names(quantity))

    def total(self, quantity: str) -> np.ndarray:
        """The numbers of a quantity over all layers together, shape (steps,).

        Raises:
            ValueError: the quantity was not recorded; it has no number for all layers, as the
                quantities of layers' outputs.
        """
        self._check(quantity)
        if f"{quantity}/global" not in self._places:
            raise ValueError(
                f"{quantity} was recorded only layer by layer: use record[{quantity!r}]."
            )
        return self._of(quantity, ["global"])[:, 0]

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {column: place for place, column in enumerate(self.columns)}

    def _of(self, quantity: str, names: Iterable[str]) -> np.ndarray:
        return self.values[:, [self._places[f"{quantity}/{name}"] for name in names]]

    def _check(self, quantity: str) -> None:
        if quantity not in self.quantities:
            recorded = ", ".join(self.quantities)
            raise ValueError(
                f"No quantity {quantity!r} was recorded. Recorded quantities: {recorded}."
            )

    def rows(self, which: slice | np.ndarray) -> Record:
        """A `Record` with some of the steps.

        Args:
            which: a slice or an array of indices.
        """
        return dataclasses.replace(
            self, steps=self.steps[which], epochs=self.epochs[which], values=self.values[which]
        )

    def histograms(self) -> dict[str, np.ndarray]:
        """The counts of the gradient histograms.

        Returns:
            A dictionary from layer to an array of shape (steps, bins), with the bins
            `quantities.GradientHistogram.labels`. Empty if no histograms were recorded.
        """
        bins = [
            quantity for quantity in self.quantities if quantity.startswith("gradient_histogram[")
        ]
        if not bins:
            return {}
        owners = ("global", *self.names(bins[0]))
        return {
            name: np.stack([self._of(one, [name])[:, 0] for one in bins], axis=1) for name in owners
        }

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers (or variables) with a gradient norm, in order."""
        return list(self.names("gradient_norm")) if self.columns else []

    @property
    def norms(self) -> np.ndarray:
        """The gradient norm of each layer, shape (steps, layers)."""
        return self["gradient_norm"] if self.columns else np.empty((0, 0))

    @property
    def global_norms(self) -> np.ndarray:
        """The gradient norm over all layers, shape (steps,)."""
        return self.total("gradient_norm") if self.columns else np.empty(0)

    @property
    def updates_nothing(self) -> np.ndarray:
        """True for each step in which no update was made, as far as known: with `kind` "applied".

        Such are the steps that gradient accumulation only adds up.
        """
        return np.isnan(self.norms).all(axis=1) & (self.kind == "applied")

    @property
    def nonfinite(self) -> dict[int, str]:
        """The steps with NaN or infinite gradients.

        It is a dictionary from step to layer, the first such layer in the backward pass. It
        includes the steps that loss scaling skips. With `kind` "applied" it excludes steps that
        update nothing, whose norms are NaN; a norm of NaN gradients is infinite there.
        """
        names = self.layer_names
        steps, layers = np.nonzero(_is_nonfinite(self.norms, self.kind))
        # The dictionary keeps the last layer of each step, which is the first in the backward pass.
        return {
            int(self.steps[step]): names[layer] for step, layer in zip(steps, layers, strict=True)
        }

    def to_csv(self, path: PathLike) -> None:
        """Write a CSV file, with a header and one line for each step. `load` reads it."""
        with replacing_file(path) as unfinished, open_csv(unfinished, "w") as file:
            write_header(file, self.columns)
            write_rows(file, self.kind, self.steps, self.epochs, self.values)

    def to_npz(self, path: PathLike) -> None:
        """Write the arrays as NumPy's compressed archive. `load` reads it."""
        with replacing_file(path) as unfinished, open(unfinished, "wb") as file:
            np.savez_compressed(
                file,
                columns=np.array(self.columns, dtype=str),
                steps=self.steps,
                epochs=self.epochs,
                values=self.values,
                kind=np.array(self.kind),
            )

    def to_dataframe(self) -> pandas.DataFrame:
        """A pandas `DataFrame` with one row for each step, indexed by step and epoch.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_dataframe() needs pandas: python -m pip install pandas."
            ) from error
        index = pandas.MultiIndex.from_arrays([self.steps, self.epochs], names=["step", "epoch"])
        return pandas.DataFrame(self.values, index, list(self.columns))


class Recorded:
    """The arrays and files of a `Record`, as attributes of the object that records it.

    A subclass defines `recorded`.
    """

    @property
    def recorded(self) -> Record:
        """Everything recorded."""
        raise TypeError(f"{type(self).__name__} defines no `recorded`.")

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers (or variables), first layer first."""
        return self.recorded.layer_names

    @property
    def steps(self) -> np.ndarray:
        """The numbers of the recorded steps, shape (steps,)."""
        return self.recorded.steps

    @property
    def norms(self) -> np.ndarray:
        """The gradient norm of each layer, shape (steps, layers)."""
        return self.recorded.norms

    @property
    def global_norms(self) -> np.ndarray:
        """The gradient norm over all layers, shape (steps,)."""
        return self.recorded.global_norms

    def to_csv(self, path: PathLike) -> None:
        """Call `Record.to_csv`."""
        self.recorded.to_csv(path)

    def to_npz(self, path: PathLike) -> None:
        """Call `Record.to_npz`."""
        self.recorded.to_npz(path)

    def to_dataframe(self) -> pandas.DataFrame:
        """Call `Record.to_dataframe`."""
        return self.recorded.to_dataframe()


class Series:
    """Rows that are appended during training. Only the newest are kept.

    Args:
        keep: the number of rows to keep; default None, all.
        kind: "raw", the default, or "applied", as in a `Record`.

    Attributes:
        newest: the last row of this epoch; NaN before there is one.
        nonfinite: the number of rows of this epoch whose global gradient is not finite.
    """

    newest: np.ndarray | float
    nonfinite: int

    def __init__(self, keep: int | None = None, kind: str = "raw") -> None:
        self._keep = keep
        self._kind = kind
        self._chunks: collections.deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = (
            collections.deque()
        )
        self._held = 0
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Reset the means."""
        self._sums: np.ndarray | float = 0.0
        self._counts: np.ndarray | int = 0
        self.nonfinite = 0
        self.newest = np.nan

    def append(self, steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray) -> None:
        """Add rows, shape (steps, columns). Their first column is the global norm."""
        finite = np.isfinite(rows)
        self._sums = self._sums + np.sum(rows, axis=0, where=finite)
        self._counts = self._counts + np.sum(finite, axis=0)
        self.nonfinite += int(np.sum(_is_nonfinite(rows[:, 0], self._kind)))
        self.newest = rows[-1]
        self._chunks.append((steps, epochs, rows))
        self._held += len(steps)
        # Chunks are dropped whole; `record` cuts the oldest one that is left.
        while self._keep and self._held - len(self._chunks[0][0]) >= self._keep:
            self._held -= len(self._chunks.popleft()[0])

    def means(self) -> np.ndarray:
        """The mean of each column over this epoch's rows in which it is finite.

        NaN where there are none.
        """
        with np.errstate(invalid="ignore"):
            return np.divide(self._sums, self._counts)

    def record(self, columns: Sequence[str]) -> Record:
        """All rows that are kept, as a `Record`."""
        # An empty chunk gives the arrays their types where there are no rows.
        none = (np.empty(0, int), np.empty(0, int), np.empty((0, len(columns))))
        newest = slice(-self._keep if self._keep else 0, None)
        steps, epochs, values = (
            np.concatenate(chunks)[newest] for chunks in zip(none, *self._chunks, strict=True)
        )
        return Record(tuple(columns), steps, epochs, values, self._kind)


def _is_nonfinite(norms: np.ndarray, kind: str) -> np.ndarray:
    """True where a gradient is NaN or infinite.

    A norm of an applied gradient is infinite then, because NaN says that nothing was updated.
    """
    return np.isinf(norms) if kind == "applied" else ~np.isfinite(norms)


def open_csv(path: Path, mode: Literal["w", "a"]) -> TextIO:
    """A CSV file, opened as the `csv` module needs it."""
    return open(path, mode, newline="", encoding="utf-8")


def write_header(file: TextIO, columns: Sequence[str]) -> None:
    """Writes the first line of a CSV file."""
    csv.writer(file).writerow([*_INDEX, *columns])


def write_rows(
    file: TextIO, kind: str, steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
) -> None:
    """Writes one line for each recorded step."""
    writer = csv.writer(file)
    for step, epoch, row in zip(steps, epochs, rows, strict=True):
        # The repr of a float has all its digits.
        writer.writerow([step, epoch, kind, *map(repr, map(float, row))])


def load(path: PathLike) -> Record:
    """Read a `Record` from a CSV or NPZ file.

    The CSV file may be that of a run that was killed or is not finished.

    Raises:
        ValueError: the file does not exist, is empty, or has other contents.
    """
    try:
        with open(path, "rb") as file:
            # An NPZ file is a ZIP archive, which begins with these bytes.
            is_archive = file.read(2) == b"PK"
        return _from_npz(path) if is_archive else _from_csv(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (
        ValueError,
        KeyError,
        IndexError,
        EOFError,
        csv.Error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is no record of a training run, as to_csv and to_npz write it ({error})."
        ) from error


def _from_npz(path: PathLike) -> Record:
    with open(path, "rb") as file, np.load(file) as arrays:
        columns = tuple(str(name) for name in arrays["columns"])
        steps = arrays["steps"]
        epochs = arrays["epochs"]
        values = arrays["values"]
        if values.shape != (len(steps), len(columns)) or epochs.shape != steps.shape:
            raise ValueError(
                f"{len(steps)} steps of {len(columns)} columns have values of shape {values.shape}"
            )
        return Record(columns, steps, epochs, values, str(arrays["kind"]))


def _from_csv(path: PathLike) -> Record:
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    if lines and not lines[-1].endswith("\n"):
        warnings.warn(f"{path}: the last line is incomplete and was dropped.", stacklevel=3)
        lines.pop()
    if not lines:
        raise ValueError("it has no complete line, because no step was recorded or written yet")
    header, *rows = csv.reader(lines)
    index = tuple(header[: len(_INDEX)])
    if index != _INDEX:
        raise ValueError(f"the first columns are {list(index)}, not {list(_INDEX)}")
    return Record(
        columns=tuple(header[len(_INDEX) :]),
        steps=np.array([int(row[0]) for row in rows], dtype=int),
        epochs=np.array([int(row[1]) for row in rows], dtype=int),
        values=_numbers(rows, len(header)),
        kind=rows[0][2] if rows else "raw",
    )


def _numbers(rows: list[list[str]], width: int) -> np.ndarray:
    for number, row in enumerate(rows, 2):
        if len(row) != width:
            raise ValueError(f"line {number} has {len(row)} entries, the header {width}")
    numbers = [[float(number) for number in row[len(_INDEX) :]] for row in rows]
    return np.array(numbers, dtype=float).reshape(len(rows), width - len(_INDEX))


def shortened(name: str, length: int = 24) -> str:
    """The end of a long name, because names of layers in one model often begin alike."""
    return name if len(name) <= length else "\u2026" + name[1 - length :]
