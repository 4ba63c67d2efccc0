"""How a number leaves the training step.

taps                 what a step shows while it is traced: gradients, updates, the outputs of layers
applied              what the updates are made with, stored from within the optimizer
quantities,          from what a step shows to numbers: one class for each quantity
output_quantities
norms, names         of tensors; of layers and variables, in the order of calls
recorder             a second train function that writes the numbers of each step into
buffers              which the host reads

`callbacks.GradientNormLogger` is the public face for `fit`, `gradients.GradientNorms` the one for
loops of one's own.
"""

# Its classes enter the collection of quantities by being defined.
from keras_surrogate.recording import output_quantities as output_quantities
