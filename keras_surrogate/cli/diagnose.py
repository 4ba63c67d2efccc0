"""`keras-surrogate diagnose`: the diagnosis of a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import datasets
from keras_surrogate.checks import integer
from keras_surrogate.cli import arrays, console, loading, outputs

if TYPE_CHECKING:
    import keras

_KEYS = (
    "of Diagnosis.to_dict(): model, the name; batch, facts about the inputs; rows, a list with the "
    "fields of diagnosis.Row for each layer; findings, a list with the fields of diagnosis.Finding"
)


def add(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "diagnose",
        help="find out what hinders the training of a saved model",
        description="Examines a saved model on one batch, without training it: signal, dead and "
        "saturated units, gradients, their direction, and the size of the next optimizer step. "
        "Prints the findings layer by layer, with advice. If the model is compiled and the data "
        "has targets, the gradients are those of its loss.",
    )
    parser.set_defaults(command=_diagnose)
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
    parser.add_argument(
        "--plot", metavar="FILE", help="also draw signal and gradients of each layer to this file"
    )
    parser.add_argument(
        "--depth",
        type=int,
        default=1,
        help="levels of layers within layers, such as the blocks of a transformer, that get rows "
        "of their own (default: 1, none)",
    )
    console.add_json(parser, _KEYS)
    loading.add_options(parser)


def _diagnose(options: dict[str, Any]) -> int:
    integer(options["batch"], "--batch")
    outputs.check_picture(options["plot"])
    model = loading.loaded(options["model"], options)
    x, y = _batch(options, model)
    from keras_surrogate import diagnosis

    has_loss = model.compiled and model.loss is not None
    y = y if has_loss else None
    with console.status(f"Examining {options['model']}"):
        result = diagnosis.diagnose(model, x, y, depth=options["depth"])
    if options["json"]:
        console.print_json(result.to_dict())
    else:
        result.print(console.console())
    if options["plot"]:
        outputs.write_picture(
            lambda plots: plots.diagnosis(result), options["plot"], quiet=options["json"]
        )
    return 0


def _batch(options: dict[str, Any], model: keras.Model) -> tuple[Any, np.ndarray | None]:
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
