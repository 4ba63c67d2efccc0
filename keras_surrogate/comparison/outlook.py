"""The theory's view of a case before training: balanced slope, prediction and effect."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_surrogate import theory
from keras_surrogate.comparison import notation
from keras_surrogate.comparison.families import FAMILIES
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import moments, stacks
from keras_surrogate.theory.weights import variances

if TYPE_CHECKING:
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.datasets import Dataset
    from keras_surrogate.theory.verdicts import Effect

# The correlation of two inputs with which the loss of their differences is predicted.
_INPUT_CORRELATION = 0.5


@dataclasses.dataclass(frozen=True)
class Weights:
    """The theory's view of a case's weights.

    Attributes:
        initializer: that of the hidden kernels.
        variance: sigma_w**2 of the layers after the first.
        input_variance: the mean square of the images, times the first layer's sigma_w**2 over
            `variance`.
    """

    initializer: keras.initializers.Initializer
    variance: float
    input_variance: float


@dataclasses.dataclass(frozen=True)
class Outlook:
    """The theory's view of a case, each part computed once.

    Args:
        case: a `Case`.
        power: the mean square of the numbers of the training images.
        channels: the numbers that enter each unit of the first layer, per place of the kernel: the
            channels of an image, or for "mlp" all its numbers.
    """

    case: Case
    power: float
    channels: int

    @classmethod
    def of(cls, case: Case, data: Dataset) -> Outlook:
        """The outlook of a case on its data."""
        parts = np.array_split(data.x_train, 100)
        power = float(np.mean([np.mean(np.square(part)) for part in parts]))
        shape = data.x_train.shape[1:]
        return cls(case, power, FAMILIES[case.network].channels(shape))

    @functools.cached_property
    def weights(self) -> Weights:
        """The `Weights`.

        Raises:
            ValueError: the initializer does not draw independent weights of mean 0, or no weights
                are critical.
        """
        case = self.case
        initializer = notation.initializer(case.initializer, case.forward, self.power)
        area = FAMILIES[case.network].area
        fan = area * case.width
        first, _ = variances(initializer, (area * self.channels, fan))
        variance, _ = variances(initializer, (fan, fan))
        if not variance:
            return Weights(initializer, variance, self.power)
        return Weights(initializer, variance, self.power * first / variance)

    @functools.cached_property
    def surrogate(self) -> Surrogate:
        """The `Surrogate` of the case, balanced if the case says so.

        Raises:
            ValueError: as `theory.balance`.
        """
        case = self.case
        if not case.balanced:
            return case.pair
        if case.normalization != "none":
            return theory.balance(case.pair, self._normalized_variance, signal_variance=1.0)
        known = self.weights
        return theory.balance(case.pair, known.variance, input_variance=known.input_variance)

    @functools.cached_property
    def prediction(self) -> theory.Prediction | None:
        """The `theory.Prediction` of the case; None where the theory does not apply.

        It applies to plain, residual and normalised layers without memory, with biases of 0.
        Convolutions are treated as dense layers of many units: pools and the change of channels are
        left out. Pools
        bring cosines nearer to 1 (B-SiLU's slope, four convolutions of 8 and 16 channels: 0.70
        measured, 0.53 predicted) and change norms.
        """
        return self._predict(self.surrogate, self._setting)

    @functools.cached_property
    def effect(self) -> Effect | None:
        """The effect beside the baseline, by `theory.effect`; None where it has none.

        That is so without a prediction, for calibrated slopes, and for cases with annealing or with
        learning rates for each layer, which are not slopes.
        """
        case = self.case
        if case == case.baseline or case.annealing or case.layer_rate != 1:
            return None
        if self.prediction is None:
            return None
        setting = self._setting
        if stacks.get(setting.get("stack", "plain")).has_correlations:
            setting = {**setting, "input_correlation": _INPUT_CORRELATION}
        true = self._predict(case.baseline.pair, setting)
        if true is None:
            return None
        return theory.effect(self.prediction, true, case.rescales, case.rate)

    def _predict(self, surrogate: Surrogate, setting: dict[str, Any]) -> theory.Prediction | None:
        case = self.case
        is_mixed = case.residual and case.normalization != "none"
        is_unknown = case.bias or is_mixed or case.calibrated
        if is_unknown or not FAMILIES[case.network].predicted:
            return None
        try:
            # Some samples of networks so narrow that a whole layer may be dead are 0 / 0.
            with np.errstate(divide="ignore", invalid="ignore"):
                return theory.predict(surrogate, case.depth, **setting)
        except ValueError:
            return None

    @functools.cached_property
    def _setting(self) -> dict[str, Any]:
        """The arguments of `theory.predict` besides surrogate and depth."""
        case = self.case
        if case.normalization_kind == "batch":
            return {"weight_variance": 1.0, "stack": "batch_norm"}
        if case.normalization_kind == "layer":
            variance = self._normalized_variance
            return {"weight_variance": variance, "input_variance": 1 / variance}
        known = self.weights
        plain = {"weight_variance": known.variance, "input_variance": known.input_variance}
        if case.residual:
            return {**plain, "stack": "residual"}
        if FAMILIES[case.network].width_matters:
            return {**plain, "width": case.width}
        return plain

    @functools.cached_property
    def _normalized_variance(self) -> float:
        """The replacement of sigma_w**2 where pre-activations are normalised; the input is f(z).

        1 / Var[f] for a batch, since each unit's mean is subtracted. 1 / E[f**2] for a layer, since
        W x has mean 0 over its units.
        """
        mean, power = moments.mean_and_power(Surrogate(self.case.pair.forward), 1.0)
        if self.case.normalization_kind == "batch":
            power = power - mean**2
        return float(1 / power)
