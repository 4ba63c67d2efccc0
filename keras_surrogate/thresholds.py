"""From where on a number is a fault, and why there. The one place: for diagnosis, theory, alerts and pictures."""

# First over last gradient norm. Plain SGD does not learn where it is smaller: in the README's table
# 1.1e-3 and 6.2e-3 learn nothing, 0.6 and more do. Healthy networks have 0.1 and more.
VANISHING = 1e-2
# Optimizers that rescale gradients (Adam) learn down to about AUTOTRAINER's bound (Zhang et al.
# 2021, doi:10.1109/ICSE43902.2021.00043), only more slowly.
VANISHING_RESCALED = 1e-3
# AUTOTRAINER's. B-SiLU's slope on twenty ReLU layers has 170, and diverges under SGD.
EXPLODING = 70.0
# With batch normalisation the gradient grows in each layer (Yang et al. 2019, arXiv:1902.08129),
# and what is normalised bears it, since its gradient falls as its weights grow: ResNet50 starts at
# 40 to 110.
EXPLODING_NORMALISED = 1e3
# Share of units that are 0 for the whole batch; AUTOTRAINER's. For one input half are off, so that
# in deep networks, where inputs become alike, up to a half are off for all: 0.5 measured at 30
# layers.
DEAD = 0.7
# Share of saturated elements. hard_tanh on standard normal pre-activations has 0.32, and is
# healthy.
SATURATED = 1 / 3
# What ends a gradient is its flat ends, and not its nature, where practically all elements are
# there.
ALL_SATURATED = 0.99
# Share of the mean square that differs between inputs. Five sigmoid layers (Glorot) leave 1e-7 and
# can be trained, eight leave 2e-11 and cannot. Rounding in float32 makes 1e-14.
COLLAPSED = 1e-9
# Mean square of the signal over that of the input, since the last normalisation: 30 times the
# input's size.
SIGNAL_EXPLODES = 1e3
# abs(mean) / rms at which the mean is as large as the standard deviation, sqrt(1/2). ReLU's outputs
# have 0.56, strokes on black (digits) 0.6, photographs 0.9, sigmoid's outputs 0.97.
UNCENTRED = 0.5**0.5
# What the same ratio makes of the signs: 1/2 + arctan(mean / standard deviation) / pi is 0.75 at
# that point; a little less, because it is a mean over a few units.
SIGNS_AGREE = 0.7
# Size of a feature over that of the median one. One feature of wine, breast cancer and digits
# (scikit-learn, standardised) made 30 times larger costs an MLP under SGD 3 to 12 points, 100 times
# 6 to 24, 300 times 10 to 86; raw wine has 310 (77 % under Adam and 30 % under SGD, where
# standardised data give 98 %), raw breast cancer 5900. One-hot columns beside an age in years have
# 40, counts of words 20; digits, MNIST, iris and diabetes as they come below 5.
FEATURE_TOO_LARGE = 100.0
# Adam loses 0 to 6 points up to 300 times, and 2 to 28 at 1000.
FEATURE_TOO_LARGE_RESCALED = 1e3
# Distance of the targets from the mean of the first outputs, over the deviation of these (or 1, if
# that is less). An MLP on 1024 examples, 30 epochs: from 30 on SGD (0.01) diverges; Adam (0.001)
# explains 45 % of the variance at 25, 38 % at 75 and 33 % at 250, where standardised targets give
# 97 %. Where the targets differ less than the outputs, Adam explains 96 % at 1/10 and less than
# nothing at 1/100.
TARGETS_TOO_LARGE = 30.0
# At 2500 it explains 21 %, at 25 000 less than nothing.
TARGETS_OUT_OF_REACH = 1e3
# Cosine with the true gradient, at the first layer. Twenty ReLU layers with 0.56 trained as well as
# with 1, thirty with 0.35 lost 18 points.
MISALIGNED = 0.7
LOST = 0.4
# Norm of the update over norm of the weights: 1e-3 is usual (Karpathy, cs231n). Adam's first step
# in a wide layer may reach 0.1. Below 1.2e-7 float32 rounds the update away.
UPDATE_TOO_LARGE = 0.3
UPDATE_TOO_SMALL = 1.2e-7

# A census of random networks counts a single gradient as vanished below the first and as exploded
# above the second.
VANISHED_IN_CENSUS = 1e-3
EXPLODED_IN_CENSUS = 1e3
# A run explodes where the gradient norm is so many times that of its first steps.
EXPLODING_RUN = 1e3
