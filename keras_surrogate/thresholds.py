"""Thresholds above or below which a number is a fault, each with its reason.

Diagnosis, theory, alerts and plots share them.
"""

# Gradient norm of the first layer over that of the last. Below it plain SGD does not learn: in the
# README's table the networks at 1.1e-3 and 6.2e-3 learn nothing, and those at 0.6 and more learn.
# Healthy networks have 0.1 and more.
VANISHING: float = 1e-2
# Optimizers that rescale gradients (Adam) still learn, more slowly, down to about AUTOTRAINER's
# threshold (Zhang et al. 2021, doi:10.1109/ICSE43902.2021.00043).
VANISHING_RESCALED: float = 1e-3
# AUTOTRAINER's threshold. The slope of B-SiLU on twenty ReLU layers reaches 170, and SGD diverges.
EXPLODING: float = 70.0
# With batch normalisation the gradient grows in each layer (Yang et al. 2019, arXiv:1902.08129).
# Normalised layers tolerate it, because their gradient becomes smaller as their weights grow.
# ResNet50 starts at 40 to 110.
EXPLODING_NORMALISED: float = 1e3
# Share of weights that change their level in one step. Beyond a half, a level says less about the
# next one than a coin.
FLIPPING: float = 0.5
# Share of units that are 0 for the whole batch; AUTOTRAINER's threshold. For one input half of the
# units are 0. In deep networks the inputs become similar, so up to half of the units are 0 for all
# of them: 0.5 was measured at 30 layers.
DEAD: float = 0.7
# Share of a spiking layer's units that do not fire in a batch. A layer in which more are silent
# passes next to nothing. Four layers of 64 neurons that learn the digits have up to 0.6, in batches
# of 32.
SILENT: float = 0.9
# Share of units that fire in every time step. Such a unit is a constant. The same layers have up to
# 0.05.
FIRING: float = 0.5
# Size of a unit's outputs over the mean size of its layer's units. Units at or below it are dormant
# (Sokar et al. 2023, arXiv:2302.12902).
DORMANT: float = 0.025
# Share of saturated elements. hard_tanh on standard normal pre-activations has 0.32, and is
# healthy.
SATURATED: float = 1 / 3
# Share of saturated elements from which saturation, and not the kind of the function, is the cause
# of a gradient of 0.
ALL_SATURATED: float = 0.99
# Share of the mean square that differs between inputs. Five sigmoid layers (Glorot) leave 1e-7 and
# can be trained; eight leave 2e-11 and cannot. Rounding in float32 gives 1e-14.
COLLAPSED: float = 1e-9
# Mean square of the signal over that of the input, since the last normalisation. 1e3 is 30 times
# the size of the input.
SIGNAL_EXPLODES: float = 1e3
# abs(mean) / rms. At sqrt(1/2) the mean is as large as the standard deviation. Outputs of ReLU
# have 0.56, strokes on black (digits) 0.6, photographs 0.9, outputs of sigmoid 0.97.
UNCENTRED: float = 0.5**0.5
# Share of equal signs at the same ratio. 1/2 + arctan(mean / standard deviation) / pi is 0.75
# there; the threshold is a little lower, because it is compared with a mean over few units.
SIGNS_AGREE: float = 0.7
# Size of a feature over that of the median feature. When one feature of wine, breast cancer or
# digits (scikit-learn, standardised) is multiplied by 30, an MLP under SGD loses 3 to 12 points; by
# 100, 6 to 24; by 300, 10 to 86. Raw wine has 310 (77 % under Adam and 30 % under SGD, where
# standardised data give 98 %), raw breast cancer 5900. One-hot columns beside an age in years have
# 40, word counts 20; unchanged digits, MNIST, iris and diabetes have less than 5.
FEATURE_TOO_LARGE: float = 100.0
# Adam loses 0 to 6 points up to a factor of 300, and 2 to 28 at 1000.
FEATURE_TOO_LARGE_RESCALED: float = 1e3
# Root mean square of the inputs of a first layer. An MLP on digits (64-64-10, ten epochs) that is
# right in 91 % under SGD (0.1) at 1 has 20 % at 12, and 10 % at 35 and more; under Adam 87 % at 1,
# and 81 % at 35 and more. Pixels from 0 to 255 have 110 to 140. Photographs less their mean colour
# have 70, and the published weights of VGG expect these.
INPUT_TOO_LARGE: float = 100.0
# Root mean square of such inputs over their standard deviation. With a number added to all pixels
# the same MLP under Adam has 84 % at 2, 67 % at 9 and 23 % at 25; under SGD 10 % at 9. Photographs
# have 2, temperatures in kelvin 30, codes of letters 40.
INPUT_OFFSET: float = 10.0
# Share of the targets that the last activation cannot reach, or that name no class or several.
TARGETS_OUTSIDE: float = 0.05
# Distance of the sum of probabilities from 1. Rounding in float16 gives 1e-3.
PROBABILITIES_SUM: float = 0.01
# Labels in a batch from which one class only is worth a remark: with ten classes of equal size it
# has a chance of 1e-31.
ENOUGH_LABELS: int = 32
# Distance of the targets from the mean of the first outputs, over the standard deviation of these
# outputs (or over 1 if that is less). Measured on an MLP with 1024 examples and 30 epochs: SGD
# (0.01) diverges from 30 on. Adam (0.001) explains 45 % of the variance at 25, 38 % at 75 and 33 %
# at 250, where standardised targets give 97 %. For targets that vary less than the outputs, Adam
# explains 96 % at 1/10 and less than nothing at 1/100.
TARGETS_TOO_LARGE: float = 30.0
# Adam explains 21 % at 2500, and less than nothing at 25 000.
TARGETS_OUT_OF_REACH: float = 1e3
# Cosine with the true gradient, at the first layer. Twenty ReLU layers with 0.56 trained as well as
# with 1; thirty with 0.35 lost 18 points.
MISALIGNED: float = 0.7
LOST: float = 0.4
# Norm of the update over norm of the weights. 1e-3 is usual (Karpathy, cs231n). The first step of
# Adam in a wide layer may reach 0.1. Below 1.2e-7 the update is lost to rounding in float32.
UPDATE_TOO_LARGE: float = 0.3
UPDATE_TOO_SMALL: float = 1.2e-7

# In a census of random networks a single gradient counts as vanished below the first, and as
# exploded above the second.
VANISHED_IN_CENSUS: float = 1e-3
EXPLODED_IN_CENSUS: float = 1e3
# Gradient norm over that of the run's first steps. Above it the run explodes.
EXPLODING_RUN: float = 1e3
# Epochs after which the loss is judged, and the share of the first epoch's loss by which it must
# have fallen by then. Faulty programs that learn nothing have 0 to 0.2 %, one of them 0.8 %.
LOSS_EPOCHS: int = 5
LOSS_FALL: float = 0.005
# Rise of the loss from one epoch to the next, as a share of the first epoch's loss, and the number
# of such rises within `LOSS_EPOCHS` epochs. The loss of a healthy run rises once in a while.
LOSS_RISE: float = 0.1
LOSS_RISES: int = 2
