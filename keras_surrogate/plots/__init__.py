"""Pictures. Every function takes data and an axis, or makes one, and returns the axis. Needs matplotlib.

    ax = plots.gradient_flow(logger)
    plots.save(ax, "flow.png")

Those with several panels, `overview` and `comparison`, return an array of axes, which `save` takes
as well. In a notebook a cell shows the picture by itself, once.
"""

from keras_surrogate.plots.comparison import accuracies, comparison, predicted_against_measured
from keras_surrogate.plots.diagnosis import diagnosis
from keras_surrogate.plots.pairs import surrogate
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
from keras_surrogate.plots.tanh import tanh_thresholds
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

__all__ = [
    "accuracies",
    "comparison",
    "dead_units",
    "diagnosis",
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
    "save",
    "surrogate",
    "tanh_thresholds",
    "two_state_chain",
    "uniform_products",
    "vanishing_rates",
]
