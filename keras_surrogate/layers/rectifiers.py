"""Rectifiers with a random, learned or guided slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import keras
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.layers.elementwise import Elementwise
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike


@keras.saving.register_keras_serializable(package="keras_surrogate")
class RReLU(Elementwise):
    """The randomized leaky ReLU: a random slope for x < 0 in training, its mean in inference.

        y = max(x, 0) + slope * min(x, 0)        dL/dx = (1 if x > 0 else slope) * dL/dy

    Value and gradient have the same slope. Every call with `training=True` draws a new one for each
    element, uniform on [lower, upper].

    Args:
        lower: the smallest slope; any finite number, default 1/8.
        upper: the largest slope; any finite number of at least `lower`, default 1/3. Both are
            usually from 0 to 1.
        seed: an integer makes the sequence of draws repeatable; default None, a random seed.
            Functions compiled with XLA draw other numbers than functions that are not, equally
            repeatable.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `lower` or `upper` is not such a number, `seed` is not an integer, the input is
            not floating.

    Source: Xu et al. 2015, arXiv:1505.00853, in PyTorch's parametrisation: the slope is uniform on
    [1/8, 1/3], with mean 0.229. In the paper's experiments the reciprocal is uniform, on [3, 8],
    and inference uses 1 / 5.5. Requested in keras#4968.
    """

    def __init__(
        self, lower: float = 1 / 8, upper: float = 1 / 3, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(Surrogate("relu"), **kwargs)
        self.lower = functions.real_number(lower, "RReLU", "lower")
        at_least = f"a finite number of at least lower = {self.lower}"
        self.upper = functions.real_number(
            upper, "RReLU", "upper", at_least, lambda upper: upper >= self.lower
        )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if training:
            slope = self._drawn(inputs)
        else:
            slope = (self.lower + self.upper) / 2
        return self.surrogate(inputs) + slope * tf.minimum(inputs, 0)

    def _drawn(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.random.uniform(
            tf.shape(inputs), self.lower, self.upper, inputs.dtype, self.seed_generator
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lower": self.lower, "upper": self.upper, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogatePReLU(keras.layers.PReLU):
    """`keras.layers.PReLU` with the slope of `backward` for the gradient of the input.

        y = max(x, 0) + alpha * min(x, 0)
        dL/dx = backward.slope(x) * dL/dy        dL/dalpha = sum(min(x, 0) * dL/dy)

    The slope `alpha` for x < 0 is learned. Its gradient is the true one, summed over the batch and
    over `shared_axes`. The gradient of the input does not depend on alpha: it is not 0 for x < 0
    while alpha is 0, and does not change its sign with alpha.

    Args:
        backward: the function of the input's slope; anything that `functions.get` takes. Default
            "leaky_relu": the true slope for x > 0, and 0.2 for x < 0, near 0.25, the initial alpha
            of the paper.
        alpha_initializer, alpha_regularizer, alpha_constraint, shared_axes: as in
            `keras.layers.PReLU`. The weight `alpha` is the same: its shape is `input_shape[1:]`, 1
            along `shared_axes`.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of the same shape, which must be known except for the batch
    and `shared_axes`.

    Raises:
        ValueError: an unknown function or initializer, or an unknown dimension that `alpha` needs.

    Source: He et al. 2015, arXiv:1502.01852, for PReLU; ProxyGrad, 2024, arXiv:2410.16958, for the
    default slope.
    """

    def __init__(
        self,
        backward: FunctionLike = "leaky_relu",
        alpha_initializer: str | dict[str, Any] | keras.initializers.Initializer = "zeros",
        alpha_regularizer: str | dict[str, Any] | keras.regularizers.Regularizer | None = None,
        alpha_constraint: str | dict[str, Any] | keras.constraints.Constraint | None = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            alpha_initializer, alpha_regularizer, alpha_constraint, shared_axes, **kwargs
        )
        self.surrogate = Surrogate("relu", backward)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # PReLU(x) = relu(x) - alpha * relu(-x). A scale of 0 removes the second term's gradient of
        # x, as tf.stop_gradient would, but keeps it within `true_gradients`.
        without_gradient = Surrogate("relu", scale=0.0)
        return self.surrogate(inputs) - self.alpha * without_gradient(-inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "backward": self.surrogate.backward.get_config()}


def _only_positive_gradients(x: tf.Tensor) -> tf.Tensor:
    """The identity with a backward pass that sets negative gradients to 0."""
    return with_gradient(x, lambda x: (tf.identity(x), tf.nn.relu), _no_forward_mode)


def _no_forward_mode(x: tf.Tensor) -> NoReturn:
    raise TypeError(
        "GuidedReLU and DeconvReLU have no derivative in forward mode, because it depends on the "
        "sign of the incoming gradient. Use a tf.GradientTape, or ReLU in their place."
    )


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GuidedReLU(Elementwise):
    """ReLU with a backward pass that sets negative gradients to 0, and those of inactive units.

        y = max(x, 0)        dL/dx = dL/dy * (x > 0) * (dL/dy > 0)

    Use it to visualise which parts of an input increase an output of a trained model, by the
    gradient of that output with respect to the input.

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: the input is not floating.
        TypeError: forward mode, which has no such derivative. (A `ForwardAccumulator` around a
            `tf.function` is not detected; its incoming gradient is 1.)

    Source: guided backpropagation, Springenberg et al. 2015, arXiv:1412.6806.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Surrogate("relu"), **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _only_positive_gradients(self.surrogate(inputs))


@keras.saving.register_keras_serializable(package="keras_surrogate")
class DeconvReLU(Elementwise):
    """ReLU with ReLU as its backward pass too: it sets only negative gradients to 0.

        y = max(x, 0)        dL/dx = dL/dy * (dL/dy > 0)

    Use it to visualise which parts of an input increase an output of a trained model, by the
    gradient of that output with respect to the input.

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: the input is not floating.
        TypeError: forward mode, which has no such derivative. (A `ForwardAccumulator` around a
            `tf.function` is not detected; its incoming gradient is 1.)

    Source: the deconvolutional network, Zeiler and Fergus 2014, arXiv:1311.2901.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Surrogate("relu", "linear"), **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _only_positive_gradients(self.surrogate(inputs))
