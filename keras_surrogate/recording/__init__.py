"""The path of a number out of the training step.

taps                 what a step shows while it is traced: gradients, updates, outputs of layers
applied              gradients that the updates are made with, stored from within the optimizer
quantities,          numbers from what a step shows, with one class for each quantity
output_quantities,
weight_quantities,
alignment_quantity,
spike_quantities,
unit_quantities
rehearsal            the train step without its update, to compare two gradients
norms                norms of tensors, and their totals for each layer
names, optimizers    layers and variables in the order of calls; optimizers and those within them
recorder             a second train function, which writes the numbers of each step into
buffers              rows that the host reads

The public classes are `callbacks.GradientNormLogger` for `fit` and `gradients.GradientNorms` for
custom training loops.
"""

# The imports define classes, which enters them into the collection of quantities.
from keras_surrogate.recording import alignment_quantity as alignment_quantity
from keras_surrogate.recording import output_quantities as output_quantities
from keras_surrogate.recording import spike_quantities as spike_quantities
from keras_surrogate.recording import unit_quantities as unit_quantities
from keras_surrogate.recording import weight_quantities as weight_quantities
