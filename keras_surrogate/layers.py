"""Keras layers that hold a surrogate.

SurrogateActivation                     any surrogate
RReLU, SurrogatePReLU, SurrogateStep    a random slope, a learned slope, a learned threshold
GradientScale, GradientReversal         the identity with another gradient
GuidedReLU, DeconvReLU                  ReLU for pictures of gradients
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import keras
import tensorflow as tf

from keras_surrogate import functions, presets
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike, SurrogateLike

__all__ = [
    "DeconvReLU",
    "GradientReversal",
    "GradientScale",
    "GuidedReLU",
    "RReLU",
    "SurrogateActivation",
    "SurrogatePReLU",
    "SurrogateStep",
]


def checked_blend(share: float) -> float:
    """The share as a float; a ValueError if it is not from 0 to 1."""
    return functions.real_number(
        share, "SurrogateActivation", "blend", "from 0 to 1", lambda share: 0 <= share <= 1
    )


class _Blend:
    """A share from 0 to 1; it is stored in a variable as soon as it differs from 1."""

    def __init__(self, share: float) -> None:
        self.variable: keras.Variable | None = None
        if checked_blend(share) != 1:
            self.set(share)

    def get(self) -> float:
        return 1.0 if self.variable is None else float(self.variable.numpy())

    def set(self, share: float) -> None:
        self.hold().assign(checked_blend(share))

    def hold(self) -> keras.Variable:
        if self.variable is None:
            self.variable = keras.Variable(1.0, trainable=False, name="blend")
        return self.variable


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
        residual, jit_compile: as in `Surrogate`; default None and False.
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
        jit_compile: bool = False,
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
            jit_compile=jit_compile or pair.jit_compile,
        )
        self._blend = _Blend(blend)
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


class _Elementwise(keras.layers.Layer):
    """Base of the layers below: a surrogate, on inputs of any shape; masks are passed on."""

    surrogate: Surrogate

    def __init__(self, surrogate: Surrogate, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.surrogate = surrogate
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.surrogate(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable(package="keras_surrogate")
class RReLU(_Elementwise):
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


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientScale(_Elementwise):
    """The identity with its gradient multiplied by a constant.

        y = x        dL/dx = scale * dL/dy

    Args:
        scale: any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `scale` is not a finite number, or the input is not floating.

    Source: as `GradientReversal`, for any sign; the same as `Surrogate("linear", scale=scale)`.
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        scale = functions.real_number(scale, "GradientScale", "scale")
        super().__init__(Surrogate("linear", scale=scale), **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.surrogate.scale}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientReversal(_Elementwise):
    """The identity with a reversed gradient: the layers before it learn to increase the loss.

        y = x        dL/dx = -weight * dL/dy

    Args:
        weight: the factor of the reversed gradient; any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `weight` is not a finite number, or the input is not floating.

    Source: Ganin and Lempitsky 2015, arXiv:1409.7495; requested in keras#3119.
    """

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        weight = functions.real_number(weight, "GradientReversal", "weight")
        super().__init__(Surrogate("linear", scale=-weight), **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": -self.surrogate.scale}


def _only_positive_gradients(x: tf.Tensor) -> tf.Tensor:
    """The identity with a backward pass that sets negative gradients to 0."""
    return with_gradient(x, lambda x: (tf.identity(x), tf.nn.relu), _no_forward_mode)


def _no_forward_mode(x: tf.Tensor) -> NoReturn:
    raise TypeError(
        "GuidedReLU and DeconvReLU have no derivative in forward mode, because it depends on the "
        "sign of the incoming gradient. Use a tf.GradientTape, or ReLU in their place."
    )


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GuidedReLU(_Elementwise):
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
class DeconvReLU(_Elementwise):
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


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateStep(_Elementwise):
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
