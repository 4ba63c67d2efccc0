"""Shrinkage, thresholds and rounding: functions with flat pieces."""

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import (
    MOST_JUMPS,
    Function,
    nonnegative,
    outside,
    real,
    zero,
)

__all__ = [
    "Floor",
    "HardShrink",
    "Round",
    "SoftShrink",
    "TanhShrink",
    "Ternary",
    "Threshold",
]


class TanhShrink(Function):
    """The identity minus the hyperbolic tangent.

    value: x - tanh(x)
    slope: tanh(x)**2
    Source: as Keras.
    """

    odd = True
    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return x - tf.tanh(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.square(tf.tanh(x))


class HardShrink(Function):
    """The identity, with 0 for small inputs. The slope at the thresholds is 0.

    value: where(abs(x) > threshold, x, 0)
    slope: where(abs(x) > threshold, 1, 0)
    Args:
        threshold: inputs up to this size become 0, in [0, inf), default 0.5.
    Source: Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425; default as Keras.
    """

    odd = True
    increasing = True
    threshold: float = nonnegative(default=0.5)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.abs(x) > self.threshold, x, zero(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return outside(x, self.threshold)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # The slope is 1 where the output is not 0.
        return upstream * tf.abs(tf.sign(y))


class SoftShrink(Function):
    """The identity, moved towards 0 by at most the threshold.

    The slope at the thresholds is 0.

    value: sign(x) * maximum(abs(x) - threshold, 0)
    slope: where(abs(x) > threshold, 1, 0)
    Args:
        threshold: the distance by which inputs are moved, in [0, inf), default 0.5.
    Source: Donoho 1995, doi:10.1109/18.382009; default as Keras.
    """

    odd = True
    increasing = True
    threshold: float = nonnegative(default=0.5)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return x - tf.clip_by_value(x, -self.threshold, self.threshold)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return outside(x, self.threshold)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # The slope is 1 where the output is not 0.
        return upstream * tf.abs(tf.sign(y))


class Threshold(Function):
    """The identity above a threshold, a constant up to it; by default the thresholded rectifier.

    value: where(x > threshold, x, default_value)
    slope: where(x > threshold, 1, 0)
    Args:
        threshold: inputs up to this one are replaced, any finite number, default 1.
        default_value: the constant that replaces them, any finite number, default 0.
    Source: Konda et al. 2014, arXiv:1402.3337 (1 and 0); parameters as keras.activations.threshold,
        which has no defaults.
    """

    increasing = True
    threshold: float = real(default=1.0)
    default_value: float = real(default=0.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > self.threshold, x, self.default_value + zero(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.sign(x - self.threshold))


class Round(Function):
    """The nearest whole number, halves to the even one.

    value: round(x)
    slope: 0
    Source: as NumPy.
    """

    odd = True
    increasing = True
    slope_needs_only_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.round(x) + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray | None:
        if 2 * reach > MOST_JUMPS - 2:
            return None
        furthest = np.floor(reach) + 0.5
        return np.arange(-furthest, furthest + 0.5)


class Floor(Function):
    """The largest whole number that is not above x.

    value: floor(x)
    slope: 0
    Source: as NumPy.
    """

    increasing = True
    slope_needs_only_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.floor(x) + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray | None:
        if 2 * reach > MOST_JUMPS - 2:
            return None
        furthest = np.floor(reach)
        return np.arange(-furthest, furthest + 0.5)


class Ternary(Function):
    """The sign, with 0 for inputs up to the thresholds; at them too, where larq has the sign.

    The threshold of ternary weight networks is 0.7 times the mean of abs(w) over a tensor, which no
    function of single numbers knows. Divide the weights by that mean first, and take 0.7: the
    preset `twn`.

    value: where(abs(x) > threshold, sign(x), 0)
    slope: 0
    Args:
        threshold: inputs up to this size become 0, in [0, inf), default 0.5.
    Source: ternary weight networks, Li et al. 2016, arXiv:1605.04711.
    """

    odd = True
    increasing = True
    slope_needs_only_sign = True
    threshold: float = nonnegative(default=0.5)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sign(x) * outside(x, self.threshold)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray:
        return np.unique([0.0 - self.threshold, self.threshold])
