"""Keras layers that hold a surrogate.

activation     SurrogateActivation, for any surrogate; blend: the share that annealing changes
elementwise    the base of the others, which apply one surrogate to each element
rectifiers     RReLU with a random slope, SurrogatePReLU with a learned one; GuidedReLU and
               DeconvReLU, for pictures of gradients
fake_quantize  FakeQuantize, values of few levels within a moving range
gradient       GradientScale and GradientReversal, the identity with another gradient
step           SurrogateStep, a step at a learned threshold
weights        SurrogateWeights, any Keras layer with surrogates on its weights; weight_scales:
               what multiplies them; within: the layers within a layer
"""

from keras_surrogate.layers.activation import SurrogateActivation
from keras_surrogate.layers.fake_quantize import FakeQuantize
from keras_surrogate.layers.gradient import GradientReversal, GradientScale
from keras_surrogate.layers.rectifiers import DeconvReLU, GuidedReLU, RReLU, SurrogatePReLU
from keras_surrogate.layers.step import SurrogateStep
from keras_surrogate.layers.weights import SurrogateWeights

__all__ = [
    "DeconvReLU",
    "FakeQuantize",
    "GradientReversal",
    "GradientScale",
    "GuidedReLU",
    "RReLU",
    "SurrogateActivation",
    "SurrogatePReLU",
    "SurrogateStep",
    "SurrogateWeights",
]
