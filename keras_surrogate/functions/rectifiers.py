"""Rectifiers: functions that grow without bound on one side, and the identity."""

import math

import tensorflow as tf

from keras_surrogate.functions.base import Function, between, finite, flag, positive, zero

__all__ = [
    "Bsilu",
    "Celu",
    "ClippedRelu",
    "Elu",
    "Exponential",
    "Gelu",
    "HardSilu",
    "LeakyRelu",
    "Linear",
    "Mish",
    "Nelu",
    "Relu",
    "Relu6",
    "Selu",
    "Silu",
    "Softplus",
    "Squareplus",
]


class Linear(Function):
    """The identity; as a backward it is the straight-through estimator.

    value: x
    slope: 1
    Source: Bengio et al. 2013, arXiv:1308.3432.
    """

    odd = True
    increasing = True
    keeps_sign = True
    slope_needs_only_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.identity(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return 1 + zero(x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=x, alpha=1.0)


class Relu(Function):
    """The rectifier. The slope at 0 is 0.

    value: maximum(x, 0)
    slope: where(x > 0, 1, 0)
    Source: Nair and Hinton 2010, ICML; as Keras.
    """

    increasing = True
    keeps_sign = True
    slope_needs_only_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.sign(x))

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ReluGrad(gradients=upstream, features=x)


class LeakyRelu(Function):
    """The rectifier with a small slope for x <= 0.

    value: where(x > 0, x, negative_slope * x)
    slope: where(x > 0, 1, negative_slope)
    Args:
        negative_slope: the slope for x <= 0, in [0, 1], default 0.2.
    Source: Maas et al. 2013, ICML workshop; default as keras.activations.leaky_relu.
    """

    increasing = True
    keeps_sign = True
    slope_needs_only_sign = True
    negative_slope: float = between(0, 1, default=0.2)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        if self.negative_slope == 0:
            return tf.nn.relu(x)
        if x.dtype == tf.float64:
            return tf.maximum(self.negative_slope * x, x)
        return tf.nn.leaky_relu(x, self.negative_slope)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.sign(x), self.negative_slope)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        # The kernels keep negative_slope in float32, which is not enough for float64.
        if x.dtype == tf.float64:
            return super().gradient(upstream, x)
        return tf.raw_ops.LeakyReluGrad(gradients=upstream, features=x, alpha=self.negative_slope)


class Elu(Function):
    """The exponential linear unit.

    value: where(x > 0, x, alpha * expm1(minimum(x, 0)))
    slope: where(x > 0, 1, alpha * exp(minimum(x, 0)))
    Args:
        alpha: minus the value at -inf, in (0, inf), default 1.
    Source: Clevert et al. 2016, arXiv:1511.07289; as Keras.
    """

    increasing = True
    keeps_sign = True
    alpha: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > 0, x, self.alpha * tf.nn.elu(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > 0, tf.ones_like(x), self.alpha * tf.exp(tf.minimum(x, 0)))

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self or self.alpha != 1:
            return None
        return tf.raw_ops.EluGrad(gradients=upstream, outputs=y)


# The constants of the paper, for which mean 0 and variance 1 are a fixed point.
_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


