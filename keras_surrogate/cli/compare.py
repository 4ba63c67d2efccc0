"""`keras-surrogate compare`: a grid of trainings, resumed where it was stopped, and its table."""

import dataclasses
from pathlib import Path

from keras_surrogate import comparison, files
from keras_surrogate.cli import console

_HELPS = {
    "data": "digits, fashion-mnist, mnist, cifar10",
    "network": "mlp or vgg",
    "depth": "hidden layers, or convolutions",
    "width": "units of each, or channels of the first",
    "forward": "functions that give the value",
    "backward": 'functions that give the slope; "true" is the forward\'s own; also leaky_relu:0.3, "4*true"',
    "balanced": "whether the slope is scaled so that gradients keep their size",
    "initializer": 'of hidden kernels, by Keras\'s name, or "critical"',
    "bias": "initial biases of hidden layers",
    "normalization": "none, batch, layer",
    "residual": "whether hidden layers are x + f(W x + b)",
    "optimizer": "Keras's name and the learning rate: sgd:0.01 adam:0.001",
    "layer_rate": "factor of the learning rate for each layer further from the output",
    "annealing": "share of the steps after which the slope is the true one; 0 for never",
    "epochs": "passes over the training images",
    "batch_size": "images in a step",
    "images": "how many training images; 0 for all",
    "validation": "share of them held out, to choose learning rates by",
}


def add(commands):
    parser = commands.add_parser(
        "compare",
        help="train a grid of derivatives, depths, optimizers, ... and tabulate what helps",
        description="Trains all combinations of what is given, each from several seeds with the same initial weights "
        "and data order, and compares each slope with the true one. Each finished training is a line in the output; "
        "after an interruption the same command goes on. Beside OUTPUT.jsonl it writes OUTPUT.md, "
        "OUTPUT-accuracy.png and, where there are predictions, OUTPUT-theory.png.",
    )
    parser.set_defaults(command=_compare)
    parser.add_argument(
        "grid",
        nargs="?",
        help="a Python file that defines grid = comparison.Grid(...), in place of the options from --data to "
        "--seeds. Its code is run as it is: name only files that you trust",
    )
    for field in dataclasses.fields(comparison.Case):
        _add_axis(parser, field)
    parser.add_argument("--seeds", type=int, help="trainings of each combination (default: 5)")
    parser.add_argument(
        "--output",
        required=True,
        help="the file of results, .jsonl; runs of other grids in it are kept",
    )
    parser.add_argument("--data-dir", help="a folder with the data's files")
    parser.add_argument(
        "--tune", action="store_true", help="of each slope show the best learning rate only"
    )
    parser.add_argument(
        "--show", action="store_true", help="train nothing, show what the output holds of the grid"
    )


def _add_axis(parser, field):
    flag, kind, default = "--" + field.name.replace("_", "-"), type(field.default), field.default
    choices = (
        {"type": _yes_or_no, "metavar": "yes|no"}
        if kind is bool
        else {"type": kind, "metavar": "VALUE"}
    )
    default = ("yes" if default else "no") if kind is bool else default
    parser.add_argument(
        flag,
        nargs="+",
        help=f"{_HELPS[field.name]} (default: {default})".replace("%", "%%"),
        **choices,
    )


def _yes_or_no(text):
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


_yes_or_no.__name__ = "answer, yes or no"


def _compare(options):
    grid = _grid(options)
    output = Path(options["output"])
    if output.suffix != ".jsonl":
        raise ValueError(
            f"{output}: the output must be a .jsonl file; the table goes into a .md file beside it."
        )
    for path in (output, *_written(output).values()):
        files.check_writable(path)
    if options["tune"] and not all(case.validation for case in grid.cases):
        raise ValueError("--tune chooses learning rates on images held out: give --validation 0.1.")
    finished = (
        _shown(grid, output)
        if options["show"]
        else comparison.run(grid, output, options["data_dir"])
    )
    rows = comparison.summarize(grid, finished.runs, options["tune"])
    if not rows:
        print("No training is finished yet.")
    else:
        _print(rows, grid, finished)
        _write(rows, output)
    return 130 if finished.interrupted else 0


def _grid(options):
    axes = {field.name: options[field.name] for field in dataclasses.fields(comparison.Case)}
    axes = {
        name: values
        for name, values in {**axes, "seeds": options["seeds"]}.items()
        if values is not None
    }
    if options["grid"] is None:
        return comparison.Grid(**axes)
    if axes:
        given = ", ".join("--" + name.replace("_", "-") for name in axes)
        raise ValueError(
            f"{options['grid']} says what the grid is; leave out {given}, or the file."
        )
    return comparison.load_grid(options["grid"])


def _shown(grid, output):
    runs = comparison.read(output)
    return comparison.Finished(
        {key: runs[key] for key in grid.runs if key in runs}, interrupted=False
    )


def _print(rows, grid, finished):
    table = comparison.table(rows)
    terminal = console.console()
    # Wider than the terminal rather than with numbers cut in two.
    terminal.width = max(terminal.width, console.needed(table))
    terminal.print(table)
    if len(finished.runs) < len(grid):
        print(
            f"{len(finished.runs)} of {len(grid)} trainings are finished; the same command goes on."
        )


def _written(output):
    """The files beside OUTPUT.jsonl."""
    return {
        "table": output.with_suffix(".md"),
        "accuracy": output.with_name(f"{output.stem}-accuracy.png"),
        "theory": output.with_name(f"{output.stem}-theory.png"),
    }


def _write(rows, output):
    paths = _written(output)
    names = ["table"]
    with files.replacing_file(paths["table"]) as unfinished:
        unfinished.write_text(comparison.markdown(rows), encoding="utf-8")
    try:
        from keras_surrogate import plots
    except ImportError as error:
        print(f"No pictures: {error}")
    else:
        for name, drawn in _drawings(rows, plots).items():
            plots.save(drawn, paths[name], dpi=100)
            names.append(name)
    print(f"Written: {', '.join(paths[name].name for name in names)}, beside {output}.")


def _drawings(rows, plots):
    drawings = {"accuracy": plots.comparison(rows)}
    if any(row.predicted_gradient_ratio is not None for row in rows):
        drawings["theory"] = plots.predicted_against_measured(rows)
    return drawings
