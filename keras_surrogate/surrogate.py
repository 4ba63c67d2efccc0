"""A surrogate: the value of one function, the slope of another; and the package's only custom gradient."""

import dataclasses

import keras
import tensorflow as tf

from keras_surrogate import functions


@keras.saving.register_keras_serializable(package="keras_surrogate")
@dataclasses.dataclass(frozen=True)
class Surrogate:
    """An activation with the value of `forward` and, in the backward pass, `scale` times the slope of `backward`.

        y = forward.value(x)        dL/dx = scale * backward.slope(x) * dL/dy

    `Surrogate("relu", "softplus")` is the rectifier with the sigmoid for its derivative, because a backward is named
    by its function and not by its slope. `Surrogate(f, f)` is the ordinary activation. The replaced derivative is
    what reverse mode, forward mode, Jacobians and, differentiated once more, second derivatives see.

    It is callable on floating tensors of any shape and serializable, so it serves as `activation=` of any Keras layer.

    Args:
        forward: gives the value. Whatever `functions.get` takes: a name, a configuration, a callable, a `Function`.
        backward: gives the slope; the same choice. Default: `forward`.
        scale: multiplies the slope; any finite number, default 1. A negative one reverses the gradient.

    Raises:
        ValueError: an unknown name, a parameter out of range, something that is not a function.

    Source: Hu, Zhang and Ge 2021, doi:10.1109/ACCESS.2021.3054915, for the idea on ordinary activations; Bengio et
    al. 2013, arXiv:1308.3432, for steps.
    """

    forward: functions.Function
    backward: functions.Function | None = None
    scale: float = 1.0

    def __post_init__(self):
        forward = functions.get(self.forward)
        backward = forward if self.backward is None else functions.get(self.backward)
        object.__setattr__(self, "forward", forward)
        object.__setattr__(self, "backward", backward)
        object.__setattr__(self, "scale", functions.real_number(self.scale, "Surrogate", "scale"))

    def __call__(self, x):
        if isinstance(x, keras.KerasTensor):
            return keras.layers.Activation(self)(x)
        return with_gradient(_floating_tensor(x), self._evaluate, self._primitive)

    def _evaluate(self, x):
        """The value, and the function from the incoming gradient to the outgoing one."""
        y = self.forward.value(x)
        return y, lambda upstream: self._gradient(self._scaled(upstream), x, y)

    def _gradient(self, upstream, x, y):
        """`upstream` times the slope, from the output where that suffices, so that the input need not be kept."""
        from_output = self.backward.gradient_from_output(upstream, y, of=self.forward)
        return self.backward.gradient(upstream, x) if from_output is None else from_output

    def _primitive(self, x):
        return self._scaled(self.backward.value(x))

    def _scaled(self, tensor):
        return tensor if self.scale == 1 else self.scale * tensor

    def true(self):
        """The ordinary activation with the same value: `Surrogate(forward, forward)`."""
        return Surrogate(self.forward)

    def scaled(self, factor):
        """The same surrogate with its slope multiplied by `factor`."""
        return dataclasses.replace(self, scale=self.scale * functions.real_number(factor, "Surrogate", "scale"))

    def get_config(self):
        """A dictionary of plain values that `from_config` turns into an equal surrogate."""
        return {"forward": self.forward.get_config(), "backward": self.backward.get_config(), "scale": self.scale}

    @classmethod
    def from_config(cls, config):
        """The surrogate that `get_config` described."""
        return cls(**config)


def with_gradient(x, evaluate, primitive):
    """A value with a gradient of its own, in every mode of differentiation.

    Args:
        x: a floating tensor.
        evaluate: from `x` to the value and to a function from the gradient of the value to the gradient of `x`.
        primitive: a function of `x` whose ordinary derivative is the same gradient, for forward mode.
    """
    asked = []

    def run(hide):
        @tf.custom_gradient
        def operation(x):
            y, gradient = evaluate(x)

            def noticed_gradient(upstream):
                asked.append(True)
                return gradient(upstream)

            return hide(y), noticed_gradient

        return operation(x)

    y = run(tf.stop_gradient)
    # A tape asks for the gradient later; only a forward accumulator asks at once. It is answered by the tangent of the
    # value itself, which must be the primitive's: what a custom gradient tells an accumulator is lost in graphs.
    return run(lambda y: tf.stop_gradient(y) + _zero_with_tangent_of(primitive(x))) if asked else y


def _zero_with_tangent_of(primitive):
    finite = tf.math.is_finite(primitive)
    return tf.where(finite, primitive - tf.stop_gradient(primitive), tf.zeros_like(primitive))


def _floating_tensor(x):
    """`x` as a dense floating tensor, or a ValueError that says how to make it one."""
    if isinstance(x, tf.RaggedTensor | tf.SparseTensor):
        raise ValueError(
            f"An activation needs a dense tensor, but got a {type(x).__name__}. For ragged values use "
            "tf.ragged.map_flat_values(activation, x); a sparse tensor must be made dense by tf.sparse.to_dense."
        )
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError(f"An activation needs floating numbers, but got {x.dtype.name}. Convert them by tf.cast.")
    return x
