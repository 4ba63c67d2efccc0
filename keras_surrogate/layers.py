"""Keras layers: thin faces over surrogates."""

import dataclasses

import keras
import tensorflow as tf

from keras_surrogate import functions, presets
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.surrogate import Surrogate


def checked_blend(share):
    """The share as a float, or a ValueError."""
    return functions.real_number(
        share, "SurrogateActivation", "blend", "from 0 to 1", lambda share: 0 <= share <= 1
    )


class _Blend:
    """A share from 0 to 1, held in a variable from the moment it is not 1."""

    def __init__(self, share):
        self.variable = None
        if checked_blend(share) != 1:
            self.set(share)

    def get(self):
        return 1.0 if self.variable is None else float(self.variable.numpy())

    def set(self, share):
        self.hold()
        self.variable.assign(checked_blend(share))

    def hold(self):
        if self.variable is None:
            self.variable = keras.Variable(1.0, trainable=False, name="blend")


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateActivation(keras.layers.Layer):
    """An activation layer whose value is `forward`'s and whose derivative is `scale` times `backward`'s.

    `SurrogateActivation("sugar_bsilu")` takes a preset's name. `Dense(8, activation="sugar_bsilu")`
    does not, because Keras looks up only its own names: give
    `activation=keras_surrogate.get("sugar_bsilu")`.

    Args:
        forward: a function's name, configuration, callable or `Function`; or, without `backward`,
            also what `keras_surrogate.get` takes: a `Surrogate`, a preset's name ("sugar_bsilu") or
            a surrogate's configuration.
        backward: the function whose slope the backward pass takes. Default: that of `forward`.
        scale: multiplies the slope; any finite number, default 1.
        residual, jit_compile: as in `Surrogate`; default None and False.
        blend: the share of the surrogate in the slope, the rest being the true one's; from 0 to 1,
            default 1. `callbacks.SurrogateAnnealing` changes it during training. As long as it is 1
            for good it costs nothing.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: tensors of any shape, the same for both.

    Raises:
        ValueError: as `Surrogate`; or `blend` is not from 0 to 1.
    """

    def __init__(
        self,
        forward,
        backward=None,
        scale=1.0,
        residual=None,
        jit_compile=False,
        blend=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        pair = presets.get(forward) if backward is None else Surrogate(forward, backward)
        options = {
            "residual": residual or pair.residual,
            "jit_compile": jit_compile or pair.jit_compile,
        }
        self.surrogate = dataclasses.replace(pair.scaled(scale), **options)
        self._blend = _Blend(blend)
        self.supports_masking = True

    @property
    def blend(self):
        """The share of the surrogate in the slope, a float.

        Setting it holds it in a variable from then on. What was compiled before keeps a share of 1;
        what is compiled later follows every change.
        """
        return self._blend.get()

    @blend.setter
    def blend(self, share):
        self._blend.set(share)

    @property
    def variables(self):
        """With the share among them, so that it is exported. It is no weight, but a part of the configuration.

        Models with and without annealing therefore have the same weights.
        """
        return super().variables + ([] if self._blend.variable is None else [self._blend.variable])

    def hold_blend(self):
        """Holds the share in a variable although it is 1, so that what is compiled from now on follows its changes.

        Returns:
            The variable. Assigning to it is quicker than setting `blend`, and checks nothing.
        """
        self._blend.hold()
        return self._blend.variable

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        if self._blend.variable is None:
            return self.surrogate(inputs)
        return self.surrogate.blended(inputs, tf.convert_to_tensor(self._blend.variable))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.surrogate.get_config(), "blend": self.blend}


