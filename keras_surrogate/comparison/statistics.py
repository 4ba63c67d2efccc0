"""Means of few seeds and their intervals, by Student's t."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval; the ends are None for a single number."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def interval(numbers: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """The mean of independent normal numbers, and the interval for the mean of their distribution.

        mean(x) +- t * sd(x) / sqrt(n)

    with t the quantile (1 + confidence) / 2 of Student's distribution of n - 1 degrees of freedom.

    Args:
        numbers: at least one; for a paired difference, the differences.
        confidence: between 0 and 1, default 0.95.

    Returns:
        An `Interval`.

    Raises:
        ImportError: SciPy is not installed.

    Source: Student 1908, The probable error of a mean, Biometrika 6.
    """
    numbers = np.asarray(numbers, float)
    count = len(numbers)
    mean = float(numbers.mean())
    deviation = standard_deviation(numbers)
    if deviation is None:
        return Interval(mean, None, None)
    half = t_quantile((1 + confidence) / 2, count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def standard_deviation(numbers: Sequence[float] | np.ndarray) -> float | None:
    """sqrt(sum((x - mean(x))**2) / (n - 1)); None for a single number."""
    if len(numbers) < 2:
        return None
    return float(np.std(np.asarray(numbers, float), ddof=1))


def t_quantile(probability: float, degrees: int) -> float:
    """The t below which Student's distribution of so many degrees of freedom has that probability.

    Args:
        probability: between 0 and 1.
        degrees: an integer of at least 1.

    Raises:
        ValueError: either is out of range.
        ImportError: SciPy is not installed.
    """
    if not 0 < probability < 1 or degrees != int(degrees) or degrees < 1:
        raise ValueError(
            "t_quantile needs a probability between 0 and 1 and at least one degree of freedom, an "
            f"integer, but got {probability!r} and {degrees!r}."
        )
    try:
        from scipy import special
    except ImportError as error:
        raise ImportError(
            "Intervals over several seeds need SciPy: python -m pip install scipy."
        ) from error
    return float(special.stdtrit(degrees, probability))
