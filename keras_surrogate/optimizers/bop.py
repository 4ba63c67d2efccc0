"""The binary optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.layers.weights import SurrogateWeights, replacing

# What a weight of 0 becomes by a flip, with a sign. All dtypes have it.
_SMALL = 1e-4


@keras.saving.register_keras_serializable(package="keras_surrogate")
class Bop(keras.optimizers.Optimizer):
    """The binary optimizer, which flips signs of weights; another optimizer for all others.

        m = (1 - gamma) * m + gamma * gradient
        w = -w    where abs(m) > threshold and sign(m) == sign(w)

        model.compile(keras_surrogate.optimizers.Bop(1e-6, 1e-3, rest="adam"), loss)

    Binary are the weights that a `SurrogateWeights` layer replaces by two values of opposite sign,
    such as those of "ste_sign". There is no latent weight: the size of w never changes, and only
    its sign matters. A w of 0, whose sign is that of its value at 0, flips to a small number, 1e-4.
    Biases, normalisation and all other weights are trained by `rest`.

    `learning_rate` is that of `rest`, so that schedules and callbacks act on it. Clipping, weight
    decay, moving averages and gradient accumulation are those of `rest`, for its weights only.

    Args:
        threshold: tau, the average gradient from which a weight flips; a number of at least 0,
            default 1e-8. A larger one makes fewer flips.
        gamma: the rate of the moving average, in (0, 1], default 1e-4. A larger one forgets sooner.
        rest: the optimizer of all other weights: a name, a configuration or an optimizer; default
            "adam".
        name: default "bop".

    Raises:
        ValueError: a number out of range, an unknown optimizer or one that scales the loss; at the
            first step, a model without binary weights.

    Source: Helwegen et al. 2019, arXiv:1906.02107, algorithm 1.
    """

    threshold: float
    gamma: float
    rest: keras.optimizers.Optimizer

    def __init__(
        self,
        threshold: float = 1e-8,
        gamma: float = 1e-4,
        rest: str | dict[str, Any] | keras.optimizers.Optimizer = "adam",
        name: str = "bop",
    ) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.threshold = functions.real_number(
            threshold, "Bop", "threshold", "at least 0", lambda threshold: threshold >= 0
        )
        self.gamma = functions.real_number(
            gamma, "Bop", "gamma", "above 0 and at most 1", lambda gamma: 0 < gamma <= 1
        )
        self.rest = keras.optimizers.get(rest)
        if getattr(self.rest, "loss_scale_factor", None) or isinstance(
            self.rest, keras.optimizers.LossScaleOptimizer
        ):
            raise ValueError(
                "Bop: `rest` must not scale the loss, which is that of the binary weights too. Put "
                'it outside: keras.optimizers.LossScaleOptimizer(Bop(rest="adam")).'
            )
        self._order: list[keras.Variable] = []
        # From the id of a TensorFlow variable, one for each replica, to its moving average.
        self._averages: dict[int, keras.Variable] = {}
        # From the same id to the sign of the values that replace weights of 0.
        self._signs_at_zero: dict[int, float] = {}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        binary = [one for one in variables if _is_binary(one)]
        self._order = list(variables)
        super().build(binary)
        self.rest.build([one for one in variables if not _is_binary(one)])
        for one in binary:
            average = self.add_variable_from_reference(one, name="average")
            for part in tf.distribute.get_strategy().experimental_local_results(one.value):
                self._averages[id(part)] = average
                self._signs_at_zero[id(part)] = _sign_at_zero(one)

    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        if trainable_variables is None:
            trainable_variables = self._order
        if not self.built:
            with keras.name_scope(self.name):
                self.build(trainable_variables)
            self.built = True
        if not self._averages:
            raise ValueError(
                "Bop: the model has no binary weights. Wrap layers, as in "
                'layers.SurrogateWeights(keras.layers.Dense(8), "ste_sign").'
            )
        pairs = list(zip(grads, trainable_variables, strict=True))
        binary = [pair for pair in pairs if _is_binary(pair[1])]
        others = [pair for pair in pairs if not _is_binary(pair[1])]
        if any(gradient is not None for gradient, _ in binary):
            super().apply(*zip(*binary, strict=True))
        if any(gradient is not None for gradient, _ in others):
            self.rest.apply(*zip(*others, strict=True))

    def passes_on(self, variable: keras.Variable) -> bool:
        """True if `rest` trains a variable."""
        return not _is_binary(variable)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        average = self._averages[id(variable)]
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        held = tf.convert_to_tensor(average.value)
        held = held + self.gamma * (gradient - held)
        self.assign(average, held)
        weight = tf.convert_to_tensor(variable)
        sign = tf.where(weight == 0, self._signs_at_zero[id(variable)], tf.sign(weight))
        # The gradient asks for a smaller w where m > 0, which a positive w can give by its sign.
        asked = tf.sign(held)
        flips = (tf.abs(held) > self.threshold) & ((asked == sign) | (sign == 0))
        flipped = tf.where(weight == 0, -_SMALL * asked, -weight)
        self.assign(variable, tf.where(flips, flipped, weight))

    @property
    def variables(self) -> list[keras.Variable]:
        return [*super().variables, *self.rest.variables]

    @property
    def learning_rate(self) -> Any:
        return self.rest.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.rest.learning_rate = learning_rate

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        self.rest.finalize_variable_values([one for one in var_list if not _is_binary(one)])

    def get_config(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "gamma": self.gamma,
            "rest": keras.optimizers.serialize(self.rest),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Bop:
        return cls(**config)


def _sign_at_zero(variable: keras.Variable) -> float:
    """The sign of the value that replaces a weight of 0."""
    layer = cast("SurrogateWeights", replacing(variable))
    # Keras may build the optimizer while it traces the step.
    with tf.init_scope():
        return float(np.sign(layer.surrogate.forward.value(tf.zeros(()))))


def _is_binary(variable: keras.Variable) -> bool:
    """True for a weight that is replaced by two values of opposite sign."""
    layer = replacing(variable)
    if layer is None or layer.levels is None or len(layer.levels) != 2:
        return False
    low, high = layer.levels
    return low == -high
