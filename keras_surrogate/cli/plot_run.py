"""`keras-surrogate plot-run`: the pictures of a recorded training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_surrogate import records
from keras_surrogate.cli import outputs

if TYPE_CHECKING:
    from keras_surrogate.cli.console import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "plot-run",
        help="draw the gradient norms that a GradientNormLogger has recorded",
        description="Draws all quantities that a GradientNormLogger has written to a file, each in "
        "its own panel.",
    )
    parser.set_defaults(command=_plot_run)
    parser.add_argument(
        "run", help="the file, CSV or NPZ; the CSV of a run that continues or was killed works too"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the picture to write (default: RUN with the suffix .png)"
    )


def _plot_run(options: dict[str, Any]) -> int:
    output = options["output"] or str(Path(options["run"]).with_suffix(".png"))
    outputs.check_picture(output)
    record = records.load(options["run"])
    outputs.write_picture(lambda plots: plots.overview(record), output, dpi=100)
    return 0
