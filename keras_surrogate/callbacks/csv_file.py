"""The CSV file of a training run: begun, continued, or set aside."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.files import check_writable
from keras_surrogate.records import Record, load, open_csv, write_header, write_rows

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike


class CsvFile:
    """A CSV file that grows during training.

    If the process is killed, the file has all complete lines.

    Args:
        path: the file.
        kind: the `records.Record`'s kind.
        append: whether to continue an existing file. True: continue it; its columns must be the
            same. False: overwrite it. None, the default: continue it if training is resumed and its
            columns are the same; otherwise rename it to "<name>.old<suffix>" (or old-1 and so on),
            with a warning, and begin a new file.
        resumed: whether training continues from an earlier step, default False. Rows of the file
            from that step on belong to steps that are trained again. They are dropped, with a
            warning.

    Attributes:
        next_step: the number after the last step in the file; 0 for a new file.

    Raises:
        ValueError: the file cannot be written; with `append` True, it cannot be continued.
    """

    next_step: int

    def __init__(
        self,
        path: PathLike,
        kind: str,
        append: bool | None = None,
        resumed: bool = False,
    ) -> None:
        check_writable(path)
        self._path = Path(path)
        self._kind = kind
        self._append = append
        self._resumed = resumed
        # Places of the file's columns among the columns to write; None if they are the same.
        self._order: list[int] | None = None
        # Contents of the file that is continued, until the first rows are written.
        self._held = self._to_continue()
        self.next_step = 0
        if self._held is None:
            self._begin()
        else:
            self.next_step = int(max(self._held.steps, default=-1)) + 1

    def _to_continue(self) -> Record | None:
        """The `Record` in the file if the file is to be continued, otherwise None."""
        if self._append is False or not self._path.exists() or self._path.stat().st_size == 0:
            return None
        if self._append is None and not self._resumed:
            self._set_aside("it is from an earlier run (append=True would continue it)")
            return None
        try:
            with warnings.catch_warnings():
                # `load` warns of an incomplete last line. Here the line is dropped without a
                # warning, because a killed run is continued.
                warnings.simplefilter("ignore")
                return load(self._path)
        except ValueError as error:
            if self._append:
                raise
            self._set_aside(f"it cannot be continued ({error})")
            return None

    def _set_aside(self, reason: str) -> None:
        names = itertools.chain(["old"], (f"old-{number}" for number in itertools.count(1)))
        paths = (self._path.with_suffix(f".{name}{self._path.suffix}") for name in names)
        # The first name that is free, so that no earlier record is lost.
        old = next(path for path in paths if not path.exists())
        os.replace(self._path, old)
        warnings.warn(
            f"{self._path} was renamed to {old}, and a new file is begun: {reason}.", stacklevel=5
        )

    def _begin(self) -> None:
        self._order = None
        self._has_header = False
        try:
            open_csv(self._path, "w").close()
        except OSError as error:
            raise ValueError(
                f"{self._path} cannot be written: {error.strerror or error}."
            ) from error

    def _continue(self, held: Record, columns: list[str], first: int) -> None:
        """Continue the file from a step on, if its columns are the same."""
        if {*held.columns} != {*columns} or (len(held.steps) and held.kind != self._kind):
            self._refuse(held, columns)
            return
        kept = held.rows(held.steps < first)
        dropped = len(held.steps) - len(kept.steps)
        if dropped:
            warnings.warn(
                f"{self._path}: training continues from step {first}. The {dropped} recorded steps "
                "from that step on are dropped and recorded again, because their training was "
                "lost.",
                stacklevel=5,
            )
        kept.to_csv(self._path)
        self._order = [columns.index(column) for column in held.columns]
        self._has_header = True

    def _refuse(self, held: Record, columns: list[str]) -> None:
        differing = sorted({*held.columns} ^ {*columns})
        what = f"it holds {held.kind} gradients"
        if differing:
            what = f"columns {', '.join(differing[:3])}, ... differ"
        if self._append:
            raise ValueError(
                f"{self._path} cannot be continued: {what}. Record the same quantities as before, "
                "or name another file."
            )
        self._set_aside(f"it is from another run ({what})")
        self._begin()

    def write(
        self, columns: Sequence[str], steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
    ) -> None:
        """Append rows, after the header if there is none yet.

        Raises:
            OSError: the file cannot be written.
            ValueError: with `append` True, the file has other columns.
        """
        if not len(steps):
            return
        columns = list(columns)
        if self._held is not None:
            held = self._held
            self._held = None
            self._continue(held, columns, steps[0])
        with open_csv(self._path, "a") as file:
            if not self._has_header:
                write_header(file, columns)
                self._has_header = True
            ordered = rows if self._order is None else np.asarray(rows)[:, self._order]
            write_rows(file, self._kind, steps, epochs, ordered)
