"""The activation layer of any surrogate."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.layers.blend import Blend
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike, SurrogateLike


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateActivation(keras.layers.Layer):
    """An activation layer with the value of `forward` and `scale` times the slope of `backward`.

    `SurrogateActivation("sugar_bsilu")` takes the name of a preset. `Dense(8,
    activation="sugar_bsilu")` does not, because Keras looks up only its own names: pass
    `activation=keras_surrogate.get("sugar_bsilu")`.

    Args:
        forward: a function's name, configuration, callable or `Function`. Without `backward` also
            the other arguments of `keras_surrogate.get`: a `Surrogate`, the name of a preset
            ("sugar_bsilu") or the configuration of a surrogate.
        backward: the function of the slope in the backward pass. Default: that of `forward`.
        scale: multiplies the slope; any finite number, default 1.
        residual, jit_compile: as in `Surrogate`; default None and "auto", which are replaced by
            those of `forward` if that is a `Surrogate`.
        blend: the share of the surrogate in the slope, from 0 to 1, default 1; the rest is the true
            slope. `callbacks.SurrogateAnnealing` changes it during training. It has no cost as long
            as it is 1 and was never changed.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: tensors of any shape, the same for both.

    Raises:
        ValueError: as `Surrogate`; or `blend` is not from 0 to 1.
    """

    surrogate: Surrogate

    def __init__(
        self,
        forward: SurrogateLike,
        backward: FunctionLike | None = None,
        scale: float = 1.0,
        residual: Literal["bfloat16", "uint8"] | None = None,
        jit_compile: bool | Literal["auto"] = "auto",
        blend: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if backward is None:
            pair = presets.get(forward)
        else:
            pair = Surrogate(forward, backward)
        self.surrogate = dataclasses.replace(
            pair.scaled(scale),
            residual=residual or pair.residual,
            jit_compile=pair.jit_compile if jit_compile == "auto" else jit_compile,
        )
        self._blend = Blend(blend)
        self.supports_masking = True

    @property
    def blend(self) -> float:
        """The share of the surrogate in the slope, from 0 to 1.

        The first assignment creates a variable for it. Functions compiled before keep a share of 1;
        functions compiled later follow every change.
        """
        return self._blend.get()

    @blend.setter
    def blend(self, share: float) -> None:
        self._blend.set(share)

    @property
    def variables(self) -> list[keras.Variable]:
        """The layer's variables and the one of `blend`, so that it is exported.

        `blend` is not a weight but a part of the configuration: models with and without annealing
        have the same weights.
        """
        own = [] if self._blend.variable is None else [self._blend.variable]
        return super().variables + own

    def hold_blend(self) -> keras.Variable:
        """Create the variable of `blend`, so that functions compiled later follow its changes.

        Returns:
            The variable. Assigning to it is faster than setting `blend`, but checks nothing.
        """
        return self._blend.hold()

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self._blend.variable is None:
            return self.surrogate(inputs)
        return self.surrogate.blended(inputs, tf.convert_to_tensor(self._blend.variable))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.surrogate.get_config(), "blend": self.blend}
