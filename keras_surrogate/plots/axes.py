"""The axis to draw on. The only module that imports matplotlib."""

try:
    import matplotlib.pyplot as plt
except ImportError as error:
    raise ImportError('Plots need matplotlib: python -m pip install "keras_surrogate[examples]".') from error


def axis(ax):
    """The given axis, or a new one with a figure of its own."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def colors(count, low=0.0, high=0.9):
    """So many colours in order, from dark to light."""
    step = (high - low) / max(1, count - 1)
    return [plt.get_cmap("viridis")(low + step * index) for index in range(count)]
