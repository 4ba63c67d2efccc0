"""`keras-surrogate compare`: a grid of trainings, which can be interrupted, and its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_surrogate import comparison, files
from keras_surrogate.cli import console, outputs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

    import numpy as np

_HELPS = {
    "data": "data set: digits, fashion-mnist, mnist or cifar10",
    "network": "mlp (dense layers), vgg or resnet (convolutions), spiking (dense layers and LIF)",
    "depth": "number of hidden layers; for vgg, of convolutions",
    "width": "units in each hidden layer; for vgg, channels of the first convolution",
    "forward": "functions whose value is used",
    "backward": "functions whose slope is used; true is the forward's own slope; with a parameter, "
    "leaky_relu:0.3; with a factor, 4*true; with the scales of calibrate, calibrated*bsilu",
    "balanced": "yes to scale the slope so that gradients keep their size",
    "initializer": 'initializer of the hidden kernels: a Keras name, "critical", or variance:3 '
    "for 3 / fan_in",
    "bias": "initial biases of the hidden layers",
    "normalization": "none, batch or layer; batch:0.9 with the momentum of its moving averages",
    "residual": "yes for hidden layers x + f(W x + b)",
    "optimizer": "optimizer and learning rate: sgd:0.01 momentum:0.01 adam:0.001",
    "layer_rate": "factor of the learning rate for each layer away from the output",
    "annealing": "share of the training after which the slope is the true one; 0 for never",
    "epochs": "passes over the training images",
    "batch_size": "images in a batch",
    "images": "number of training images; 0 for all",
    "validation": "share of the training images that is held out, to choose learning rates",
}


def add(commands: console.Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="train many combinations of derivatives and settings, and print a table",
        description="Trains all combinations of the given values, each from several seeds, and "
        "compares each slope to the true one. Both start from the same initial weights and see the "
        "data in the same order. Each finished training is appended to the output file; after an "
        "interruption the same command continues. With --output results.jsonl it also writes "
        "results.md, results-accuracy.png and, if there are predictions, results-theory.png. The "
        "exit status is 1 if trainings failed in a worker process.",
    )
    parser.set_defaults(command=_compare)
    parser.add_argument(
        "grid",
        nargs="?",
        help="a Python file that defines grid = comparison.Grid(...), instead of the options from "
        "--data to --seeds. Its code is executed: use only files that you trust",
    )
    for field in dataclasses.fields(comparison.Case):
        _add_axis(parser, field)
    parser.add_argument(
        "--seeds", type=int, help="number of trainings of each combination (default: 5)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="the .jsonl file of results; runs of other grids in it are kept",
    )
    parser.add_argument("--data-dir", metavar="FOLDER", help="a folder that contains the data set")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="NUMBER",
        default=1,
        help="number of processes that train, each with its share of the processor cores "
        "(default: 1). The results are the same",
    )
    parser.add_argument(
        "--tune", action="store_true", help="show only the best learning rate of each slope"
    )
    parser.add_argument(
        "--show", action="store_true", help="train nothing; show the results of the grid so far"
    )


def _add_axis(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
    flag = "--" + field.name.replace("_", "-")
    kind = type(field.default)
    default = field.default
    metavar = "VALUE"
    if kind is bool:
        kind = _yes_or_no
        default = "yes" if field.default else "no"
        metavar = "yes|no"
    # argparse formats helps with %.
    text = f"{_HELPS[field.name]} (default: {default})".replace("%", "%%")
    parser.add_argument(flag, nargs="+", type=kind, metavar=metavar, help=text)


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


# argparse prints it: "invalid answer, yes or no value".
_yes_or_no.__name__ = "answer, yes or no"


def _compare(options: dict[str, Any]) -> int:
    grid = _grid(options)
    output = Path(options["output"])
    outputs.check(output, ".jsonl")
    for path in _written(output).values():
        files.check_writable(path)
    if options["tune"] and not all(case.validation for case in grid.cases):
        raise ValueError("--tune chooses learning rates on images held out: give --validation 0.1.")
    finished = _finished(grid, output, options)
    rows = comparison.summarize(grid, finished.runs, options["tune"])
    if rows:
        _print(rows, grid, finished)
        _write(rows, output)
    else:
        print("No training is finished yet.")
    if finished.interrupted:
        return 130
    return 1 if finished.failed else 0


def _grid(options: dict[str, Any]) -> comparison.Grid:
    names = [*(field.name for field in dataclasses.fields(comparison.Case)), "seeds"]
    axes = {name: options[name] for name in names if options[name] is not None}
    if options["grid"] is None:
        return comparison.Grid(**axes)
    if axes:
        given = ", ".join("--" + name.replace("_", "-") for name in axes)
        raise ValueError(f"{options['grid']} defines the grid; leave out {given}, or the file.")
    return comparison.load_grid(options["grid"])


def _finished(grid: comparison.Grid, output: Path, options: dict[str, Any]) -> comparison.Finished:
    if not options["show"]:
        return comparison.run(grid, output, options["data_dir"], processes=options["processes"])
    runs = comparison.read(output)
    of_grid = {key: runs[key] for key in grid.runs if key in runs}
    return comparison.Finished(of_grid, interrupted=False)


def _print(
    rows: Sequence[comparison.CaseSummary], grid: comparison.Grid, finished: comparison.Finished
) -> None:
    table = comparison.table(rows)
    terminal = console.console()
    # A table wider than the terminal is better than numbers on two lines.
    terminal.width = max(terminal.width, console.needed(table))
    terminal.print(table)
    if len(finished.runs) < len(grid):
        print(
            f"{len(finished.runs)} of {len(grid)} trainings are finished; the same command "
            "continues."
        )


def _written(output: Path) -> dict[str, Path]:
    """The other files beside the .jsonl file."""
    return {
        "table": output.with_suffix(".md"),
        "accuracy": output.with_name(f"{output.stem}-accuracy.png"),
        "theory": output.with_name(f"{output.stem}-theory.png"),
    }


def _write(rows: Sequence[comparison.CaseSummary], output: Path) -> None:
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


def _drawings(
    rows: Sequence[comparison.CaseSummary], plots: ModuleType
) -> dict[str, Sequence[Any] | np.ndarray]:
    drawings = {"accuracy": plots.comparison(rows)}
    if any(row.predicted_gradient_ratio is not None for row in rows):
        drawings["theory"] = plots.predicted_against_measured(rows)
    return drawings
