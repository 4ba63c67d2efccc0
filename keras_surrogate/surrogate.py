"""A surrogate: the value of one function, the slope of another."""

import dataclasses
import functools

import keras
import tensorflow as tf

from keras_surrogate import functions
from keras_surrogate.custom_gradient import with_gradient
from keras_surrogate.functions import residuals


@keras.saving.register_keras_serializable(package="keras_surrogate")
@dataclasses.dataclass(frozen=True)
class Surrogate:
    """An activation with the value of `forward` and, in the backward pass, `scale` times the slope of `backward`.

        y = forward.value(x)        dL/dx = scale * backward.slope(x) * dL/dy

    `Surrogate("relu", "softplus")` is the rectifier with the sigmoid for its derivative, because a
    backward is named by its function and not by its slope. `Surrogate(f, f)` is the ordinary
    activation. The replaced derivative is what reverse mode, forward mode, Jacobians and,
    differentiated once more, second derivatives see.

    It is callable on floating tensors of any shape and serializable, so it serves as `activation=`
    of any Keras layer:
    `Dense(8, activation=Surrogate("relu", "softplus"))`. So does the dictionary that
    `keras.saving.serialize_keras_object` makes of it, for JSON. The name of a preset does not:
    Keras looks up only its own names, and `keras_surrogate.get("sugar_bsilu")` is needed.

    Args:
        forward: gives the value. Whatever `functions.get` takes: a name, a configuration, a
            callable, a `Function`.
        backward: gives the slope; the same choice. Default: `forward`.
        scale: multiplies the slope; any finite number, default 1. A negative one reverses the
            gradient.
        residual: what the backward pass keeps in memory where the slope needs the input: None, the
            default, the input; "bfloat16" or "uint8", the slope in 2 bytes or 1 (see `residuals`
            for the errors). A compressed slope has no second derivative. In eager mode nothing is
            saved.
        jit_compile: whether the slope is compiled by XLA by itself, default False. Where the
            training step is not, this makes one pass over memory of a slope of many operations
            ("bsilu", "nelu"); each new shape takes some 0.1 s to compile, and small tensors gain
            nothing. Where the whole step is compiled it changes nothing.

    Raises:
        ValueError: an unknown name, the name of a published pair, a parameter out of range,
            something that is not a function, such as a layer.

    Source: Hu, Zhang and Ge 2021, doi:10.1109/ACCESS.2021.3054915, for the idea on ordinary
    activations; Bengio et al. 2013, arXiv:1308.3432, for steps.
    """

    forward: functions.Function
    backward: functions.Function | None = None
    scale: float = 1.0
    residual: str | None = None
    jit_compile: bool = False

    def __post_init__(self):
        forward = functions.get(self.forward)
        backward = forward if self.backward is None else functions.get(self.backward)
        object.__setattr__(self, "forward", forward)
        object.__setattr__(self, "backward", backward)
        object.__setattr__(self, "scale", functions.real_number(self.scale, "Surrogate", "scale"))
        if self.residual not in residuals.NAMES:
            raise ValueError(
                f"Surrogate: residual must be one of {residuals.NAMES}, but is {self.residual!r}."
            )
        if not isinstance(self.jit_compile, bool):
            raise ValueError(
                f"Surrogate: jit_compile must be True or False, but is {self.jit_compile!r}."
            )
        if self.residual == "uint8":
            residuals.slope_range(backward)

    def __call__(self, x):
        if isinstance(x, keras.KerasTensor):
            return keras.layers.Activation(self)(x)
        return with_gradient(_floating_tensor(x), self._evaluate, self._primitive)

    def blended(self, x, blend):
        """The same value with slope `blend` * surrogate + (1 - `blend`) * true; `blend` may be a tensor."""
        x, true = _floating_tensor(x), self.true()
        blend = tf.cast(blend, x.dtype)

        def evaluate(x):
            y, gradient = self._evaluate(x)
            return (
                y,
                lambda upstream: (
                    blend * gradient(upstream) + (1 - blend) * true._gradient(upstream, x, y)
                ),
            )

        return with_gradient(
            x, evaluate, lambda x: blend * self._primitive(x) + (1 - blend) * true._primitive(x)
        )

    def _evaluate(self, x):
        """The value, and the function from the incoming gradient to the outgoing one."""
        y = self.forward.value(x)
        if self.residual and self.backward.gradient_from_output(y, y, of=self.forward) is None:
            slope = residuals.compressed(self.residual, self.backward, x)
            return y, lambda upstream: self._scaled(upstream) * slope(upstream)
        return y, lambda upstream: self._gradient(self._scaled(upstream), x, y)

    def _gradient(self, upstream, x, y):
        """`upstream` times the slope, from the output where that suffices, so that the input need not be kept."""
        from_output = self.backward.gradient_from_output(upstream, y, of=self.forward)
        if from_output is not None:
            return from_output
        gradient = _compiled_gradient(self.backward) if self.jit_compile else self.backward.gradient
        return gradient(upstream, x)

    def _primitive(self, x):
        return self._scaled(self.backward.value(x))

    def _scaled(self, tensor):
        return tensor if self.scale == 1 else self.scale * tensor

    @property
    def slope_title(self):
        """What the backward pass takes, as people read it: "tanh" or "4 * tanh"."""
        return self.backward.title if self.scale == 1 else f"{self.scale:g} * {self.backward.title}"

    @property
    def title(self):
        """The pair as people read it: "sigmoid with the slope of tanh", or "sigmoid" where that is its own slope."""
        own = self.scale == 1 and self.backward == self.forward
        return (
            self.forward.title
            if own
            else f"{self.forward.title} with the slope of {self.slope_title}"
        )

    def true(self):
        """The ordinary activation with the same value: `Surrogate(forward, forward)`."""
        return Surrogate(self.forward)

    def scaled(self, factor):
        """The same surrogate with its slope multiplied by `factor`."""
        return dataclasses.replace(
            self, scale=self.scale * functions.real_number(factor, "Surrogate", "scale")
        )

    def get_config(self):
        """A dictionary of plain values that `from_config` turns into an equal surrogate."""
        pair = {"forward": self.forward.get_config(), "backward": self.backward.get_config()}
        return {
            **pair,
            "scale": self.scale,
            "residual": self.residual,
            "jit_compile": self.jit_compile,
        }

    @classmethod
    def from_config(cls, config):
        """The surrogate that `get_config` described."""
        return cls(**config)


@functools.lru_cache(maxsize=256)
def _compiled_gradient(function):
    return tf.function(function.gradient, jit_compile=True, autograph=False)


def _floating_tensor(x):
    """`x` as a dense floating tensor, or a ValueError that says how to make it one."""
    if isinstance(x, tf.RaggedTensor | tf.SparseTensor):
        raise ValueError(
            f"An activation needs a dense tensor, but got a {type(x).__name__}. For ragged values use "
            "tf.ragged.map_flat_values(activation, x); a sparse tensor must be made dense by tf.sparse.to_dense."
        )
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError(
            f"An activation needs floating numbers, but got {x.dtype.name}. Convert them by tf.cast."
        )
    return x
