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
        x = _floating_tensor(x)
        y, forward_mode = self._replaced_derivative(x, tf.stop_gradient)
        if forward_mode:
            y, _ = self._replaced_derivative(x, lambda y: tf.stop_gradient(y) + self._tangent_carrier(x))
        return y

    def _replaced_derivative(self, x, hide):
        """The value with its derivative replaced in reverse mode, and whether a forward accumulator watches `x`.

        Accumulators ask for the gradient at once, tapes later. What they are told is lost in graphs, where they see
        through to the value's own tangent instead: in forward mode `hide` must give it the tangent that it should have.
        """
        asked = []

        @tf.custom_gradient
        def activation(x):
            y = self.forward.value(x)

            def gradient(upstream):
                asked.append(True)
                return self._gradient(upstream, x, y)

            return hide(y), gradient

        return activation(x), bool(asked)

    def _tangent_carrier(self, x):
        """Zero, whose tangent in forward mode is the surrogate's slope."""
        primitive = self.scale * self.backward.value(x)
        return tf.where(tf.math.is_finite(primitive), primitive - tf.stop_gradient(primitive), tf.zeros_like(x))

    def _gradient(self, upstream, x, y):
        """`upstream` times the slope, from the output where that suffices, so that the input need not be kept."""
        upstream = upstream if self.scale == 1 else self.scale * upstream
        if self.forward.keeps_sign and self.backward.slope_needs_only_sign:
            return self.backward.gradient(upstream, y)
        from_output = self.backward.gradient_from_output(upstream, y) if self.backward == self.forward else None
        return self.backward.gradient(upstream, x) if from_output is None else from_output

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