class _Elementwise(keras.layers.Layer):
    """What the layers below share: a surrogate, on inputs of any shape; masks are passed on."""

    def __init__(self, surrogate, **kwargs):
        super().__init__(**kwargs)
        self.surrogate = surrogate
        self.supports_masking = True

    def call(self, inputs):
        return self.surrogate(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_surrogate")
class RReLU(_Elementwise):
    """The randomized leaky ReLU: in training every element draws its own slope for x < 0; in inference it is the mean.

        y = max(x, 0) + slope * min(x, 0)        dL/dx = (1 if x > 0 else slope) * dL/dy

    with the same slope in both, drawn anew in every call with `training=True`: uniform on [lower,
    upper].

    Args:
        lower: the smallest slope; any finite number, default 1/8.
        upper: the largest slope; any finite number of at least `lower`, default 1/3. From 0 to 1 is
            usual for both.
        seed: an integer, with which the sequence of draws repeats; default None, any. The draws of
            functions compiled with XLA are others than those of functions that are not, and just as
            repeatable.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `lower` or `upper` is not such a number, `seed` is not an integer, the input is
            not floating.

    Source: Xu et al. 2015, arXiv:1505.00853, as PyTorch has it: the slope is uniform on [1/8, 1/3],
    with mean 0.229. In the paper's experiments its reciprocal is, on [3, 8], so that inference
    takes 1 / 5.5. Asked for in keras#4968.
    """

    def __init__(self, lower=1 / 8, upper=1 / 3, seed=None, **kwargs):
        super().__init__(Surrogate("relu"), **kwargs)
        self.lower = functions.real_number(lower, "RReLU", "lower")
        at_least = f"a finite number of at least lower = {self.lower}"
        self.upper = functions.real_number(
            upper, "RReLU", "upper", at_least, lambda upper: upper >= self.lower
        )
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        slope = self._drawn(inputs) if training else (self.lower + self.upper) / 2
        return self.surrogate(inputs) + slope * tf.minimum(inputs, 0)

    def _drawn(self, inputs):
        return keras.random.uniform(
            tf.shape(inputs), self.lower, self.upper, inputs.dtype, self.seed_generator
        )

    def get_config(self):
        return {**super().get_config(), "lower": self.lower, "upper": self.upper, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogatePReLU(keras.layers.PReLU):
    """`keras.layers.PReLU`, whose slope for x < 0 is learned, with the slope of `backward` for the input.

        y = max(x, 0) + alpha * min(x, 0)
        dL/dx = backward.slope(x) * dL/dy        dL/dalpha = sum(min(x, 0) * dL/dy)

    The gradient of alpha is the true one, summed over the batch and over `shared_axes`. That of the
    input no longer depends on alpha: it does not vanish for x < 0 while alpha is 0, nor change its
    sign with alpha.

    Args:
        backward: the function whose slope the input's gradient takes; whatever `functions.get`
            takes. Default "leaky_relu": the true slope for x > 0, and 0.2 for x < 0, near the 0.25
            from which the paper starts alpha.
        alpha_initializer, alpha_regularizer, alpha_constraint, shared_axes: as in
            `keras.layers.PReLU`, with which the layer shares the weight `alpha` of shape
            `input_shape[1:]`, 1 along `shared_axes`.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors, the same shape for both; known but for the batch and
    `shared_axes`.

    Raises:
        ValueError: an unknown function or initializer, or a shape of which `alpha` must know more.

    Source: He et al. 2015, arXiv:1502.01852, for PReLU; ProxyGrad, 2024, arXiv:2410.16958, for the
    default slope.
    """

    def __init__(
        self,
        backward="leaky_relu",
        alpha_initializer="zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(
            alpha_initializer, alpha_regularizer, alpha_constraint, shared_axes, **kwargs
        )
        self.surrogate = Surrogate("relu", backward)

    def call(self, inputs):
        # Unlike tf.stop_gradient, a scale of 0 leaves PReLU its own derivative within
        # `true_gradients`.
        without_gradient = Surrogate("relu", scale=0.0)
        return self.surrogate(inputs) - self.alpha * without_gradient(-inputs)

    def get_config(self):
        return {**super().get_config(), "backward": self.surrogate.backward.get_config()}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientScale(_Elementwise):
    """The identity, with its gradient multiplied by a constant.

        y = x        dL/dx = scale * dL/dy

    Args:
        scale: any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `scale` is not a finite number, or the input is not floating.

    Source: as `GradientReversal`, for any sign; the same as `Surrogate("linear", scale=scale)`.
    """

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(
            Surrogate("linear", scale=functions.real_number(scale, "GradientScale", "scale")),
            **kwargs,
        )

    def get_config(self):
        return {**super().get_config(), "scale": self.surrogate.scale}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GradientReversal(_Elementwise):
    """The identity, with its gradient reversed: what follows learns to tell, what precedes learns not to let it.

        y = x        dL/dx = -weight * dL/dy

    Args:
        weight: how strongly; any finite number, default 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `weight` is not a finite number, or the input is not floating.

    Source: Ganin and Lempitsky 2015, arXiv:1409.7495; asked for in keras#3119.
    """

    def __init__(self, weight=1.0, **kwargs):
        weight = functions.real_number(weight, "GradientReversal", "weight")
        super().__init__(Surrogate("linear", scale=-weight), **kwargs)

    def get_config(self):
        return {**super().get_config(), "weight": -self.surrogate.scale}


def _only_positive_gradients(x):
    """The identity, through which only what is positive of the incoming gradient goes back."""
    return with_gradient(x, lambda x: (tf.identity(x), tf.nn.relu), _no_forward_mode)


def _no_forward_mode(x):
    raise TypeError(
        "GuidedReLU and DeconvReLU have no derivative in forward mode, because theirs depends on the sign of the "
        "gradient that comes in. Use a tf.GradientTape, or take the model with ReLU."
    )


@keras.saving.register_keras_serializable(package="keras_surrogate")
class GuidedReLU(_Elementwise):
    """ReLU whose backward pass drops negative gradients, besides those of units that are off.

        y = max(x, 0)        dL/dx = dL/dy * (x > 0) * (dL/dy > 0)

    It is for pictures of what a trained model sees, by the gradient of an output with respect to
    the input.

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: the input is not floating.
        TypeError: the derivative is asked for in forward mode, where there is none. (A
            `ForwardAccumulator` around a `tf.function` goes unnoticed, and takes the incoming
            gradient to be 1.)

    Source: guided backpropagation, Springenberg et al. 2015, arXiv:1412.6806.
    """

    def __init__(self, **kwargs):
        super().__init__(Surrogate("relu"), **kwargs)

    def call(self, inputs):
        return _only_positive_gradients(self.surrogate(inputs))


@keras.saving.register_keras_serializable(package="keras_surrogate")
class DeconvReLU(_Elementwise):
    """ReLU whose backward pass is ReLU as well: it drops negative gradients, and those only.

        y = max(x, 0)        dL/dx = dL/dy * (dL/dy > 0)

    It is for pictures of what a trained model sees, by the gradient of an output with respect to
    the input.

    Args:
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: the input is not floating.
        TypeError: the derivative is asked for in forward mode, where there is none. (A
            `ForwardAccumulator` around a `tf.function` goes unnoticed, and takes the incoming
            gradient to be 1.)

    Source: the deconvolutional network, Zeiler and Fergus 2014, arXiv:1311.2901.
    """

    def __init__(self, **kwargs):
        super().__init__(Surrogate("relu", "linear"), **kwargs)

    def call(self, inputs):
        return _only_positive_gradients(self.surrogate(inputs))


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SurrogateStep(_Elementwise):
    """A step at a learned threshold, with the slope of a surrogate, as spiking networks use it.

        y = surrogate.forward.value(x - threshold)
        dL/dx = slope * dL/dy        dL/dthreshold = -sum(slope * dL/dy)

    with slope = surrogate.scale * surrogate.backward.slope(x - threshold). There is one threshold
    for all elements.

    Args:
        threshold: where the step begins; any finite number, default 0.
        surrogate: whatever `keras_surrogate.get` takes, if its forward and backward differ. Default
            None: `Surrogate("step", "fast_sigmoid")`, SuperSpike.
        learn_threshold: whether the threshold is a trainable weight, default True.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input and output: floating tensors of any shape, the same for both.

    Raises:
        ValueError: `threshold` is not a finite number, `learn_threshold` not a bool, `surrogate`
            unknown or without a surrogate slope.

    Source: Zenke and Ganguli 2018, arXiv:1705.11146, for the slope; Rathi and Roy 2020,
    arXiv:2008.03658, for learning the threshold.
    """

    def __init__(self, threshold=0.0, surrogate=None, learn_threshold=True, **kwargs):
        super().__init__(
            Surrogate("step", "fast_sigmoid") if surrogate is None else presets.get(surrogate),
            **kwargs,
        )
        if self.surrogate.forward == self.surrogate.backward:
            raise ValueError(
                f"SurrogateStep: {surrogate!r} has its own slope and no surrogate's. Name both functions, as in "
                'Surrogate("step", "atan").'
            )
        if not isinstance(learn_threshold, bool):
            raise ValueError(
                f"SurrogateStep: learn_threshold must be True or False, but is {learn_threshold!r}."
            )
        self.initial_threshold = functions.real_number(threshold, "SurrogateStep", "threshold")
        self.learn_threshold = learn_threshold

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.initial_threshold)
        self.threshold = self.add_weight(
            (), initializer, trainable=self.learn_threshold, name="threshold"
        )

    def call(self, inputs):
        return self.surrogate(inputs - self.threshold)

    def get_config(self):
        own = {"threshold": self.initial_threshold, "learn_threshold": self.learn_threshold}
        return {**super().get_config(), **own, "surrogate": self.surrogate.get_config()}
