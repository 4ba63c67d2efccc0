"""A function whose slope has a factor that can change after a step was traced."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_surrogate.functions.base import Function

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate


class Gain:
    """The factor of a surrogate's slope, in a variable.

    Args:
        original: the surrogate, without the factor.

    Attributes:
        original: the same.
        variable: the factor, a float64 variable that starts at 1.
        inputs: a list to which each input in eager mode is appended; None, the default: none is.
        listener: a function from the gradient without the factor to the gradient that the backward
            pass goes on with; it is called in eager mode. None, the default: the product.
    """

    original: Surrogate
    variable: tf.Variable
    inputs: list[tf.Tensor] | None
    listener: Callable[[tf.Tensor], tf.Tensor] | None

    def __init__(self, original: Surrogate) -> None:
        self.original = original
        with tf.init_scope():
            self.variable = tf.Variable(1.0, trainable=False, dtype=tf.float64)
        self.inputs = None
        self.listener = None
        self._read: tf.Tensor | None = None

    def read(self) -> Gain:
        """The same, with the factor of now.

        The backward pass of a loop takes no variable, so that a call reads it beforehand.
        """
        gain = copy.copy(self)
        gain._read = tf.convert_to_tensor(self.variable)
        return gain

    def times(self, tensor: tf.Tensor) -> tf.Tensor:
        """The product of the factor and a tensor."""
        factor = self.variable if self._read is None else self._read
        return tf.cast(factor, tensor.dtype) * tensor

    def note(self, x: tf.Tensor) -> None:
        """Append an input to `inputs`."""
        if self.inputs is not None and tf.executing_eagerly():
            self.inputs.append(x)

    def held(self) -> Surrogate:
        """The surrogate with the factor."""
        backward = Held(self.original.backward, self)
        # A slope that is compiled on its own would be shared with surrogates of another factor.
        return dataclasses.replace(
            self.original, backward=backward, residual=None, jit_compile=False
        )

    def released(self) -> Surrogate:
        """The surrogate with the present factor in its scale."""
        return self.original.scaled(float(self.variable.numpy()))


class Held(Function, collect=False):
    """Another function times the factor of a `Gain`.

    Args:
        function: the other function.
        gain: the `Gain`.
    """

    function: Function
    gain: Gain

    def read(self) -> Held:
        """The same function with the factor of now."""
        return Held(self.function, self.gain.read())

    @property
    def title(self) -> str:
        return self.function.title

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return self.gain.times(self.function.value(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        self.gain.note(x)
        return self.gain.times(self.function.slope(x))

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        self.gain.note(x)
        found = self.function.gradient(upstream, x)
        if self.gain.listener is not None and tf.executing_eagerly():
            return self.gain.listener(found)
        return self.gain.times(found)

    def get_config(self) -> dict[str, Any]:
        return self.function.get_config()
