"""`keras-surrogate plot-run`: what was recorded of a training run."""

from pathlib import Path

from keras_surrogate import records
from keras_surrogate.cli import pictures


def add(commands):
    parser = commands.add_parser(
        "plot-run",
        help="draw what a GradientNormLogger has recorded",
        description="Draws everything that a file of GradientNormLogger holds, each quantity in a panel of its own.",
    )
    parser.set_defaults(command=_plot_run)
    parser.add_argument(
        "run", help="the file, CSV or NPZ; also the CSV of a run that still goes on or was killed"
    )
    parser.add_argument(
        "--output", help="the picture's file (default: RUN with .png in place of .csv or .npz)"
    )


def _plot_run(options):
    output = options["output"] or str(Path(options["run"]).with_suffix(".png"))
    pictures.check(output)
    record = records.load(options["run"])
    from keras_surrogate import plots

    pictures.write(plots.overview(record), output, dpi=100)
    return 0
