"""Quantisers, which have few levels, and the slopes that were published for them."""

import math

import numpy as np
import tensorflow as tf

from keras_surrogate.functions.base import (
    MOST_JUMPS,
    Function,
    above,
    outside,
    positive,
    real,
    whole,
    zero,
)

__all__ = [
    "Clip",
    "Dge",
    "Dorefa",
    "DorefaWeight",
    "Fp4",
    "Reste",
    "Staircase",
]


def _level(steps: tf.Tensor, levels: int) -> tf.Tensor:
    """The level from -1 to 1 of a number in units of the distance of jumps, which are around 0."""
    level = tf.round(steps) if levels % 2 else tf.floor(steps) + 0.5
    highest = (levels - 1) / 2
    return tf.clip_by_value(level, -highest, highest) / highest


class Staircase(Function):
    """Equal steps from -1 to 1 around 0; two levels are the sign, 1 at 0.

    For an even number of levels 0 is a jump, with the upper level at each jump. For an odd number
    0 is a level, and jumps round half to even, as tf.round. With spacing = 2 / (levels - 1) the
    levels lie on the identity.

    value: clip(round(x / spacing) if levels % 2 else floor(x / spacing) + 1 / 2, (1 - levels) / 2,
        (levels - 1) / 2) * 2 / (levels - 1)
    slope: 0
    Args:
        levels: the number of levels, a whole number from 2 to 65536, default 3.
        spacing: the distance of neighbouring jumps, in (0, inf), default 1.
    Source: Blumenfeld et al. 2019, arXiv:1906.00771.
    """

    increasing = True
    levels: int = whole(2, 65536, default=3)
    spacing: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return _level(x / self.spacing, self.levels) + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray | None:
        if self.levels > MOST_JUMPS:
            return None
        return self.spacing * (np.arange(1, self.levels) - self.levels / 2)


