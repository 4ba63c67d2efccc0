"""Inputs and targets from files: .npz, .npy and .csv."""

import csv
import itertools
import zipfile
from pathlib import Path

import numpy as np

HELP = (
    ".npz with the array x, or for several inputs x_0, x_1, ... or arrays called as the model's inputs, and, if there "
    "are targets, y; .npy with x alone; .csv of numbers, a row an example, with or without a header line, whose last "
    "column is the target"
)
TARGETS_HELP = (
    "other targets than those in DATA: a file .npy; of a .csv the name of a column, or its number "
    "from 1 on; or none"
)
SUFFIXES = (".npz", ".npy", ".csv")


def read(path, targets, size, inputs):
    """The first examples of a file, and their targets.

    Args:
        path: the file, with one of `SUFFIXES`.
        targets: what `TARGETS_HELP` says; None for those in the file.
        size: how many examples.
        inputs: the names of the model's inputs; empty if they have none.

    Returns:
        The inputs, an array or a list of arrays, and the targets, None where there are none.

    Raises:
        ValueError: the file is missing or holds something else than numbers; there are no such
            targets.
    """
    suffix = Path(path).suffix
    from_file = targets is not None and targets.endswith(".npy")
    if targets not in (None, "none") and not from_file and suffix != ".csv":
        raise ValueError(
            f"--targets {targets}: only a .csv has columns; name a file .npy, or none."
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


def _first(arrays, size, path):
    if isinstance(arrays, list):
        return [_first(array, size, path) for array in arrays]
    if not np.issubdtype(arrays.dtype, np.number) and arrays.dtype != bool:
        raise ValueError(f"{path} holds no numbers, but {arrays.dtype}.")
    return np.atleast_1d(arrays)[:size]


def _from_npy(path):
    return _opened(path, np.ndarray, "an .npy file of one array of numbers")


def _from_npz(path, inputs):
    arrays = _opened(path, np.lib.npyio.NpzFile, "an .npz file of numbers")
    x = _named(arrays, "x")
    if x is None and inputs and all(name in arrays for name in inputs):
        x = [arrays[name] for name in inputs]
    if x is None:
        further = (
            f" With several inputs: x_0, x_1, ... or {', '.join(inputs)}."
            if len(inputs) > 1
            else ""
        )
        raise ValueError(
            f"{path} has the arrays {sorted(arrays)}, but none that is called x: np.savez({path!r}, x=x, y=y).{further}"
        )
    return x, _named(arrays, "y")


def _opened(path, kind, description):
    """What `np.load` finds: an array, or a dictionary of arrays."""
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


def _named(arrays, name):
    """The array of that name, or the list of those called name_0, name_1, ...; None where there are none."""
    if name in arrays:
        return arrays[name]
    numbered = itertools.takewhile(
        arrays.__contains__, (f"{name}_{number}" for number in itertools.count())
    )
    return [arrays[one] for one in numbered] or None


def _from_csv(path, targets, size):
    header, lines = _lines(path, size)
    width = len(lines[0][1])
    place = _column(path, targets, header, width)
    numbers = np.array(
        [_numbers(path, number, cells, header, width) for number, cells in lines], "float32"
    )
    if place is None:
        return numbers, None
    if width == 1:
        raise ValueError(
            f"{path} has one column only, which is the target: give --targets none if it is the input."
        )
    return np.delete(numbers, place, axis=1), numbers[:, place]


def _lines(path, size):
    """The header, None where the first line holds numbers, and the lines to be used: pairs of number and cells."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            # One more than the examples, for the header.
            filled = (
                (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)
            )
            lines = list(itertools.islice(filled, size + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a .csv file: {error}") from error
    has_header = bool(lines) and not all(map(_is_number, lines[0][1]))
    header = lines[0][1] if has_header else None
    examples = lines[1:] if has_header else lines[:size]
    if not examples:
        raise ValueError(f"{path} holds no line of numbers.")
    return header, examples


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path, line, cells, header, width):
    if len(cells) != width:
        raise ValueError(
            f"{path}, line {line}, has {len(cells)} columns, but the first line of numbers has {width}."
        )
    for number, cell in enumerate(cells, 1):
        if not _is_number(cell):
            column = (
                f"column {number}" if header is None else f"column {number} ({header[number - 1]})"
            )
            raise ValueError(f"{path}, line {line}, {column}: {cell!r} is not a number.")
    return list(map(float, cells))


def _column(path, targets, header, width):
    """The place of the targets' column, from 0 on; None for none."""
    if targets == "none":
        return None
    if targets is None:
        return width - 1
    if header is not None and len(header) != width:
        raise ValueError(
            f"{path}: the header has {len(header)} columns, but the first line of numbers has {width}."
        )
    if header is not None and targets in header:
        return header.index(targets)
    if targets.isdecimal() and 1 <= int(targets) <= width:
        return int(targets) - 1
    names = f"; their names are {', '.join(header)}" if header is not None else " without names"
    raise ValueError(f"--targets {targets}: {path} has no such column. It has {width}{names}.")
