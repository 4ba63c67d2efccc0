"""Sigmoids: smooth or clipped transitions from one level to another."""

import math

import tensorflow as tf

from keras_surrogate.functions.base import Function, finite, nonnegative, outside, positive
from keras_surrogate.functions.rectifiers import Relu6

__all__ = [
    "Boxcar",
    "Erf",
    "FlatSpotSigmoid",
    "HardSigmoid",
    "HardTanh",
    "LecunTanh",
    "LogSigmoid",
    "ScaledSigmoid",
    "ScaledTanh",
    "Sigmoid",
    "Softsign",
    "Tanh",
]


class Sigmoid(Function):
    """The logistic function.

    value: 1 / (1 + exp(-x))
    slope: sigmoid(x) * (1 - sigmoid(x))
    Source: as Keras.
    """

    odd = True
    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.SigmoidGrad(y=tf.sigmoid(x), dy=upstream)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        return tf.raw_ops.SigmoidGrad(y=y, dy=upstream)


class FlatSpotSigmoid(Function):
    """The logistic function plus a line, so that the slope is nowhere below a constant.

    value: sigmoid(x) + constant * x
    slope: sigmoid(x) * (1 - sigmoid(x)) + constant
    Args:
        constant: the number added to the slope, in [0, inf), default 0.1.
    Source: Fahlman 1988, CMU-CS-88-162 (0.1); Roodschild et al. 2020,
    doi:10.1007/s13748-020-00218-y.
    """

    odd = True
    increasing = True
    constant: float = nonnegative(default=0.1)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(x) + tf.math.multiply_no_nan(x, self.constant)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return self.gradient_from_output(upstream, tf.sigmoid(x), Sigmoid())

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != Sigmoid():
            return None
        return tf.raw_ops.SigmoidGrad(y=y, dy=upstream) + self.constant * upstream


class Tanh(Function):
    """The hyperbolic tangent.

    value: tanh(x)
    slope: 1 - tanh(x)**2
    Source: as Keras.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.TanhGrad(y=tf.tanh(x), dy=upstream)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of == Sigmoid():
            # With y = 1 / (1 + exp(-x)), tanh(x) is a rational function of y.
            y = (2 * y - 1) / (2 * y * (y - 1) + 1)
        if of not in (self, Sigmoid()):
            return None
        return tf.raw_ops.TanhGrad(y=y, dy=upstream)


class ScaledTanh(Function):
    """The hyperbolic tangent of n x.

    value: tanh(n * x)
    slope: n * (1 - tanh(n * x)**2)
    Args:
        n: the slope at 0, in (0, inf), default 2.
    Source: "Can the vanishing gradient problem be solved by multiplying the input of tanh with a
    coefficient?", Data Science Stack Exchange.
    """

    odd = True
    increasing = True
    keeps_sign = True
    n: float = positive(default=2.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.tanh(self.n * x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return self.gradient_from_output(upstream, self.value(x), self)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        return self.n * tf.raw_ops.TanhGrad(y=y, dy=upstream)


class HardTanh(Function):
    """The identity, clipped to [-1, 1]; as a backward it is the clipped straight-through estimator.

    value: clip(x, -1, 1)
    slope: where(abs(x) <= 1, 1, 0)
    Source: Courbariaux et al. 2016, arXiv:1602.02830; as Keras.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(x, -1, 1)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return 1 - tf.nn.relu(tf.sign(tf.abs(x) - 1))


