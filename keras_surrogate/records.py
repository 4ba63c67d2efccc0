"""What was recorded of a training run, as arrays and as files."""

import collections
import csv
import dataclasses
import functools
import os
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_surrogate.files import check_writable, replacing_file
from keras_surrogate.reprs import Shown

_INDEX = ("step", "epoch", "kind")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record(Shown):
    """Rows of numbers, one a recorded step.

    Attributes:
        columns: their names, "<quantity>/<layer>", as "gradient_norm/global" or
            "update_ratio/encoder/dense".
        steps: the numbers of the steps, from 0, shape (steps,).
        epochs: the numbers of their epochs, from 0, shape (steps,).
        values: shape (steps, columns), in float64.
        kind: "raw" for gradients as they reach the optimizer, "applied" for those that the updates
            are made with.

    `record["update_ratio"]` is an array of shape (steps, layers), of the layers
    `record.names("update_ratio")`.
    """

    columns: tuple
    steps: np.ndarray
    epochs: np.ndarray
    values: np.ndarray
    kind: str = "raw"

    _more = "record[quantity], record.names(quantity), record.to_dataframe()"

    def _facts(self):
        steps = self.steps
        facts = {
            "kind": self.kind,
            "steps": f"{len(steps)} ({steps[0]} to {steps[-1]})" if len(steps) else 0,
            "epochs": len(np.unique(self.epochs)),
            "layers": len(self._layers()),
            "quantities": self._kinds_of_quantity(),
        }
        if "gradient_norm/global" in self._places and len(steps):
            facts["last global norm"] = float(self.global_norms[-1])
        return facts

    def _table(self):
        """The newest number of each quantity, layer by layer."""
        quantities = [quantity for quantity in self.quantities if "[" not in quantity]
        newest = self.values[-1] if len(self.values) else np.full(len(self.columns), np.nan)
        rows = []
        for layer in ["global", *self._layers()]:
            places = [self._places.get(f"{quantity}/{layer}") for quantity in quantities]
            rows.append(
                [layer, *("" if place is None else float(newest[place]) for place in places)]
            )
        return ["at the last step", *quantities], rows

    def _layers(self):
        names = dict.fromkeys(column.split("/", 1)[1] for column in self.columns)
        return [name for name in names if name != "global"]

    def _kinds_of_quantity(self):
        """The quantities, those of several bins once."""
        return list(dict.fromkeys(quantity.split("[")[0] for quantity in self.quantities))

    @property
    def quantities(self):
        """The quantities that were recorded, in order."""
        return tuple(dict.fromkeys(column.split("/")[0] for column in self.columns))

    def names(self, quantity):
        """The layers (or variables) of a quantity, in order, without "global"."""
        self._check(quantity)
        split = [column.split("/", 1) for column in self.columns]
        return tuple(name for owner, name in split if owner == quantity and name != "global")

    def __getitem__(self, quantity):
        return self._of(quantity, self.names(quantity))

    def total(self, quantity):
        """The numbers of a quantity over all layers, shape (steps,).

        Raises:
            ValueError: the quantity was not recorded, or, as those of the layers' outputs, not over
                all layers.
        """
        self._check(quantity)
        if f"{quantity}/global" not in self._places:
            raise ValueError(
                f"{quantity} was recorded layer by layer only: use record[{quantity!r}]."
            )
        return self._of(quantity, ["global"])[:, 0]

    @functools.cached_property
    def _places(self):
        return {column: place for place, column in enumerate(self.columns)}

    def _of(self, quantity, names):
        return self.values[:, [self._places[f"{quantity}/{name}"] for name in names]]

    def _check(self, quantity):
        if quantity not in self.quantities:
            raise ValueError(
                f"No quantity {quantity!r} was recorded. There is: {', '.join(self.quantities)}."
            )

    def rows(self, which):
        """The same with some of the steps only, a slice or an array of indices."""
        return dataclasses.replace(
            self, steps=self.steps[which], epochs=self.epochs[which], values=self.values[which]
        )

    def histograms(self):
        """The counts of the gradient histograms: a dictionary from layer to an array of shape (steps, bins).

        The bins are those of `quantities.GradientHistogram.labels`. Empty where no histograms were
        recorded.
        """
        bins = [
            quantity for quantity in self.quantities if quantity.startswith("gradient_histogram[")
        ]
        owners = ("global", *self.names(bins[0])) if bins else ()
        return {
            name: np.stack([self._of(one, [name])[:, 0] for one in bins], axis=1) for name in owners
        }

    @property
    def layer_names(self):
        return list(self.names("gradient_norm")) if self.columns else []

    @property
    def norms(self):
        """The gradient norm of each layer, shape (steps, layers)."""
        return self["gradient_norm"] if self.columns else np.empty((0, 0))

    @property
    def global_norms(self):
        """The gradient norm over all layers, shape (steps,)."""
        return self.total("gradient_norm") if self.columns else np.empty(0)

    @property
    def nonfinite(self):
        """Where gradients were NaN or infinite: a dictionary from step to layer, the first in the backward pass.

        Such are the steps that loss scaling skips. With `kind` "applied" a step that updates
        nothing is not among them.
        """
        norms, names = self.norms, self.layer_names
        updates_nothing = np.isnan(norms).all(axis=1, keepdims=True) & (self.kind == "applied")
        steps, layers = np.nonzero(~np.isfinite(norms) & ~updates_nothing)
        return {
            int(self.steps[step]): names[layer] for step, layer in zip(steps, layers, strict=True)
        }

    def to_csv(self, path):
        """Writes a header and one line a step; `load` reads it."""
        with replacing_file(path) as unfinished, _open(unfinished, "w") as file:
            _write_header(file, self.columns)
            _write_rows(file, self.kind, self.steps, self.epochs, self.values)

    def to_npz(self, path):
        """Writes the arrays as NumPy's compressed archive; `load` reads it."""
        with replacing_file(path) as unfinished, open(unfinished, "wb") as file:
            arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
            np.savez_compressed(file, **{**arrays, "columns": np.array(self.columns, dtype=str)})

    def to_dataframe(self):
        """A pandas `DataFrame`, one row a step, indexed by step and epoch.

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
    """What a logger shows of its `recorded`, a `Record`: the arrays, and the files they can be written to."""

    @property
    def layer_names(self):
        """The names of the layers (or variables), first layer first."""
        return self.recorded.layer_names

    @property
    def steps(self):
        """The numbers of the recorded steps, shape (steps,)."""
        return self.recorded.steps

    @property
    def norms(self):
        """The gradient norm of each layer, shape (steps, layers)."""
        return self.recorded.norms

    @property
    def global_norms(self):
        """The gradient norm over all layers, shape (steps,)."""
        return self.recorded.global_norms

    def to_csv(self, path):
        """`Record.to_csv`."""
        self.recorded.to_csv(path)

    def to_npz(self, path):
        """`Record.to_npz`."""
        self.recorded.to_npz(path)

    def to_dataframe(self):
        """`Record.to_dataframe`."""
        return self.recorded.to_dataframe()


class Series:
    """Rows that are appended while training runs, of which the newest are kept.

    Args:
        keep: how many; default None, all.

    Attributes:
        newest: the last row of this epoch; NaN before there is one.
        nonfinite: how many rows of this epoch have a global norm that is not finite.
    """

    def __init__(self, keep=None):
        self._keep = keep
        self._chunks, self._held = collections.deque(), 0
        self.begin_epoch()

    def begin_epoch(self):
        """Starts the means anew."""
        self._sums, self._counts, self.nonfinite = 0.0, 0, 0
        self.newest = np.nan

    def append(self, steps, epochs, rows):
        """Adds rows, shape (steps, columns), of which the first column is the global norm."""
        finite = np.isfinite(rows)
        self._sums = self._sums + np.sum(rows, axis=0, where=finite)
        self._counts = self._counts + np.sum(finite, axis=0)
        self.nonfinite += int(np.sum(~finite[:, 0]))
        self.newest = rows[-1]
        self._chunks.append((steps, epochs, rows))
        self._held += len(steps)
        while self._keep and self._held - len(self._chunks[0][0]) >= self._keep:
            self._held -= len(self._chunks.popleft()[0])

    def means(self):
        """Of each column, over this epoch's rows in which it is finite; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return np.divide(self._sums, self._counts)

    def record(self, columns, kind):
        """Everything kept, as a `Record`."""
        none = (np.empty(0, int), np.empty(0, int), np.empty((0, len(columns))))
        arrays = (
            np.concatenate(chunks)[-self._keep if self._keep else 0 :]
            for chunks in zip(none, *self._chunks, strict=True)
        )
        return Record(tuple(columns), *arrays, kind)


