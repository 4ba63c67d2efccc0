"""New axes, colours and file formats. The only module of this package that imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

try:
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureCanvasBase
except ImportError as error:
    raise ImportError("Plots need matplotlib: python -m pip install matplotlib.") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


def axis(ax: Axes | None, height: float = 4.8) -> Axes:
    """Returns `ax`, or the axes of a new figure, `height` inches high, where it is None."""
    if ax is not None:
        return ax
    _, new = plt.subplots(figsize=(6.4, height), layout="constrained")
    return new


def panels(count: int, columns: int = 2) -> np.ndarray:
    """Returns an array of `count` axes of a new figure, row by row, shape (count,).

    Each has a subfigure of its own, with room for a legend or a colour bar.
    """
    rows = -(-count // columns)  # count / columns, rounded up
    figure = plt.figure(figsize=(7.2 * columns, 4.2 * rows), layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).flat
    return np.array([part.add_subplot() for part, _ in zip(parts, range(count), strict=False)])


def suffixes() -> list[str]:
    """Lists the suffixes of the picture formats, sorted, such as ".png"."""
    names = set(FigureCanvasBase.get_supported_filetypes())
    # matplotlib needs LaTeX to write .pgf.
    return sorted(f".{name}" for name in names - {"pgf"})


def colors(count: int, low: float = 0.0, high: float = 0.9) -> list[tuple[float, ...]]:
    """Lists `count` colours in order, from dark to light."""
    step = (high - low) / max(1, count - 1)
    return [plt.get_cmap("viridis")(low + step * index) for index in range(count)]


def map_colors() -> Colormap:
    """The colours of a map, from dark to light; white below the range, red for NaN."""
    return plt.get_cmap("viridis").with_extremes(under="white", bad="tab:red")
