"""A picture as a file, whole or not at all."""

from pathlib import Path

import numpy as np

from keras_surrogate import files
from keras_surrogate.plots.axes import suffixes


def save(drawn, path, dpi=160):
    """Writes a picture to a file, in the format that its suffix names; the file appears whole or not at all.

    Args:
        drawn: what a function of `plots` returned: an axis, or an array or list of axes of one
            figure; or a figure.
        path: the file, with a suffix such as .png, .pdf or .svg, in an existing folder.
        dpi: dots per inch of a picture made of dots; a positive number, default 160.

    Raises:
        TypeError: `drawn` is something else.
        ValueError: the axes are of several figures, or of none; matplotlib cannot write such a
            suffix; there is no such folder.
    """
    check(path)
    figure = _figure(drawn)
    with files.replacing_file(path) as unfinished:
        # "tight" widens the picture for what sticks out of the figure, such as a legend beside the
        # axis.
        figure.savefig(unfinished, dpi=dpi, bbox_inches="tight")


def check(path):
    """Raises a ValueError if no picture can be written to `path`: its suffix, or its folder."""
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes():
        what = f"the suffix {suffix} is unknown" if suffix else "it has no suffix"
        raise ValueError(
            f"{path} cannot be written as a picture: {what}. Use one of {', '.join(suffixes())}."
        )
    files.check_writable(path)


def _figure(drawn):
    parts = list(np.ravel(np.asarray(drawn, dtype=object)))
    strangers = [part for part in parts if not hasattr(part, "figure")]
    if strangers:
        raise TypeError(
            "plots.save: drawn must be an axis, an array or list of axes, or a figure, "
            f"but is or holds {type(strangers[0]).__name__}. Pass what a function of plots returned."
        )
    # The first .figure of an axis may be a SubFigure, whose .figure is the figure, which is its own
    # .figure.
    figures = {id(part.figure.figure): part.figure.figure for part in parts}
    if len(figures) != 1:
        raise ValueError(
            f"plots.save: the axes must be of one figure, but are of {len(figures)}. Save each by a call of its own."
        )
    return next(iter(figures.values()))
