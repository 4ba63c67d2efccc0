"""Simulations on many small networks: how often gradients vanish, and when they recover.

    gradient_sample      gradients of random networks, with `shares` and `joint_histogram`
    vanishing_rates      the same over a range of weight variances, and thus of pre-activations
    training_paths       gradients during training; `two_state_chain` fits a Markov chain to them
    gradient_map         from each initial weight and bias of a chain to its gradient at the end
    uniform_products     products of uniform random numbers, and `uniform_product_probability`

All of them take any `Surrogate`, except the last, and return arrays that depend only on the
arguments. The files: `networks` draws and differentiates a batch of networks, `gradients` samples
it, `training` trains it, `maps` trains chains, and `products` stands alone; `checks` has the
arguments' checks.
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