class Writer:
    """A CSV file that grows while training runs; what is killed leaves all complete lines behind.

    Args:
        path: the file.
        kind: the `Record`'s.
        append: whether a file that is there already goes on. True: it does, and must hold the same
            columns. False: it is begun anew. None, the default: it goes on if training is resumed
            and its columns are the same; else it is set aside under the name "<name>.old<suffix>",
            with a warning, and a new one begun.
        resumed: whether training goes on from an earlier step, default False. Rows of the file from
            that step on belong to steps that are trained again: they are dropped, with a warning.

    Attributes:
        next_step: the number after the last step that the file holds; 0 for a new file.

    Raises:
        ValueError: the file cannot be written; with `append` True, it holds something else.
    """

    def __init__(self, path, kind, append=None, resumed=False):
        check_writable(path)
        self._path = Path(path)
        self._kind = kind
        self._append = append
        self._resumed = resumed
        self._order = None
        self._held = self._to_go_on_with()
        self.next_step = 0 if self._held is None else int(max(self._held.steps, default=-1)) + 1
        if self._held is None:
            self._begin()

    def _to_go_on_with(self):
        """The `Record` in the file, if it is to go on; else None."""
        if self._append is False or not self._path.exists() or self._path.stat().st_size == 0:
            return None
        if self._append is None and not self._resumed:
            return self._set_aside("it is of an earlier run; append=True would continue it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # The incomplete last line of a run that was killed is dropped here.
                return load(self._path)
        except ValueError as error:
            if self._append:
                raise
            return self._set_aside(f"it cannot be continued ({error})")

    def _set_aside(self, reason):
        old = self._path.with_name(f"{self._path.stem}.old{self._path.suffix}")
        os.replace(self._path, old)
        warnings.warn(
            f"{self._path} is begun anew, and what it held is now {old}: {reason}.", stacklevel=5
        )

    def _begin(self):
        self._order = None
        self._begun = False
        try:
            _open(self._path, "w").close()
        except OSError as error:
            raise ValueError(
                f"{self._path} cannot be written: {error.strerror or error}."
            ) from error

    def _go_on(self, columns, first):
        """Goes on with the file from a step on, if its columns are the same."""
        held, self._held = self._held, None
        if {*held.columns} != {*columns} or (len(held.steps) and held.kind != self._kind):
            self._refuse(held, columns)
            return
        kept = held.rows(held.steps < first)
        dropped = len(held.steps) - len(kept.steps)
        if dropped:
            warnings.warn(
                f"{self._path}: training goes on from step {first}. The {dropped} recorded steps from there on, of "
                "training that was lost, are recorded anew.",
                stacklevel=5,
            )
        kept.to_csv(self._path)
        self._order = [columns.index(column) for column in held.columns]
        self._begun = True

    def _refuse(self, held, columns):
        differing = sorted({*held.columns} ^ {*columns})
        what = (
            f"columns {', '.join(differing[:3])}, ... differ"
            if differing
            else f"it holds {held.kind} gradients"
        )
        if self._append:
            raise ValueError(
                f"{self._path} cannot be continued: {what}. Record the same as before, or name another file."
            )
        self._set_aside(f"it is of another run ({what})")
        self._begin()

    def write(self, columns, steps, epochs, rows):
        """Appends rows, and before the first of them the header."""
        if not len(steps):
            return
        columns = list(columns)
        if self._held is not None:
            self._go_on(columns, steps[0])
        with _open(self._path, "a") as file:
            if not self._begun:
                _write_header(file, columns)
                self._begun = True
            ordered = rows if self._order is None else np.asarray(rows)[:, self._order]
            _write_rows(file, self._kind, steps, epochs, ordered)


def _open(path, mode):
    return open(path, mode, newline="", encoding="utf-8")


def _write_header(file, columns):
    csv.writer(file).writerow([*_INDEX, *columns])


def _write_rows(file, kind, steps, epochs, rows):
    writer = csv.writer(file)
    for step, epoch, row in zip(steps, epochs, rows, strict=True):
        writer.writerow([step, epoch, kind, *map(repr, map(float, row))])


def load(path):
    """Reads a `Record` from a CSV or NPZ file, also from the CSV of a run that was killed or goes on.

    Raises:
        ValueError: the file does not exist, is empty, or holds something else.
    """
    try:
        with open(path, "rb") as file:
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
        message = f"{path} is no record of a training run, as to_csv and to_npz write it ({error})."
        raise ValueError(message) from error


def _from_npz(path):
    with open(path, "rb") as file, np.load(file) as arrays:
        columns = tuple(str(name) for name in arrays["columns"])
        steps, epochs, values = arrays["steps"], arrays["epochs"], arrays["values"]
        if values.shape != (len(steps), len(columns)) or epochs.shape != steps.shape:
            raise ValueError(
                f"{len(steps)} steps of {len(columns)} columns have values of shape {values.shape}"
            )
        return Record(columns, steps, epochs, values, str(arrays["kind"]))


def _from_csv(path):
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    if lines and not lines[-1].endswith("\n"):
        warnings.warn(f"{path}: the last line is incomplete and was dropped.", stacklevel=3)
        lines.pop()
    if not lines:
        raise ValueError("it has no complete line: no step was recorded, or none written yet")
    header, *rows = csv.reader(lines)
    if tuple(header[: len(_INDEX)]) != _INDEX:
        raise ValueError(f"the first columns are {header[: len(_INDEX)]}, not {list(_INDEX)}")
    return Record(
        columns=tuple(header[len(_INDEX) :]),
        steps=np.array([int(row[0]) for row in rows], dtype=int),
        epochs=np.array([int(row[1]) for row in rows], dtype=int),
        values=_numbers(rows, len(header)),
        kind=rows[0][2] if rows else "raw",
    )


def _numbers(rows, width):
    for number, row in enumerate(rows, 2):
        if len(row) != width:
            raise ValueError(f"line {number} has {len(row)} entries, the header {width}")
    numbers = [[float(number) for number in row[len(_INDEX) :]] for row in rows]
    return np.array(numbers, dtype=float).reshape(len(rows), width - len(_INDEX))


def shortened(name, length=24):
    """The end of a long name, which tells layers of one model apart better than its beginning."""
    return name if len(name) <= length else "\u2026" + name[1 - length :]
