"""`keras-surrogate demo`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_surrogate import datasets, demo
from keras_surrogate.cli import console

if TYPE_CHECKING:
    from keras_surrogate.cli.console import Commands

_HELPS = {
    "data": f"the data set, one of {', '.join(datasets.names())}",
    "data_dir": "a folder that contains the data set; without it the data is found or downloaded",
    "epochs": "passes over the training images",
    "depth": "number of hidden layers",
    "width": "units in each hidden layer",
    "forward": "the activation, i.e. the function whose value is used",
    "backward": "the function whose slope the surrogate network uses in the backward pass",
    "scale": "a factor of that slope",
    "learning_rate": "learning rate of plain SGD",
    "batch_size": "images in a batch",
    "seed": "determines the initial weights and the order of the data",
    "output": "the folder to write to",
}


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="train a deep network with its true derivative and with a surrogate",
        description="Trains a deep classifier twice from the same initial weights: with its true "
        "derivative and with a surrogate. Prints a table of accuracies and gradient norms, and "
        "writes a picture, the norms and the model of the surrogate.",
    )
    parser.set_defaults(command=_demo)
    for field in dataclasses.fields(demo.Settings):
        flag = "--" + field.name.replace("_", "-")
        kind = str
        text = _HELPS[field.name]
        if field.default is not None:
            kind = type(field.default)
            text = f"{text} (default: {field.default})"
        parser.add_argument(flag, type=kind, default=field.default, help=text)


def _demo(options: dict[str, Any]) -> int:
    runs = demo.run(demo.Settings(**options), console.console())
    return 130 if runs[-1].interrupted else 0
