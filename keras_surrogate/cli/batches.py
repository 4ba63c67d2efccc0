"""One batch for a saved model, from a data set or a file: options, and the arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import datasets
from keras_surrogate.checks import integer
from keras_surrogate.cli import arrays

if TYPE_CHECKING:
    import argparse

    import keras


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the model, --data, --targets and --batch, which `check` and `first` take."""
    parser.add_argument("model", help="the model's .keras file")
    names = ", ".join(datasets.names())
    parser.add_argument(
        "--data", required=True, help=f"a data set ({names}), or a file: {arrays.HELP}"
    )
    parser.add_argument("--targets", help=arrays.TARGETS_HELP)
    parser.add_argument(
        "--batch",
        type=int,
        default=256,
        help="number of examples, from the beginning of the data (default: 256)",
    )


def check(options: dict[str, Any]) -> None:
    """Raises a ValueError if --batch is no number of examples."""
    integer(options["batch"], "--batch")


def first(options: dict[str, Any], model: keras.Model) -> tuple[Any, np.ndarray | None]:
    """The first examples, and their targets or None.

    Data sets and rows of a .csv get the shape of the model's input.
    """
    data = options["data"]
    size = options["batch"]
    suffix = Path(data).suffix
    if suffix in arrays.SUFFIXES:
        names = _input_names(model)
        x, y = arrays.read(data, options["targets"], size, names)
        if suffix == ".csv":
            x = _fitted(x, model)
        elif isinstance(x, list) and _has_dictionary(model):
            x = dict(zip(names, x, strict=False))
        return x, y
    if options["targets"] is not None:
        raise ValueError("--targets goes with a file; a data set has its own targets.")
    loaded = datasets.load(data)
    return _fitted(loaded.x_train[:size], model), loaded.y_train[:size]


def _input_names(model: keras.Model) -> list[str]:
    """The names of the model's inputs; empty for a subclassed model without symbolic inputs."""
    if _has_dictionary(model):
        return sorted(model.input)
    return [tensor.name for tensor in getattr(model, "inputs", None) or []]


def _has_dictionary(model: keras.Model) -> bool:
    """True if the model's inputs are a dictionary."""
    return isinstance(getattr(model, "input", None), dict)


def _fitted(x: np.ndarray, model: keras.Model) -> np.ndarray:
    """The examples in the shape of the model's input, if it is known and the sizes agree."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:]:
        return x
    if np.prod(shape[1:]) != np.prod(x.shape[1:]):
        return x
    return x.reshape(-1, *shape[1:])
