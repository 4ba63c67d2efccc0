"""From where on a number is a fault, and why there. The one place: for diagnosis, theory, alerts and pictures."""

# First over last gradient norm. Plain SGD does not learn where it is smaller: in the README's table 1.1e-3 and 6.2e-3
# learn nothing, 0.6 and more do. Healthy networks have 0.1 and more.
VANISHING = 1e-2
# Optimizers that rescale gradients (Adam) learn down to about AUTOTRAINER's bound (Zhang et al. 2021,
# doi:10.1109/ICSE43902.2021.00043), only more slowly.
VANISHING_RESCALED = 1e-3
# AUTOTRAINER's. B-SiLU's slope on twenty ReLU layers has 170, and diverges under SGD.
EXPLODING = 70.0
# With batch normalisation the gradient grows in each layer (Yang et al. 2019, arXiv:1902.08129), and what is normalised
# bears it, since its gradient falls as its weights grow: ResNet50 starts at 40 to 110.
EXPLODING_NORMALISED = 1e3
# Share of units that are 0 for the whole batch; AUTOTRAINER's. For one input half are off, so that in deep networks,
# where inputs become alike, up to a half are off for all: 0.5 measured at 30 layers.
DEAD = 0.7
# Share of saturated elements. hard_tanh on standard normal pre-activations has 0.32, and is healthy.
SATURATED = 1 / 3
# Share of the mean square that differs between inputs. Five sigmoid layers (Glorot) leave 1e-7 and can be trained,
# eight leave 2e-11 and cannot. Rounding in float32 makes 1e-14.
COLLAPSED = 1e-9
# Mean square of the signal over that of the input, since the last normalisation: 30 times the input's size.
SIGNAL_EXPLODES = 1e3
# abs(mean) / rms at which the mean is as large as the standard deviation, sqrt(1/2). ReLU's outputs have 0.56, strokes
# on black (digits) 0.6, photographs 0.9, sigmoid's outputs 0.97.
UNCENTRED = 0.5**0.5
# What the same ratio makes of the signs: 1/2 + arctan(mean / standard deviation) / pi is 0.75 at that point; a little
# less, because it is a mean over a few units.
SIGNS_AGREE = 0.7
# Cosine with the true gradient, at the first layer. Twenty ReLU layers with 0.56 trained as well as with 1, thirty with
# 0.35 lost 18 points.
MISALIGNED = 0.7
LOST = 0.4
# Norm of the update over norm of the weights: 1e-3 is usual (Karpathy, cs231n). Adam's first step in a wide layer may
# reach 0.1. Below 1.2e-7 float32 rounds the update away.
UPDATE_TOO_LARGE = 0.3
UPDATE_TOO_SMALL = 1.2e-7

# A census of random networks counts a single gradient as vanished below the first and as exploded above the second.
VANISHED_IN_CENSUS = 1e-3
EXPLODED_IN_CENSUS = 1e3
# A run explodes where the gradient norm is so many times that of its first steps.
EXPLODING_RUN = 1e3
