"""A picture as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import files
from keras_surrogate.plots.axes import suffixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from keras_surrogate._types import PathLike


def save(
    drawn: Axes | Figure | Sequence[Axes] | np.ndarray, path: PathLike, dpi: float = 160
) -> None:
    """Writes a picture to a file, in the format of its suffix.

    The file is written completely or not at all.

    Args:
        drawn: the result of a function of `plots`: axes, or an array or list of axes of one figure;
            or a figure.
        path: the file, with a suffix such as .png, .pdf or .svg, in an existing folder.
        dpi: dots per inch, of formats such as .png; a positive number, default 160.

    Raises:
        TypeError: `drawn` is something else.
        ValueError: the axes belong to several figures, or there are none; matplotlib cannot write
            the suffix; the folder does not exist.
    """
    check(path)
    figure = _figure(drawn)
    with files.replacing_file(path) as unfinished:
        # "tight" includes what lies outside the figure, such as a legend beside the axes.
        figure.savefig(unfinished, dpi=dpi, bbox_inches="tight")


def check(path: PathLike) -> None:
    """Raises a ValueError if no picture can be written to `path`: its suffix or folder is wrong."""
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes():
        reason = f"the suffix {suffix} is unknown" if suffix else "it has no suffix"
        raise ValueError(
            f"{path} cannot be written as a picture: {reason}. Use one of {', '.join(suffixes())}."
        )
    files.check_writable(path)


def _figure(drawn: object) -> Figure:
    parts = list(np.ravel(np.asarray(drawn, dtype=object)))
    others = [part for part in parts if not hasattr(part, "figure")]
    if others:
        raise TypeError(
            "plots.save: drawn must be matplotlib axes, an array or list of axes, or a figure, "
            f"but is or holds {type(others[0]).__name__}. Pass the result of a function of plots."
        )
    # `.figure` of axes may be a SubFigure. `.figure` of a SubFigure is the Figure, and `.figure` of
    # a Figure is the Figure itself.
    figures = {id(part.figure.figure): part.figure.figure for part in parts}
    if len(figures) != 1:
        raise ValueError(
            f"plots.save: the axes must be of one figure, but are of {len(figures)}. Save the "
            "figures one by one."
        )
    return next(iter(figures.values()))