class Softsign(Function):
    """A sigmoid with polynomial tails.

    value: x / (1 + abs(x))
    slope: 1 / (1 + abs(x))**2
    Source: Bergstra et al. 2009; as Keras.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # tf.nn.softsign is NaN at infinity, and its gradient has no gradient: it has neither
        # forward mode nor second derivatives.
        bounded = finite(x)
        return bounded / (1 + tf.abs(bounded))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return 1 / (1 + tf.abs(x)) ** 2


class LogSigmoid(Function):
    """The logarithm of the logistic function.

    value: -logaddexp(-x, 0)
    slope: sigmoid(-x)
    Source: as Keras.
    """

    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.log_sigmoid(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(-x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.SoftplusGrad(gradients=upstream, features=-x)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # sigmoid(-x) = 1 - sigmoid(x) = 1 - exp(y)
        return -upstream * tf.math.expm1(y)


class HardSigmoid(Function):
    """The logistic function in three straight pieces. The slope at -3 and at 3 is 0.

    value: clip(x + 3, 0, 6) / 6
    slope: where(abs(x) < 3, 1 / 6, 0)
    Source: MobileNetV3, Howard et al. 2019, arXiv:1905.02244; as Keras 3; other
        libraries have other slopes.
    """

    odd = True
    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu6(x + 3) / 6

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return Relu6().slope(x + 3) / 6

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.Relu6Grad(gradients=upstream / 6, features=x + 3)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        # 6 y is x + 3, clipped to [0, 6].
        return tf.raw_ops.Relu6Grad(gradients=upstream / 6, features=6 * y)


class LecunTanh(Function):
    """The hyperbolic tangent, scaled so that it is near 1 at 1 and near -1 at -1.

    value: 1.7159 * tanh(2 / 3 * x)
    slope: 1.7159 * 2 / 3 * (1 - tanh(2 / 3 * x)**2)
    Source: LeCun, Bottou, Orr and Mueller 1998, "Efficient BackProp", doi:10.1007/3-540-49430-8_2.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return 1.7159 * tf.tanh(2 / 3 * x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return 1.7159 * 2 / 3 * tf.raw_ops.TanhGrad(y=tf.tanh(2 / 3 * x), dy=upstream)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        return 1.7159 * 2 / 3 * tf.raw_ops.TanhGrad(y=y / 1.7159, dy=upstream)


class ScaledSigmoid(Function):
    """The logistic function of alpha x.

    value: sigmoid(alpha * x)
    slope: alpha * sigmoid(alpha * x) * (1 - sigmoid(alpha * x))
    Args:
        alpha: four times the slope at 0, in (0, inf), default 4.
    Source: SpikingJelly, Fang et al. 2023, doi:10.1126/sciadv.adi1480 (its Sigmoid).
    """

    odd = True
    increasing = True
    alpha: float = positive(default=4.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(self.alpha * x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return self.gradient_from_output(upstream, self.value(x), self)

    def gradient_from_output(
        self, upstream: tf.Tensor, y: tf.Tensor, of: Function
    ) -> tf.Tensor | None:
        if of != self:
            return None
        return self.alpha * tf.raw_ops.SigmoidGrad(y=y, dy=upstream)


class Erf(Function):
    """The error function, from 0 to 1, with a Gaussian slope of deviation 1 / (sqrt(2) alpha).

    value: (1 + erf(alpha * x)) / 2
    slope: alpha / sqrt(pi) * exp(-((alpha * x)**2))
    Args:
        alpha: the sharpness, in (0, inf), default 2.
    Source: Yin et al. 2020, arXiv:2005.11633, in SpikingJelly's parametrisation.
    """

    odd = True
    increasing = True
    alpha: float = positive(default=2.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.erfc(-self.alpha * x) / 2

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.alpha / math.sqrt(math.pi) * tf.exp(-(finite(self.alpha * x) ** 2))


class Boxcar(Function):
    """A step with a ramp: the clipped straight-through estimator of a step.

    The slope at both ends of the ramp is 1 / width.

    value: clip(x / width + 1 / 2, 0, 1)
    slope: where(abs(x) <= width / 2, 1 / width, 0)
    Args:
        width: the length of the ramp, in (0, inf), default 2.
    Source: Wu et al. 2018, arXiv:1706.02609 (its h1, where the width is called a1).
    """

    odd = True
    increasing = True
    width: float = positive(default=2.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(x / self.width + 0.5, 0, 1)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return (1 - outside(x, self.width / 2)) / self.width
