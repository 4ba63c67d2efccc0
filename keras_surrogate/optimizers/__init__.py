"""Optimizers: for weights of few levels, and with a learning rate for each layer.

bop           `Bop` flips the signs of binary weights
layer_rates   `LayerRates` multiplies the learning rate of each layer, around any Keras optimizer
"""

from keras_surrogate.optimizers.bop import Bop
from keras_surrogate.optimizers.layer_rates import LayerRates

__all__ = ["Bop", "LayerRates"]
