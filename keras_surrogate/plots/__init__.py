"""Pictures. Each function takes data and matplotlib axes, and returns the axes. Needs matplotlib.

    ax = plots.gradient_flow(logger)
    plots.save(ax, "flow.png")

Without an argument `ax` a function makes a new figure. `overview`, `comparison` and
`predicted_against_measured` return an array of axes, which `save` accepts too.

Files, in the order in which data becomes a picture:
    runs.py            from a training run to arrays
    axes.py            new axes; the only import of matplotlib
    lines.py           many layers on the same axes
    training.py, alignment.py, spikes.py, units.py, surrogate.py, prediction.py, tanh_nx.py,
    simulation.py, diagnosis.py, comparison.py      the pictures, one file for each package that
                       they show
    saving.py          from a picture to a file
"""

from keras_surrogate.plots.alignment import alignment
from keras_surrogate.plots.comparison import accuracies, comparison, predicted_against_measured
from keras_surrogate.plots.diagnosis import diagnosis
from keras_surrogate.plots.prediction import prediction
from keras_surrogate.plots.saving import save
from keras_surrogate.plots.simulation import (
    gradient_distribution,
    gradient_map,
    joint_histogram,
    two_state_chain,
    uniform_products,
    vanishing_rates,
)
from keras_surrogate.plots.spikes import firing_rates, raster
from keras_surrogate.plots.surrogate import surrogate
from keras_surrogate.plots.tanh_nx import tanh_thresholds
from keras_surrogate.plots.training import (
    dead_units,
    gradient_flow,
    gradient_heatmap,
    gradient_histograms,
    gradient_norms,
    gradient_ratio,
    over_time,
    overview,
)
from keras_surrogate.plots.units import unit_scores

__all__ = [
    "accuracies",
    "alignment",
    "comparison",
    "dead_units",
    "diagnosis",
    "firing_rates",
    "gradient_distribution",
    "gradient_flow",
    "gradient_heatmap",
    "gradient_histograms",
    "gradient_map",
    "gradient_norms",
    "gradient_ratio",
    "joint_histogram",
    "over_time",
    "overview",
    "predicted_against_measured",
    "prediction",
    "raster",
    "save",
    "surrogate",
    "tanh_thresholds",
    "two_state_chain",
    "uniform_products",
    "unit_scores",
    "vanishing_rates",
]
