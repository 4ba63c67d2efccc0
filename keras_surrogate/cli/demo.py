"""`keras-surrogate demo`."""

import argparse
import dataclasses

from keras_surrogate import datasets, demo
from keras_surrogate.cli import console


def add(commands):
    parser = commands.add_parser(
        "demo",
        help="train a deep network with the true derivative and with a surrogate, and compare",
        description="Trains a classifier twice from the same start, prints a table, writes a picture and both models.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(command=_demo)
    helps = {
        "data": f"the data set: {', '.join(datasets.names())}",
        "data_dir": "a folder with the data's files",
        "epochs": "passes over the training images",
        "depth": "hidden layers",
        "width": "units in each hidden layer",
        "forward": "the activation's function",
        "backward": "the function whose slope the backward pass takes",
        "scale": "multiplies that slope",
        "learning_rate": "of plain SGD",
        "batch_size": "images in a step",
        "seed": "fixes initial weights and data order",
        "output": "the folder to write to",
    }
    for field in dataclasses.fields(demo.Settings):
        flag = "--" + field.name.replace("_", "-")
        kind = str if field.default is None else type(field.default)
        parser.add_argument(flag, type=kind, default=field.default, help=helps[field.name])


def _demo(options):
    runs = demo.run(demo.Settings(**options), console.console())
    return 130 if runs[-1].interrupted else 0
