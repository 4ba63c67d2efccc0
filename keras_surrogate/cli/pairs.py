"""`keras-surrogate list` and `keras-surrogate plot`: the collection."""

import dataclasses

from rich.console import Console
from rich.table import Table

from keras_surrogate import files, functions, presets, surrogate


def add(commands):
    _add_list(commands)
    _add_plot(commands)


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
        pairs.add_row(name, pair.forward.title, pair.slope_title)
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
