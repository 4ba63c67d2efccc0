"""Simulations on many small real networks: how often gradients vanish, from which start, and whether they come back.

    gradient_sample      gradients of random networks at their start; `shares` counts, `joint_histogram` relates them
    vanishing_rates      the same over a range of weight variances, and thus of pre-activations
    training_paths       gradients while networks train; `two_state_chain` fits a Markov chain to them
    gradient_map         from each initial weight and bias of a chain to its gradient at the end, and the way there
    uniform_products     products of uniform random numbers, with `uniform_product_probability`, the exact one

All of them take any `Surrogate`, but for the last, and return arrays that depend on nothing but the
arguments.
"""

from keras_surrogate.simulation.gradients import (
    GradientSample,
    JointHistogram,
    Shares,
    VanishingRates,
    gradient_sample,
    joint_histogram,
    shares,
    vanishing_rates,
)
from keras_surrogate.simulation.maps import GradientMap, gradient_map
from keras_surrogate.simulation.products import (
    uniform_product_density,
    uniform_product_probability,
    uniform_products,
)
from keras_surrogate.simulation.training import (
    TrainingPaths,
    TwoStateChain,
    training_paths,
    two_state_chain,
)

__all__ = [
    "GradientMap",
    "GradientSample",
    "JointHistogram",
    "Shares",
    "TrainingPaths",
    "TwoStateChain",
    "VanishingRates",
    "gradient_map",
    "gradient_sample",
    "joint_histogram",
    "shares",
    "training_paths",
    "two_state_chain",
    "uniform_product_density",
    "uniform_product_probability",
    "uniform_products",
    "vanishing_rates",
]
