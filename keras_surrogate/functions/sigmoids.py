"""Sigmoids: smooth or clipped passages from one level to another, used as ordinary activations."""

import tensorflow as tf

from keras_surrogate.functions.base import Function, finite, nonnegative, positive


class Sigmoid(Function):
    """The logistic function.

    value: 1 / (1 + exp(-x))
    slope: sigmoid(x) * (1 - sigmoid(x))
    Source: as Keras.
    """

    odd = True
    increasing = True

    def value(self, x):
        return tf.sigmoid(x)

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return tf.raw_ops.SigmoidGrad(y=tf.sigmoid(x), dy=upstream)

    def gradient_from_output(self, upstream, y, of):
        return tf.raw_ops.SigmoidGrad(y=y, dy=upstream) if of == self else None


class FlatSpotSigmoid(Function):
    """The logistic function plus a line, so that the slope never falls below a constant.

    value: sigmoid(x) + constant * x
    slope: sigmoid(x) * (1 - sigmoid(x)) + constant
    Args:
        constant: what is added to the slope, in [0, inf), default 0.1.
    Source: Fahlman 1988, CMU-CS-88-162 (0.1); Roodschild et al. 2020, doi:10.1007/s13748-020-00218-y.
    """

    odd = True
    increasing = True
    constant: float = nonnegative(0.1)

    def value(self, x):
        return tf.sigmoid(x) + self.constant * x

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return self.gradient_from_output(upstream, tf.sigmoid(x), Sigmoid())

    def gradient_from_output(self, upstream, y, of):
        return tf.raw_ops.SigmoidGrad(y=y, dy=upstream) + self.constant * upstream if of == Sigmoid() else None


class Tanh(Function):
    """The hyperbolic tangent.

    value: tanh(x)
    slope: 1 - tanh(x)**2
    Source: as Keras.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x):
        return tf.tanh(x)

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return tf.raw_ops.TanhGrad(y=tf.tanh(x), dy=upstream)

    def gradient_from_output(self, upstream, y, of):
        if of == Sigmoid():
            # With y = 1 / (1 + exp(-x)), tanh(x) is a rational function of y.
            y = (2 * y - 1) / (2 * y * (y - 1) + 1)
        return tf.raw_ops.TanhGrad(y=y, dy=upstream) if of in (self, Sigmoid()) else None


class ScaledTanh(Function):
    """The hyperbolic tangent of n x: the tanh(nx) of an old question.

    value: tanh(n * x)
    slope: n * (1 - tanh(n * x)**2)
    Args:
        n: the slope at 0, in (0, inf), default 2.
    Source: "Why not tanh(nx) against vanishing gradients?", Cross Validated.
    """

    odd = True
    increasing = True
    keeps_sign = True
    n: float = positive(2.0)

    def value(self, x):
        return tf.tanh(self.n * x)

    def slope(self, x):
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream, x):
        return self.gradient_from_output(upstream, self.value(x), self)

    def gradient_from_output(self, upstream, y, of):
        return self.n * tf.raw_ops.TanhGrad(y=y, dy=upstream) if of == self else None


class HardTanh(Function):
    """The identity, clipped to [-1, 1]; as a backward it is the clipped straight-through estimator.

    value: clip(x, -1, 1)
    slope: where(abs(x) <= 1, 1, 0)
    Source: Courbariaux et al. 2016, arXiv:1602.02830; as Keras.
    """

    odd = True
    increasing = True
    keeps_sign = True

    def value(self, x):
        return tf.clip_by_value(x, -1, 1)

    def slope(self, x):
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

    def value(self, x):
        # tf.nn.softsign is NaN at infinity, and its gradient has no gradient: no forward mode, no second derivative.
        bounded = finite(x)
        return bounded / (1 + tf.abs(bounded))

    def slope(self, x):
        return 1 / tf.square(1 + tf.abs(x))
