"""Steps, and functions whose slopes replace theirs in spiking and binarised networks."""

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import (
    Function,
    above,
    between,
    finite,
    nonnegative,
    outside,
    positive,
    zero,
)

__all__ = [
    "Atan",
    "Dspike",
    "ExponentialSpike",
    "FastSigmoid",
    "LogTailedRelu",
    "MultiGaussian",
    "NonzeroSignLogAbs",
    "PiecewiseLeaky",
    "PiecewiseQuadratic",
    "QPseudoSpike",
    "S2nn",
    "Sign",
    "Step",
    "SwishSign",
]


def _sign(x: tf.Tensor, at_zero: float) -> tf.Tensor:
    """The sign, with -1, 0 or 1 at 0; fast outside XLA, and NaN at NaN."""
    if at_zero == 0:
        return tf.sign(x)
    # Adding a half changes the sign at 0 only.
    return tf.sign(tf.sign(x) + at_zero / 2)


class Step(Function):
    """The Heaviside step.

    value: where(x == 0, at_zero, where(x > 0, 1, 0))
    slope: 0
    Args:
        at_zero: the value at 0, in [0, 1], default 1.
    Source: Heaviside; 1 at 0 is the convention of spiking networks.
    """

    increasing = True
    at_zero: float = between(0, 1, default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # Few operations, because each is a pass over memory outside XLA; NaN stays NaN.
        if self.at_zero == 1:
            return 1 + tf.sign(tf.minimum(x, 0))
        if self.at_zero == 0:
            return tf.nn.relu(tf.sign(x))
        return tf.where(tf.equal(x, 0), tf.constant(self.at_zero, x.dtype), tf.nn.relu(tf.sign(x)))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray:
        return np.zeros(1)


class Sign(Function):
    """The sign.

    value: where(x == 0, at_zero, sign(x))
    slope: 0
    Args:
        at_zero: the value at 0, in [-1, 1], default 0; binarised networks use 1.
    Source: as NumPy.
    """

    increasing = True
    at_zero: float = between(-1, 1, default=0.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        if self.at_zero in (-1, 0, 1):
            return _sign(x, self.at_zero)
        return tf.where(tf.equal(x, 0), tf.constant(self.at_zero, x.dtype), tf.sign(x))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray:
        return np.zeros(1)


class FastSigmoid(Function):
    """Softsign of k x, over k, so that the slope at 0 is 1.

    value: x / (1 + k * abs(x))
    slope: 1 / (1 + k * abs(x))**2
    Args:
        k: the sharpness, in (0, inf), default 25; `get` also takes it as `slope`, its name in
            snnTorch.
    Source: SuperSpike, Zenke and Ganguli 2018, arXiv:1705.11146, in snnTorch's parametrisation.
    """

    odd = True
    increasing = True
    keeps_sign = True
    aliases = MappingProxyType({"slope": "k"})
    k: float = positive(default=25.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        scaled = finite(self.k * x)
        return scaled / (1 + tf.abs(scaled)) / self.k

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        # Not upstream * (1 / square): a reciprocal of a square becomes one operation in a graph,
        # which XLA does not know and does not compile together with the rest.
        return upstream / finite(1 + self.k * tf.abs(x)) ** 2


class Atan(Function):
    """The arc tangent, from 0 to 1, with slope alpha / 2 at 0.

    value: arctan(pi * alpha * x / 2) / pi + 1 / 2
    slope: alpha / 2 / (1 + (pi * alpha * x / 2)**2)
    Args:
        alpha: twice the slope at 0, in (0, inf), default 2.
    Source: Fang et al. 2021, arXiv:2007.05785, in SpikingJelly's parametrisation.
    """

    odd = True
    increasing = True
    alpha: float = positive(default=2.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.alpha / 2 / (1 + finite(math.pi / 2 * self.alpha * x) ** 2)


class Dspike(Function):
    """A part of the hyperbolic tangent, from 0 at -1/2 to 1 at 1/2; constant outside.

    The slope at both ends is that from inside.

    value: (tanh(b * clip(x, -0.5, 0.5)) / tanh(b / 2) + 1) / 2
    slope: where(abs(x) <= 0.5, b / 2 / tanh(b / 2) * (1 - tanh(b * x)**2), 0)
    Args:
        b: the sharpness, in (0, inf), default 3; near 0 the slope is a boxcar, far above it a
            spike. The paper adapts it from epoch to epoch.
    Source: Li et al. 2021, NeurIPS, "Differentiable Spike"; centred at the threshold.
    """

    odd = True
    increasing = True
    b: float = positive(default=3.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -0.5, 0.5)
        return tf.tanh(self.b * inner) / (2 * math.tanh(self.b / 2)) + 0.5

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        # Clipped, so that b * x cannot overflow.
        inner = tf.clip_by_value(x, -0.5, 0.5)
        inside = (1 - outside(x, 0.5)) * (self.b / 2 / math.tanh(self.b / 2))
        return inside * (1 - tf.square(tf.tanh(self.b * inner)))


class PiecewiseQuadratic(Function):
    """Two parabolas from 0 to 1, with a triangle as slope.

    value: 1 / 2 + clip(alpha * x, -1, 1) * (1 - abs(clip(alpha * x, -1, 1)) / 2)
    slope: maximum(0, alpha - alpha**2 * abs(x))
    Args:
        alpha: the slope at 0; the triangle ends at -1 / alpha and 1 / alpha; in (0, inf), default
            1.
    Source: Bellec et al. 2018, arXiv:1803.09574 (there times 0.3), in SpikingJelly's
    parametrisation.
    """

    odd = True
    increasing = True
    alpha: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        clipped = tf.clip_by_value(self.alpha * x, -1, 1)
        return 0.5 + clipped * (1 - tf.abs(clipped) / 2)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.alpha * tf.nn.relu(1 - tf.abs(self.alpha * x))


class ExponentialSpike(Function):
    """The Laplace distribution function, from 0 to 1, with an exponentially decaying slope.

    value: where(x < 0, exp(-alpha * abs(x)) / 2, 1 - exp(-alpha * abs(x)) / 2)
    slope: alpha / 2 * exp(-alpha * abs(x))
    Args:
        alpha: the rate of the decay, in (0, inf), default 1.
    Source: SLAYER, Shrestha and Orchard 2018, arXiv:1810.08646, in SpikingJelly's parametrisation
    (its PiecewiseExp).
    """

    odd = True
    increasing = True
    alpha: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # One of the two exponents is 0: exp(-alpha * abs(x)) / 2 left of 0, and
        # 1 / 2 - (exp(-alpha * x) - 1) / 2 right of it.
        left = tf.exp(self.alpha * tf.minimum(x, 0)) / 2
        right = tf.math.expm1(-self.alpha * tf.nn.relu(x)) / 2
        return left - right

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.alpha / 2 * tf.exp(-self.alpha * tf.abs(x))


class MultiGaussian(Function):
    """A Gaussian slope minus two wider ones beside it.

    For the defaults it is negative beyond |x| = 1.27. The value is its integral, from 0 at -inf to
    1 - h at inf.

    value: ((1 + h) * ndtr(x / sigma) - h * ndtr((x - sigma) / (s * sigma)) - h * ndtr((x + sigma) /
    (s * sigma)))
    slope: ((1 + h) * exp(-((x / sigma)**2) / 2) - h / s * exp(-(((x - sigma) / (s * sigma))**2) /
        2) - h / s * exp(-(((x + sigma) / (s * sigma))**2) / 2)) / (sqrt(2 * pi) * sigma)
    Args:
        h: the height of the wide Gaussians, in [0, inf), default 0.15.
        s: the ratio of their width to that of the narrow one, in (0, inf), default 6.
        sigma: the deviation of the narrow Gaussian and the distance of the wide ones, in (0, inf),
            default 0.5.
    Source: Yin, Corradi and Bohte 2021, doi:10.1038/s42256-021-00397-w; their code halves this
    slope.
    """

    odd = True
    h: float = nonnegative(default=0.15)
    s: float = positive(default=6.0)
    sigma: float = positive(default=0.5)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return self._mixture(_normal_distribution, x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self._mixture(_normal_density, x)

    def _mixture(self, normal: Callable[..., tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        wide = self.s * self.sigma
        beside = normal(x - self.sigma, wide) + normal(x + self.sigma, wide)
        return (1 + self.h) * normal(x, self.sigma) - self.h * beside


def _normal_distribution(x: tf.Tensor, deviation: float) -> tf.Tensor:
    return tf.math.erfc(-x / (math.sqrt(2) * deviation)) / 2


def _normal_density(x: tf.Tensor, deviation: float) -> tf.Tensor:
    return tf.exp(-(finite(x / deviation) ** 2) / 2) / (math.sqrt(2 * math.pi) * deviation)


class SwishSign(Function):
    """A sigmoid from -1 to 1 that overshoots.

    Its slope is negative beyond |x| = 2.4 / beta, 0.48 for the default.

    value: 2 * sigmoid(beta * x) * (1 + beta * x * (1 - sigmoid(beta * x))) - 1
    slope: beta * (2 - beta * x * tanh(beta * x / 2)) / (1 + cosh(beta * x))
    Args:
        beta: the slope at 0, in (0, inf), default 5.
    Source: BNN+, Darabi et al. 2018, arXiv:1812.11800; default as larq.
    """

    odd = True
    keeps_sign = True
    beta: float = positive(default=5.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # Clipped so far inside the range that no order of the products overflows; XLA has its own.
        scaled = finite(self.beta * x, 1 / 1024)
        return tf.tanh(scaled / 2) + 2 * _logistic_density(scaled) * scaled

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return self.gradient(tf.ones_like(x), x)

    def gradient(self, upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        # One exponential: with e = sigmoid(-abs(beta * x)), tanh(abs(beta * x) / 2) is 1 - 2 e.
        # Clipped so far inside the range that the product below cannot overflow.
        # The multiplication comes after abs: a chain of abs, minus and sigmoid would become one
        # operation in a graph, which XLA does not know and does not compile together with the rest.
        left = tf.maximum(-self.beta * tf.abs(x), x.dtype.min / 1024)
        small = tf.sigmoid(left)
        density = tf.raw_ops.SigmoidGrad(y=small, dy=2 * self.beta * upstream)
        return (2 + (1 - 2 * small) * left) * density


def _logistic_density(x: tf.Tensor) -> tf.Tensor:
    """The slope of the logistic function, 1 / (2 + 2 cosh(x))."""
    return tf.sigmoid(x) * tf.sigmoid(-x)


class QPseudoSpike(Function):
    """A sigmoid from 0 to 1 with a slope that decays as a power of x, with exponent -alpha.

    value: where(x < 0, (1 + 2 * abs(x) / (alpha - 1))**(1 - alpha) / 2,
        1 - (1 + 2 * abs(x) / (alpha - 1))**(1 - alpha) / 2)
    slope: (1 + 2 * abs(x) / (alpha - 1))**-alpha
    Args:
        alpha: the exponent, in (1, inf), default 2.
    Source: Herranz-Celotti and Rouat 2022, arXiv:2202.00282 (there q), in SpikingJelly's
    parametrisation.
    """

    odd = True
    increasing = True
    alpha: float = above(1, default=2.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        # As for ExponentialSpike, with the power as the exponential of a logarithm.
        left = self._log_base(-tf.minimum(x, 0))
        right = self._log_base(tf.nn.relu(x))
        return tf.exp((1 - self.alpha) * left) / 2 - tf.math.expm1((1 - self.alpha) * right) / 2

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.exp(-self.alpha * self._log_base(tf.abs(x)))

    def _log_base(self, distance: tf.Tensor) -> tf.Tensor:
        return _log1p_of_multiple(2 / (self.alpha - 1), distance)


def _log1p_of_multiple(factor: float, x: tf.Tensor) -> tf.Tensor:
    """log1p(factor * x) for x >= 0, in two steps so that the product cannot overflow."""
    near = tf.minimum(x, 1)
    far = tf.nn.relu(x - 1)
    # For x > 1: 1 + factor * x = (1 + factor) * (1 + factor / (1 + factor) * (x - 1)).
    return tf.math.log1p(factor * near) + tf.math.log1p(factor / (1 + factor) * far)


class LogTailedRelu(Function):
    """The rectifier with a logarithm above 1. The slope at 0 is alpha.

    value: where(x > 1, 1 + log(maximum(x, 1)), where(x > 0, x, alpha * x))
    slope: where(x > 0, 1 / maximum(x, 1), alpha)
    Args:
        alpha: the slope for x <= 0, in [0, inf), default 0.
    Source: Cai et al. 2017, arXiv:1702.00953, in SpikingJelly's parametrisation (as its code; its
        documentation has log(x) without the 1).
    """

    increasing = True
    keeps_sign = True
    alpha: float = nonnegative(default=0.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        left = tf.math.multiply_no_nan(tf.minimum(x, 0), self.alpha)
        return left + tf.nn.relu(tf.minimum(x, 1)) + tf.math.log1p(tf.nn.relu(x - 1))

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.where(x > 0, 1 / tf.maximum(x, 1), self.alpha + zero(x))


class NonzeroSignLogAbs(Function):
    """A logarithm on both sides of 0, with value 0 there: unbounded, with a fast slope.

    value: sign(x) * log1p(alpha * abs(x))
    slope: 1 / (1 / alpha + abs(x))
    Args:
        alpha: the slope at 0, in (0, inf), default 1.
    Source: SpikingJelly, Fang et al. 2023, doi:10.1126/sciadv.adi1480, value and slope.
    """

    odd = True
    increasing = True
    keeps_sign = True
    alpha: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        right = _log1p_of_multiple(self.alpha, tf.nn.relu(x))
        left = _log1p_of_multiple(self.alpha, -tf.minimum(x, 0))
        return right - left

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return 1 / (1 / self.alpha + tf.abs(x))


class S2nn(Function):
    """A sigmoid left of 0 and a logarithm right of it. The slope at 0 is beta.

    value: where(x < 0, sigmoid(alpha * x), 1 / 2 + beta * log1p(maximum(x, 0)))
    slope: where(x < 0, alpha * sigmoid(alpha * x) * (1 - sigmoid(alpha * x)), beta / (1 +
        maximum(x, 0)))
    Args:
        alpha: the sharpness on the left, in (0, inf), default 4.
        beta: the slope at 0 and the factor of the right side, in (0, inf), default 1.
    Source: Suetake et al. 2022, arXiv:2201.10879, in SpikingJelly's parametrisation (1 / 2 at 0 as
        in its code, where its documentation has 1).
    """

    increasing = True
    alpha: float = positive(default=4.0)
    beta: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        right = 0.5 + self.beta * tf.math.log1p(tf.maximum(x, 0))
        return tf.where(x < 0, tf.sigmoid(self.alpha * x), right)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        left = self.alpha * _logistic_density(self.alpha * x)
        return tf.where(x < 0, left, self.beta / (1 + tf.maximum(x, 0)))


class PiecewiseLeaky(Function):
    """A step with a ramp from -w to w, and a small slope outside.

    The slope at both ends of the ramp is 1 / (2 w).

    value: 1 / 2 + clip(x, -w, w) / (2 * w) + c * (x - clip(x, -w, w))
    slope: where(abs(x) <= w, 1 / (2 * w), c)
    Args:
        w: half the length of the ramp, in (0, inf), default 1.
        c: the slope outside, in [0, inf), default 0.01.
    Source: SpikingJelly, Fang et al. 2023, doi:10.1126/sciadv.adi1480 (its PiecewiseLeakyReLU,
        whose primitive this is; its backward has 1 / w inside).
    """

    odd = True
    increasing = True
    w: float = positive(default=1.0)
    c: float = nonnegative(default=0.01)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -self.w, self.w)
        return 0.5 + inner / (2 * self.w) + tf.math.multiply_no_nan(x - inner, self.c)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        beyond = outside(x, self.w)
        return (1 - beyond) / (2 * self.w) + self.c * beyond
