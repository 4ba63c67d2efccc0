"""A step at a learned threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_surrogate import functions, presets
from keras_surrogate.layers.elementwise import Elementwise
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateStep(Elementwise):
    """A step at a learned threshold with the slope of a surrogate, for spiking networks.

        y = surrogate.forward.value(x - threshold)
        dL/dx = slope * dL/dy        dL/dthreshold = -sum(slope * dL/dy)

    with slope = surrogate.scale * surrogate.backward.slope(x - threshold). There is one threshold
    for all elements.

    Args:
        threshold: the initial position of the step; any finite number, default 0.
        surrogate: anything that `keras_surrogate.get` takes, with different forward and backward.
            Default None: `Surrogate("step", "fast_sigmoid")`, SuperSpike.
        learn_threshold: True makes the threshold a trainable weight; default True.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `threshold` is not a finite number, `learn_threshold` not a bool, `surrogate`
            unknown or with equal forward and backward.

    Source: Zenke and Ganguli 2018, arXiv:1705.11146, for the slope; Rathi and Roy 2020,
    arXiv:2008.03658, for learning the threshold.
    """

    def __init__(
        self,
        threshold: float = 0.0,
        surrogate: SurrogateLike | None = None,
        learn_threshold: bool = True,
        **kwargs: Any,
    ) -> None:
        if surrogate is None:
            surrogate = Surrogate("step", "fast_sigmoid")
        pair = presets.get(surrogate)
        super().__init__(pair, **kwargs)
        if pair.forward == pair.backward:
            raise ValueError(
                f"SurrogateStep: {surrogate!r} has the slope of its own forward. Pass a pair of "
                'two functions, as in Surrogate("step", "atan").'
            )
        if not isinstance(learn_threshold, bool):
            raise ValueError(
                f"SurrogateStep: learn_threshold must be True or False, but is {learn_threshold!r}."
            )
        self.initial_threshold = functions.real_number(threshold, "SurrogateStep", "threshold")
        self.learn_threshold = learn_threshold

    def build(self, input_shape: Any) -> None:
        initializer = keras.initializers.Constant(self.initial_threshold)
        self.threshold = self.add_weight(
            (), initializer, trainable=self.learn_threshold, name="threshold"
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.surrogate(inputs - self.threshold)

    def get_config(self) -> dict[str, Any]:
        own = {"threshold": self.initial_threshold, "learn_threshold": self.learn_threshold}
        return {**super().get_config(), **own, "surrogate": self.surrogate.get_config()}
