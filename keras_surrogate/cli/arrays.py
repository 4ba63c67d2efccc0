"""Inputs and targets from files: .npz, .npy and .csv."""

from __future__ import annotations

import csv
import itertools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = (
    ".npz with an array x (for several inputs x_0, x_1, ... or arrays named as the model's inputs) "
    "and, if there are targets, y; .npy with x only; .csv of numbers, with one example in each "
    "row, with or without a header, whose last column is the target"
)
TARGETS_HELP = (
    "targets to use instead of those in DATA: a .npy file; for a .csv the name of a column, or its "
    'number from 1 on; or "none"'
)
SUFFIXES = (".npz", ".npy", ".csv")


def read(
    path: str, targets: str | None, size: int, inputs: Sequence[str]
) -> tuple[np.ndarray | list[np.ndarray], np.ndarray | None]:
    """The first examples of a file, and their targets.

    Args:
        path: the file, with one of `SUFFIXES`.
        targets: the targets as in `TARGETS_HELP`; None for those in the file.
        size: the number of examples.
        inputs: the names of the model's inputs; empty if they have none.

    Returns:
        The inputs, an array or a list of arrays; and the targets, None if there are none.

    Raises:
        ValueError: the file is missing or holds something other than numbers; the targets do not
            exist.
    """
    suffix = Path(path).suffix
    from_file = targets is not None and targets.endswith(".npy")
    if targets not in (None, "none") and not from_file and suffix != ".csv":
        raise ValueError(
            f"--targets {targets}: only a .csv has columns; name a .npy file, or none."
        )
    y = None
    if suffix == ".csv":
        x, y = _from_csv(path, "none" if from_file else targets, size)
    elif suffix == ".npy":
        x = _from_npy(path)
    else:
        x, y = _from_npz(path, inputs)
    x = _first(x, size, path)
    if from_file:
        return x, _first(_from_npy(targets), size, targets)
    if y is None or targets == "none":
        return x, None
    return x, _first(y, size, path)


def _first(
    arrays: np.ndarray | list[np.ndarray], size: int, path: str
) -> np.ndarray | list[np.ndarray]:
    if isinstance(arrays, list):
        return [_first(array, size, path) for array in arrays]
    if not np.issubdtype(arrays.dtype, np.number) and arrays.dtype != bool:
        raise ValueError(f"{path} holds no numbers, but {arrays.dtype}.")
    return np.atleast_1d(arrays)[:size]


def _from_npy(path: str) -> np.ndarray:
    return _opened(path, np.ndarray, "an .npy file of one array of numbers")


def _from_npz(
    path: str, inputs: Sequence[str]
) -> tuple[np.ndarray | list[np.ndarray], np.ndarray | None]:
    arrays = _opened(path, np.lib.npyio.NpzFile, "an .npz file of numbers")
    x = _named(arrays, "x")
    if x is None and inputs and all(name in arrays for name in inputs):
        x = [arrays[name] for name in inputs]
    if x is None:
        further = ""
        if len(inputs) > 1:
            further = f" With several inputs: x_0, x_1, ... or {', '.join(inputs)}."
        raise ValueError(
            f"{path} has the arrays {sorted(arrays)}, but none that is called x: "
            f"np.savez({path!r}, x=x, y=y).{further}"
        )
    return x, _named(arrays, "y")


def _opened(path: str, kind: type, description: str) -> np.ndarray | dict[str, np.ndarray]:
    """The array in a .npy file, or a dictionary of the arrays in a .npz file."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, kind):
            raise ValueError("it holds something else")
        if kind is np.ndarray:
            return found
        with found:
            return dict(found)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as {description}: {error}") from error


def _named(arrays: dict[str, np.ndarray], name: str) -> np.ndarray | list[np.ndarray] | None:
    """The array `name`, or the list of name_0, name_1, ...; None if there are none."""
    if name in arrays:
        return arrays[name]
    names = (f"{name}_{number}" for number in itertools.count())
    numbered = itertools.takewhile(lambda one: one in arrays, names)
    return [arrays[one] for one in numbered] or None


def _from_csv(path: str, targets: str | None, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    header, lines = _lines(path, size)
    width = len(lines[0][1])
    place = _column(path, targets, header, width)
    rows = [_numbers(path, number, cells, header, width) for number, cells in lines]
    numbers = np.array(rows, "float32")
    if place is None:
        return numbers, None
    if width == 1:
        raise ValueError(
            f"{path} has one column only, which is the target: give --targets none if it is the "
            "input."
        )
    return np.delete(numbers, place, axis=1), numbers[:, place]


def _lines(path: str, size: int) -> tuple[list[str] | None, list[tuple[int, list[str]]]]:
    """The header and the lines of the examples.

    Returns:
        The header, None if the first line holds numbers; and pairs of a line's number and its
        cells.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            # Lines without any text are left out.
            filled = (
                (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)
            )
            # One more line than examples, for the header.
            lines = list(itertools.islice(filled, size + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a .csv file: {error}") from error
    if lines and _is_header(lines[0][1]):
        header = lines[0][1]
        examples = lines[1:]
    else:
        header = None
        examples = lines[:size]
    if not examples:
        raise ValueError(f"{path} holds no line of numbers.")
    return header, examples


def _is_header(cells: list[str]) -> bool:
    """True for a line of names.

    Names may be numbers: pandas writes 0, 1, 2, ... for columns without names. Two columns with 0
    and 1 are taken for an example.
    """
    counted = [str(number) for number in range(len(cells))]
    return not all(map(_is_number, cells)) or (len(cells) > 2 and cells == counted)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(
    path: str, line: int, cells: list[str], header: list[str] | None, width: int
) -> list[float]:
    if len(cells) != width:
        raise ValueError(
            f"{path}, line {line}, has {len(cells)} columns, but the first line of numbers has "
            f"{width}."
        )
    for number, cell in enumerate(cells, 1):
        if not _is_number(cell):
            name = "" if header is None else f" ({header[number - 1]})"
            raise ValueError(
                f"{path}, line {line}, column {number}{name}: {cell!r} is not a number."
            )
    return list(map(float, cells))


def _column(path: str, targets: str | None, header: list[str] | None, width: int) -> int | None:
    """The index of the column of the targets, from 0 on; None if there is none."""
    if targets == "none":
        return None
    if targets is None:
        return width - 1
    if header is not None and len(header) != width:
        raise ValueError(
            f"{path}: the header has {len(header)} columns, but the first line of numbers has "
            f"{width}."
        )
    if header is not None and targets in header:
        return header.index(targets)
    if targets.isdecimal() and 1 <= int(targets) <= width:
        return int(targets) - 1
    names = " without names" if header is None else f"; their names are {', '.join(header)}"
    raise ValueError(f"--targets {targets}: {path} has no such column. It has {width}{names}.")