class Clip(Function):
    """The identity, clipped to [low, high]; the slope at both ends is 1.

    value: clip(x, low, high)
    slope: where((x >= low) & (x <= high), 1, 0)
    Args:
        low: the smallest value, any finite number, default 0.
        high: the largest value, any finite number above low, default 1.
    Source: as NumPy; DoReFa's bounded activation, Zhou et al. 2016, arXiv:1606.06160 (0 and 1).
    """

    increasing = True
    low: float = real(default=0.0)
    high: float = real(default=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise ValueError(f"clip: low must be below high, but they are {self.low}, {self.high}.")

    def value(self, x: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(x, self.low, self.high)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        above_low = 1 - tf.nn.relu(tf.sign(self.low - x))
        below_high = 1 - tf.nn.relu(tf.sign(x - self.high))
        return above_low * below_high


class Dorefa(Function):
    """DoReFa's activation: 2**bits equally spaced levels from 0 to 1.

    value: round((2**bits - 1) * clip(x, 0, 1)) / (2**bits - 1)
    slope: 0
    Args:
        bits: the number of bits, a whole number from 1 to 15, default 2.
    Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160; halves to even, as larq.
    """

    increasing = True
    bits: int = whole(1, 15, default=2)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        steps = 2**self.bits - 1
        return tf.round(steps * tf.clip_by_value(x, 0, 1)) / steps + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray | None:
        return _dorefa_jumps(self.bits)


def _dorefa_jumps(bits: int) -> np.ndarray | None:
    """The jumps of quantize_k, in the middle between levels."""
    steps = 2**bits - 1
    if steps > MOST_JUMPS:
        return None
    return (np.arange(steps) + 0.5) / steps


class DorefaWeight(Function):
    """DoReFa's weight: 2**bits equally spaced levels of tanh(x) / largest, from -1 to 1.

    The paper takes for `largest` the largest abs(tanh(w)) of the tensor, anew in each step, which
    no function of single numbers knows. Here it is a constant; weights further out have the outer
    levels.

    value: clip((2 * floor((2**bits - 1) / 2 * tanh(x) / largest) + 1) / (2**bits - 1), -1, 1)
    slope: 0
    Args:
        bits: the number of bits, a whole number from 1 to 15, default 2. (For 1 the paper has
            the sign times the mean of abs(w) instead.)
        largest: the value of abs(tanh(x)) with the outer levels, in (0, inf), default 1.
    Source: DoReFa-Net, Zhou et al. 2016, arXiv:1606.06160; the upper level at each jump.
    """

    increasing = True
    bits: int = whole(1, 15, default=2)
    largest: float = positive(default=1.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        half = (2**self.bits - 1) / 2
        return _level(half * tf.tanh(x) / self.largest, 2**self.bits) + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray | None:
        places = _dorefa_jumps(self.bits)
        if places is None:
            return None
        tangents = self.largest * (2 * places - 1)
        return np.arctanh(tangents[np.abs(tangents) < 1])


# The largest number of four bits.
_LARGEST_FP4 = 6.0


def _fp4_spacing(x: tf.Tensor) -> tf.Tensor:
    """The distance of neighbouring levels: 1/2 up to 2, 1 up to 4, then 2."""
    size = tf.abs(x)
    beyond_2 = tf.cast(size >= 2, x.dtype)
    beyond_4 = tf.cast(size >= 4, x.dtype)
    return 0.5 * (1 + beyond_2) * (1 + beyond_4)


class Fp4(Function):
    """The nearest floating-point number of four bits (E2M1).

    These are 0, 1/2, 1, 3/2, 2, 3, 4 and 6, of either sign. Halves go to the even mantissa, as in
    IEEE 754.

    value: round(clip(x, -6, 6) / where(abs(x) < 2, 0.5, where(abs(x) < 4, 1, 2))) * where(abs(x) <
        2, 0.5, where(abs(x) < 4, 1, 2))
    slope: 0
    Source: OCP Microscaling Formats 1.0, 2023; arXiv:2310.10537.
    """

    odd = True
    increasing = True

    def value(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -_LARGEST_FP4, _LARGEST_FP4)
        spacing = _fp4_spacing(inner)
        return tf.round(inner / spacing) * spacing + zero(x)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return zero(x)

    def jumps(self, reach: float) -> np.ndarray:
        positive_side = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
        return np.concatenate([-positive_side[::-1], positive_side])


class Dge(Function):
    """A smooth staircase over the levels of `fp4`, steep between them: a power on each step.

    From level to level, at the share u in [-1, 1] of the way, the slope is abs(u)**(1 / k - 1) / k:
    1 / k at levels, and the limit in the middle, where it would be infinite. It is 0 beyond 6. The
    limit makes all rises a little smaller than the distance of the levels.

    value: (d := where(abs(x) < 2, 0.5, where(abs(x) < 4, 1, 2)), n := floor(clip(x, -6, 6) / d),
        u := 2 * (clip(x, -6, 6) / d - n) - 1, s := minimum(1, (k * limit)**(k / (1 - k))),
        d / 2 * ((2 * n + 1) * (limit * s + 1 - s**(1 / k)) + sign(u) * (limit * minimum(abs(u), s)
        + maximum(abs(u), s)**(1 / k) - s**(1 / k))))[-1]
    slope: (d := where(abs(x) < 2, 0.5, where(abs(x) < 4, 1, 2)), u := 2 * mod(x / d, 1) - 1,
        where(abs(x) > 6, 0, minimum(limit, abs(u)**(1 / k - 1) / k)))[-1]
    Args:
        k: the sharpness, in (1, inf), default 5.
        limit: the largest slope, in (0, inf), default 3.
    Source: differentiable gradient estimator, Wang et al. 2025, arXiv:2501.17116.
    """

    odd = True
    increasing = True
    k: float = above(1, default=5.0)
    limit: float = positive(default=3.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -_LARGEST_FP4, _LARGEST_FP4)
        spacing = _fp4_spacing(inner)
        level = tf.floor(inner / spacing)
        share = 2 * (inner / spacing - level) - 1
        # `limit` below the start of the power, the power beyond it.
        start = self._start()
        size = tf.maximum(tf.abs(share), start)
        rise = tf.sign(share) * (size ** (1 / self.k) - start ** (1 / self.k))
        rise += self.limit * tf.clip_by_value(share, -start, start)
        half = 1 - start ** (1 / self.k) + self.limit * start
        return spacing / 2 * ((2 * level + 1) * half + rise)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -_LARGEST_FP4, _LARGEST_FP4)
        steps = inner / _fp4_spacing(inner)
        share = 2 * (steps - tf.floor(steps)) - 1
        size = tf.maximum(tf.abs(share), self._start())
        steep = tf.minimum(size ** (1 / self.k - 1) / self.k, self.limit)
        return steep * (1 - outside(x, _LARGEST_FP4))

    def _start(self) -> float:
        """The share from which on the power's slope is below the limit."""
        return min(1.0, (self.k * self.limit) ** (self.k / (1 - self.k)))


class Reste(Function):
    """A root of x, straight near 0 and constant far out: from the identity towards the sign.

    The slope at the ends of the straight piece is its own, and at the ends of the root the root's.

    value: where(abs(clip(x, -t, t)) <= m, clip(x, -t, t) * m**(1 / o - 1), sign(x) * minimum(abs(
        x), t)**(1 / o))
    slope: where(abs(x) > t, 0, where(abs(x) <= m, m**(1 / o - 1), maximum(abs(x), m)**(1 / o - 1) /
        o))
    Args:
        o: the order of the root, in (0, inf), default 3; the paper raises it from 1, the clipped
            straight-through estimator, to 3 during the training.
        t: the size beyond which the slope is 0, in (0, inf), default 1.5.
        m: half the length of the straight piece, which keeps the slope finite, in (0, inf), default
            0.1.
    Source: rectified straight-through estimator, Wu et al. 2023, arXiv:2308.06689.
    """

    odd = True
    increasing = True
    keeps_sign = True
    o: float = positive(default=3.0)
    t: float = positive(default=1.5)
    m: float = positive(default=0.1)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        inner = tf.clip_by_value(x, -self.t, self.t)
        size = tf.abs(inner)
        root = tf.sign(inner) * tf.maximum(size, self.m) ** (1 / self.o)
        return tf.where(size <= self.m, inner * self._steepest(), root)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        size = tf.minimum(tf.abs(x), self.t)
        power = tf.maximum(size, self.m) ** (1 / self.o - 1) / self.o
        inside = tf.where(size <= self.m, self._steepest() + zero(x), power)
        return inside * (1 - outside(x, self.t))

    def _steepest(self) -> float:
        """The slope of the straight piece, which ends on the root."""
        return math.pow(self.m, 1 / self.o - 1)
