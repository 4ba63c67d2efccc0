"""`keras-surrogate plot-run`: what was recorded of a training run."""

import sys
import warnings
from pathlib import Path

from keras_surrogate import files, records


def add(commands):
    parser = commands.add_parser(
        "plot-run",
        help="draw what a GradientNormLogger has recorded",
        description="Draws everything that a file of GradientNormLogger holds, each quantity in a panel of its own.",
    )
    parser.set_defaults(command=_plot_run)
    parser.add_argument("run", help="the file, CSV or NPZ; also the CSV of a run that still goes on or was killed")
    parser.add_argument("--output", help="the picture's file (default: RUN with .png in place of .csv or .npz)")


def _plot_run(options):
    output = options["output"] or str(Path(options["run"]).with_suffix(".png"))
    files.check_writable(output)
    record = _load(options["run"])
    from keras_surrogate import plots

    figure = plots.overview(record)
    with files.replacing_file(output) as unfinished:
        figure.savefig(unfinished, dpi=100)
    print(f"Written to {output}.")
    return 0


def _load(path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = records.load(path)
    for warning in caught:
        print(f"keras-surrogate: warning: {warning.message}", file=sys.stderr)
    return record
