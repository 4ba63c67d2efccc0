"""The axis to draw on. The only module that imports matplotlib."""

import numpy as np

try:
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureCanvasBase
except ImportError as error:
    raise ImportError("Plots need matplotlib: python -m pip install matplotlib.") from error


def axis(ax, height=4.8):
    """The given axis, or a new one with a figure of its own, so many inches high."""
    return plt.subplots(figsize=(6.4, height), layout="constrained")[1] if ax is None else ax


def panels(count, columns=2):
    """An array of so many axes of a new figure, row by row, each with room of its own for legends and colour bars."""
    rows = -(-count // columns)
    figure = plt.figure(figsize=(7.2 * columns, 4.2 * rows), layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False).flat
    return np.array([part.add_subplot() for part, _ in zip(parts, range(count), strict=False)])


def suffixes():
    """The suffixes of the files that a picture can be written to; not .pgf, which needs LaTeX."""
    return sorted(
        f".{name}" for name in FigureCanvasBase.get_supported_filetypes() if name != "pgf"
    )


def colors(count, low=0.0, high=0.9):
    """So many colours in order, from dark to light."""
    step = (high - low) / max(1, count - 1)
    return [plt.get_cmap("viridis")(low + step * index) for index in range(count)]


def map_colors():
    """For values from low to high, from dark to light; white for what is below, red for what is no number."""
    return plt.get_cmap("viridis").with_extremes(under="white", bad="tab:red")
