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

Spiking networks, over (batch, time, ...), in the order in which a signal travels:

encoders       ConstantCurrent, PoissonEncoder, LatencyEncoder, DeltaEncoder
over_time      OverTime, a layer without memory at all time steps at once
neurons        the equations of one time step; ranges: of their parameters; learned: as weights
neuron_layer   Spiking, for any neuron; time_loop: its loop
spiking        IF, LIF, SynapticLIF, ALIF, LI, each for one of these neurons
spiking_cell   SpikingCell, a neuron with recurrent weights, for keras.layers.RNN
firing         what the logger and the diagnosis ask of a spiking layer
readouts       SpikeCount, LastPotential, MaxPotential
"""

from keras_surrogate.layers import neurons
from keras_surrogate.layers.activation import SurrogateActivation
from keras_surrogate.layers.encoders import (
    ConstantCurrent,
    DeltaEncoder,
    LatencyEncoder,
    PoissonEncoder,
)
from keras_surrogate.layers.fake_quantize import FakeQuantize
from keras_surrogate.layers.gradient import GradientReversal, GradientScale
from keras_surrogate.layers.neuron_layer import Spiking
from keras_surrogate.layers.over_time import OverTime
from keras_surrogate.layers.readouts import LastPotential, MaxPotential, SpikeCount
from keras_surrogate.layers.rectifiers import DeconvReLU, GuidedReLU, RReLU, SurrogatePReLU
from keras_surrogate.layers.spiking import ALIF, IF, LI, LIF, SynapticLIF
from keras_surrogate.layers.spiking_cell import SpikingCell
from keras_surrogate.layers.step import SurrogateStep
from keras_surrogate.layers.weights import SurrogateWeights

__all__ = [
    "ALIF",
    "IF",
    "LI",
    "LIF",
    "ConstantCurrent",
    "DeconvReLU",
    "DeltaEncoder",
    "FakeQuantize",
    "GradientReversal",
    "GradientScale",
    "GuidedReLU",
    "LastPotential",
    "LatencyEncoder",
    "MaxPotential",
    "OverTime",
    "PoissonEncoder",
    "RReLU",
    "SpikeCount",
    "Spiking",
    "SpikingCell",
    "SurrogateActivation",
    "SurrogatePReLU",
    "SurrogateStep",
    "SurrogateWeights",
    "SynapticLIF",
    "neurons",
]
