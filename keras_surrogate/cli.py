"""The command line: `keras-surrogate demo` and its kin. A thin face; mistakes end with one line and status 2."""

import argparse
import dataclasses
import sys

from rich.console import Console
from rich.table import Table

from keras_surrogate import __version__, datasets, demo, files, functions, presets, surrogate


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs the command line and returns its exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        return command(options)
    except (ValueError, ImportError) as error:
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
    for add in (_add_demo, _add_list, _add_plot):
        add(commands)
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


def _add_list(commands):
    parser = commands.add_parser("list", help="print the collection of functions and the published pairs")
    parser.set_defaults(command=_list)


def _list(options):
    collection = Table("function", "value", "defaults", "source", title="Functions", show_lines=True)
    for name in functions.names():
        function = functions.get(name)
        defaults = [f"{field.name}={getattr(function, field.name)}" for field in dataclasses.fields(function)]
        collection.add_row(name, function.documented("value"), ", ".join(defaults), function.documented("Source"))
    pairs = Table("preset", "value of", "slope of", title="Published pairs")
    for name in presets.names():
        pair = presets.get(name)
        backward = pair.backward.title
        scaled = backward if pair.scale == 1 else f"{pair.scale:g} * {backward}"
        pairs.add_row(name, pair.forward.title, scaled)
    Console().print(collection, pairs)
    return 0


def _add_plot(commands):
    parser = commands.add_parser("plot", help="draw value, true slope and surrogate slope of a pair")
    parser.set_defaults(command=_plot)
    parser.add_argument("forward", help="the function that gives the value, or the name of a published pair")
    parser.add_argument("backward", nargs="?", help="the function whose slope the backward pass takes")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies that slope (default: 1)")
    parser.add_argument("--output", help="the picture's file (default: FORWARD-BACKWARD.png)")


def _plot(options):
    forward, backward = options["forward"], options["backward"]
    pair = presets.get(forward) if backward is None else surrogate.Surrogate(forward, backward)
    output = options["output"] or "-".join(filter(None, [forward, backward])) + ".png"
    from keras_surrogate import plots

    ax = plots.surrogate(pair.scaled(options["scale"]))
    with files.replacing_file(output) as unfinished:
        ax.figure.savefig(unfinished, dpi=160)
    print(f"Written to {output}.")
    return 0
