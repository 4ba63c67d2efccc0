"""The command line: `keras-surrogate demo` and its kin. A thin face; mistakes end with one line and status 2."""

import argparse
import dataclasses
import sys

from keras_surrogate import __version__, datasets, demo


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs the command line and returns its exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        return command(options)
    except ValueError as error:
        print(f"keras-surrogate: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = _Parser(
        prog="keras-surrogate", description="Artificial derivatives for TensorFlow/Keras, with their gradients."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_demo(commands)
    return parser


def _add_demo(commands):
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
    runs = demo.run(demo.Settings(**options))
    return 130 if runs[-1].interrupted else 0
