"""Steps, and the functions whose slopes stand in for theirs in spiking and binarised networks."""

import math
from types import MappingProxyType

import tensorflow as tf

from keras_surrogate.functions.base import Function, between, finite, positive, zero


class Step(Function):
    """The Heaviside step.

    value: where(x == 0, at_zero, where(x > 0, 1, 0))
    slope: 0
    Args:
        at_zero: the value at 0, in [0, 1], default 1.
    Source: Heaviside; 1 at 0 is the convention of spiking networks.
    """

    increasing = True
    at_zero: float = between(0, 1, 1.0)

    def value(self, x):
        return tf.where(x == 0, tf.constant(self.at_zero, x.dtype), tf.nn.relu(tf.sign(x)))

    def slope(self, x):
        return zero(x)


class Sign(Function):
    """The sign.

    value: where(x == 0, at_zero, sign(x))
    slope: 0
    Args:
        at_zero: the value at 0, in [-1, 1], default 0; binarised networks use 1.
    Source: as NumPy.
    """

    increasing = True
    at_zero: float = between(-1, 1, 0.0)

    def value(self, x):
        return tf.where(x == 0, tf.constant(self.at_zero, x.dtype), tf.sign(x))

    def slope(self, x):
        return zero(x)


class FastSigmoid(Function):
    """Softsign of k x, over k, so that the slope at 0 is 1.

    value: x / (1 + k * abs(x))
    slope: 1 / (1 + k * abs(x))**2
    Args:
        k: the sharpness, in (0, inf), default 25; `get` also takes it as `slope`, its name in snnTorch.
    Source: SuperSpike, Zenke and Ganguli 2018, arXiv:1705.11146, in snnTorch's parametrisation.
    """

    odd = True
    increasing = True
    keeps_sign = True
    aliases = MappingProxyType({"slope": "k"})
    k: float = positive(25.0)

    def value(self, x):
        scaled = finite(self.k * x)
        return scaled / (1 + tf.abs(scaled)) / self.k

    def slope(self, x):
        return 1 / tf.square(1 + self.k * tf.abs(x))


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
    alpha: float = positive(2.0)

    def value(self, x):
        return tf.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def slope(self, x):
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x) ** 2)