class Selu(Function):
    """The self-normalising exponential linear unit.

    value: 1.0507009873554805 * where(x > 0, x, 1.6732632423543772 * expm1(minimum(x, 0)))
    slope: 1.0507009873554805 * where(x >= 0, 1, 1.6732632423543772 * exp(minimum(x, 0)))
    Source: Klambauer et al. 2017, arXiv:1706.02515; as Keras.
    """

    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.selu(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        left = _SELU_SCALE * _SELU_ALPHA * tf.exp(tf.minimum(x, 0))
        return tf.where(x >= 0, _SELU_SCALE * tf.ones_like(x), left)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # Not tf.raw_ops.SeluGrad, whose slope at exactly 0 is 1.76 where XLA compiles it. For x < 0
        # scale * alpha * exp(x) is y + scale * alpha.
        left = y + _SELU_SCALE * _SELU_ALPHA
        return upstream * tf.where(y >= 0, _SELU_SCALE * tf.ones_like(y), left)


class Gelu(Function):
    """The Gaussian error linear unit: x times the normal distribution function.

    value: x * (sigmoid(sqrt(8 / pi) * (x + 0.044715 * x**3)) if approximate else ndtr(x))
    slope: (ndtr(x) + x * exp(-(x**2) / 2) / sqrt(2 * pi)) if not approximate else sigmoid(sqrt(8 /
        pi) * (x + 0.044715 * x**3)) * (1 + x * sqrt(8 / pi) * (1 + 0.134145 * x**2) * (1 -
        sigmoid(sqrt(8 / pi) * (x + 0.044715 * x**3))))
    Args:
        approximate: True for the tanh approximation, default False.
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415; as Keras.
    """

    approximate: bool = flag(default=False)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(x, self._gate(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self._gate(x) + tf.math.multiply_no_nan(x, self._gate_slope(x))

    def _gate(self, x: tf.Tensor) -> tf.Tensor:
        if self.approximate:
            # Beyond 30 the gate is 0 or 1 in every dtype, and the cube may overflow.
            x = tf.clip_by_value(x, -30, 30)
            return tf.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
        return tf.math.erfc(-x / math.sqrt(2)) / 2

    def _gate_slope(self, x: tf.Tensor) -> tf.Tensor:
        if self.approximate:
            gate = self._gate(x)
            x = tf.clip_by_value(x, -30, 30)
            return math.sqrt(8 / math.pi) * (1 + 0.134145 * x**2) * gate * (1 - gate)
        return tf.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


class Silu(Function):
    """The sigmoid linear unit, also called swish.

    value: x * sigmoid(x)
    slope: sigmoid(x) * (1 + x * (1 - sigmoid(x)))
    Source: Elfwing et al. 2018, arXiv:1702.03118; as Keras.
    """

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(x, tf.sigmoid(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        gate = tf.sigmoid(x)
        return gate + tf.math.multiply_no_nan(x, gate * (1 - gate))


class Bsilu(Function):
    """The bounded SiLU, with a slope of up to 1.290 (at 1.49) that is negative below -2.735.

    These numbers are for the default alpha.

    value: (x + alpha) * sigmoid(x) - alpha / 2
    slope: sigmoid(x) + (x + alpha) * sigmoid(x) * (1 - sigmoid(x))
    Args:
        alpha: the shift, in (0, inf), default 1.67.
    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074.
    """

    alpha: float = positive(default=1.67)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(x + self.alpha, tf.sigmoid(x)) - self.alpha / 2

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        gate = tf.sigmoid(x)
        # A quarter of the range, so that the sum with alpha does not overflow.
        shifted = finite(x, 0.25) + self.alpha
        return (gate + tf.raw_ops.SigmoidGrad(y=gate, dy=shifted)) * upstream


class Nelu(Function):
    """The negative-slope linear unit: the value jumps at 0, and the slope is negative for x < 0.

    value: where(x > 0, x, -alpha / (1 + x**2))
    slope: where(x > 0, 1, 2 * alpha * x / (1 + x**2)**2)
    Args:
        alpha: the size of the jump at 0, in (0, inf), default 0.05.
    Source: SUGAR, Horuz et al. 2025, arXiv:2505.22074 (0.1 and 0.01 are used there).
    """

    alpha: float = positive(default=0.05)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > 0, x, -self.alpha / (1 + tf.minimum(x, 0) ** 2))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        # Outside XLA, Select costs less than tf.where, and a square root in Python less than a
        # second product of tensors.
        negative = tf.clip_by_value(x, -(float(x.dtype.max) ** 0.5) / 2, 0)
        root = math.sqrt(2 * self.alpha) / (1 + tf.square(negative))
        left = negative * root * root * upstream
        return tf.raw_ops.Select(condition=x > 0, x=upstream, y=left)


class Softplus(Function):
    """The smooth rectifier, whose slope is the sigmoid.

    value: logaddexp(x, 0)
    slope: sigmoid(x)
    Source: Dugas et al. 2001, NIPS; as Keras.
    """

    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.softplus(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.SoftplusGrad(gradients=upstream, features=x)


class Relu6(Function):
    """The rectifier, clipped at 6. The slope at 0 and at 6 is 0.

    value: clip(x, 0, 6)
    slope: where((x > 0) & (x < 6), 1, 0)
    Source: Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10"; as Keras.
    """

    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.sign(x)) * tf.nn.relu(tf.sign(6 - x))

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Relu6Grad(gradients=upstream, features=x)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        # Clipped at 0 or at both ends, y gives the same slope as x.
        if of not in (self, Relu()):
            return None
        return self.gradient(upstream, y)


class ClippedRelu(Function):
    """The rectifier, clipped at a maximum. The slope at 0 and at the maximum is 0.

    value: clip(x, 0, max_value)
    slope: where((x > 0) & (x < max_value), 1, 0)
    Args:
        max_value: the largest value, in (0, inf), default 1.
    Source: as keras.layers.ReLU(max_value=...); 6 is `Relu6`.
    """

    increasing = True
    keeps_sign = True
    max_value: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # In this order the slope of `minimum` at the maximum is 0.
        return tf.minimum(tf.constant(self.max_value, x.dtype), tf.nn.relu(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(tf.sign(x)) * tf.nn.relu(tf.sign(self.max_value - x))

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        # Clipped at 0 or at both ends, y gives the same slope as x.
        if of not in (self, Relu()):
            return None
        return self.gradient(upstream, y)


class Celu(Function):
    """The exponential linear unit whose slope has no jump.

    value: where(x > 0, x, alpha * expm1(minimum(x, 0) / alpha))
    slope: exp(minimum(x, 0) / alpha)
    Args:
        alpha: minus the value at -inf, in (0, inf), default 1.
    Source: Barron 2017, arXiv:1704.07483; as Keras, except that the slope at 0 is 1 there too,
        where TensorFlow differentiates Keras's formula to 2.
    """

    increasing = True
    keeps_sign = True
    alpha: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x) + self.alpha * tf.math.expm1(tf.minimum(x, 0) / self.alpha)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.exp(tf.minimum(x, 0) / self.alpha)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # The slope left of 0 is y / alpha + 1, which is Elu's for the output y / alpha.
        return tf.raw_ops.EluGrad(gradients=upstream, outputs=y / self.alpha)


class Mish(Function):
    """A smooth rectifier with a minimum below 0.

    value: x * tanh(logaddexp(x, 0))
    slope: tanh(logaddexp(x, 0)) + x * sigmoid(x) * (1 - tanh(logaddexp(x, 0))**2)
    Source: Misra 2019, arXiv:1908.08681; as Keras.
    """

    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(x, tf.tanh(tf.nn.softplus(x)))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        gate = tf.tanh(tf.nn.softplus(x))
        # Beyond 1000 the product is 0 in every dtype.
        x = tf.clip_by_value(x, -1000, 1000)
        return gate + x * tf.sigmoid(x) * (1 - gate**2)


class HardSilu(Function):
    """The sigmoid linear unit with the hard sigmoid for its gate. The slope is 0 at -3 and 1 at 3.

    value: x * clip(x + 3, 0, 6) / 6
    slope: where(x >= 3, 1, where(x <= -3, 0, (2 * x + 3) / 6))
    Source: MobileNetV3, Howard et al. 2019, arXiv:1905.02244; as Keras.
    """

    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.multiply_no_nan(x, tf.nn.relu6(x + 3) / 6)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(x + 3) / 6 + tf.math.multiply_no_nan(x, Relu6().slope(x + 3) / 6)


class Squareplus(Function):
    """A smooth rectifier without exponentials: a branch of a hyperbola.

    value: (x + sqrt(x**2 + b)) / 2
    slope: (1 + x / sqrt(x**2 + b)) / 2
    Args:
        b: the width of the bend, in (0, inf), default 4, for which the value at 0 is 1.
    Source: Barron 2021, arXiv:2112.11687; default as Keras.
    """

    increasing = True
    b: float = positive(default=4.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        root = self._root(x)
        # The same without cancellation: x + root = b / (root - x).
        left = self.b / (root - tf.minimum(x, 0)) / 2
        return tf.where(x > 0, x / 2 + root / 2, left)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.value(finite(x)) / self._root(x)

    def _root(self, x: tf.Tensor) -> tf.Tensor:
        """sqrt(x**2 + b), also where the square overflows."""
        x = finite(x)
        width = math.sqrt(self.b)
        size = tf.stop_gradient(tf.maximum(tf.abs(x), width))
        return size * tf.sqrt(tf.square(x / size) + tf.square(width / size))


class Exponential(Function):
    """The exponential function.

    value: exp(x)
    slope: exp(x)
    Source: as Keras.
    """

    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.exp(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.exp(x)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        return upstream * y
