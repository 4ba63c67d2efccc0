"""What the theory says of a case before it is trained: the scale that balances it, and its prediction."""

import dataclasses

import keras
import numpy as np

from keras_surrogate import theory
from keras_surrogate.comparison import notation
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import moments
from keras_surrogate.theory.weights import variances

# Kernels of convolutions are this wide and high.
KERNEL = 3


@dataclasses.dataclass(frozen=True)
class Weights:
    """The theory's picture of a case's weights.

    Attributes:
        initializer: of the hidden kernels, a Keras initializer.
        variance: sigma_w**2 of the layers after the first.
        input_variance: the mean square of the images, times what makes up for the first layer's
            other sigma_w**2.
    """

    initializer: keras.initializers.Initializer
    variance: float
    input_variance: float


def weights(case, power, channels):
    """`Weights` of a case whose images have that mean square and, per pixel or in all, so many numbers.

    Raises:
        ValueError: the initializer draws no independent weights of mean 0, or there are no critical
            ones.
    """
    initializer = notation.initializer(case.initializer, case.forward, power)
    area = KERNEL**2 if case.network == "vgg" else 1
    first, _ = variances(initializer, (area * channels, area * case.width))
    variance, _ = variances(initializer, (area * case.width, area * case.width))
    return Weights(initializer, variance, power * first / variance if variance else power)


def activation(case, power, channels):
    """The `Surrogate` of a case, balanced if it is to be.

    Raises:
        ValueError: as `theory.balance`.
    """
    if not case.balanced:
        return case.pair
    if case.normalization == "none":
        known = weights(case, power, channels)
        return theory.balance(case.pair, known.variance, input_variance=known.input_variance)
    return theory.balance(case.pair, _normalized_variance(case), signal_variance=1.0)


def predict(case, surrogate, power, channels):
    """A `theory.Prediction` for a case with that activation; None where the theory does not reach.

    It reaches plain, residual and normalised layers with biases of 0. Convolutions are taken for
    dense layers of many
    units: pools and the change of channels are left out, though pools bring cosines nearer to 1
    (B-SiLU's slope, four convolutions of 8 and 16 channels: 0.70 measured, 0.53 predicted) and move
    norms.
    """
    return _predict(case, surrogate, _setting(case, power, channels))


def _predict(case, surrogate, setting):
    is_mixed = case.residual and case.normalization != "none"
    if case.bias or is_mixed:
        return None
    try:
        # Of networks so narrow that a whole layer may be dead some draws are 0 / 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            return theory.predict(surrogate, case.depth, **setting)
    except ValueError:
        return None


def effect(case, prediction, power, channels):
    """What the theory expects of a case beside its baseline, as `theory.effect` says it; None where it has no word.

    It has none where there is no prediction, and on what is not a slope: annealing, learning rates
    for each layer.
    """
    if prediction is None or case == case.baseline or case.annealing or case.layer_rate != 1:
        return None
    setting = _setting(case, power, channels)
    if setting.get("stack") != "batch_norm":
        setting["input_correlation"] = 0.5
    true = _predict(case.baseline, case.baseline.pair, setting)
    return true and theory.effect(prediction, true, rescaled=not case.optimizer.startswith("sgd:"))


def _setting(case, power, channels):
    if case.normalization == "batch":
        return {"weight_variance": 1.0, "stack": "batch_norm"}
    if case.normalization == "layer":
        variance = _normalized_variance(case)
        return {"weight_variance": variance, "input_variance": 1 / variance}
    known = weights(case, power, channels)
    plain = {"weight_variance": known.variance, "input_variance": known.input_variance}
    if case.residual:
        return {**plain, "stack": "residual"}
    return plain if case.network == "vgg" else {**plain, "width": case.width}


def _normalized_variance(case):
    """What takes the place of sigma_w**2 behind normalised pre-activations, f of N(0, 1) being what comes before.

    1 / Var[f] of a batch, whose mean is taken off each unit; 1 / E[f**2] of a layer, across whose
    units W x has mean 0.
    """
    output = moments.value(Surrogate(case.pair.forward), moments.pre_activations(np.float64(1.0)))
    mean, power = output @ moments.FINE[1], output**2 @ moments.FINE[1]
    return float(1 / (power - mean**2 if case.normalization == "batch" else power))
