"""Means and their intervals from few seeds: Student's t, in closed form."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean, and the ends of its interval; the ends are None where there is one number only."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self):
        ends = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.mean:.4g}{ends}"


def interval(numbers, confidence=0.95):
    """The mean of independent numbers from one normal law, and the interval that holds the law's mean.

        mean(x) +- t * sd(x) / sqrt(n),        t the quantile (1 + confidence) / 2 of Student's law, n - 1 degrees

    Args:
        numbers: at least one; for a paired difference, the differences.
        confidence: between 0 and 1, default 0.95.

    Returns:
        An `Interval`.

    Source: Student 1908, The probable error of a mean, Biometrika 6.
    """
    numbers = np.asarray(numbers, float)
    mean, count = float(numbers.mean()), len(numbers)
    if count < 2:
        return Interval(mean, None, None)
    half = (
        t_quantile((1 + confidence) / 2, count - 1) * standard_deviation(numbers) / math.sqrt(count)
    )
    return Interval(mean, mean - half, mean + half)


def standard_deviation(numbers):
    """sqrt(sum((x - mean(x))**2) / (n - 1)); None of one number."""
    return float(np.std(np.asarray(numbers, float), ddof=1)) if len(numbers) > 1 else None


def t_quantile(probability, degrees):
    """The t below which Student's law with so many degrees of freedom has that probability.

    Found by halving an angle, t = sqrt(degrees) * tan(angle), until it is known to the last bit.

    Args:
        probability: between 0 and 1.
        degrees: an integer of at least 1.

    Raises:
        ValueError: either is out of range.
    """
    if not 0 < probability < 1 or degrees != int(degrees) or degrees < 1:
        raise ValueError(
            "t_quantile needs a probability between 0 and 1 and at least one degree of freedom, an integer, but got "
            f"{probability!r} and {degrees!r}."
        )
    low, high, target = 0.0, math.pi / 2, abs(2 * probability - 1)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, int(degrees)) < target else (low, middle)
    return math.copysign(math.sqrt(degrees) * math.tan(low), probability - 0.5)


def _within(angle, degrees):
    """P(|t| < sqrt(degrees) * tan(angle)), a finite sum. Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for number in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (number - 1) / number
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
