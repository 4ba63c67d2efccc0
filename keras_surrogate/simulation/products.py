"""The product of uniform random numbers, a picture of vanishing gradients, and its distribution.

"Sample 50 numbers from 0 to 1 and multiply them: I could never get a value of order more than
1e-18." This is half right: the product is tiny. But -log(u) of a uniform u has the exponential
distribution, so that minus the logarithm of a product of `count` of them has the distribution
Gamma(count, 1), with mean and variance `count`:

    P(product > t) = P(Gamma(count) < -log t) = P(N >= count),     N Poisson with mean -log t

For 50 numbers and t = 1e-18 that is 0.108: about one try in nine exceeds 1e-18, so that "never" is
wrong. 1e-13 is exceeded once in some 2000 tries. The median is 2.7e-22.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.checks import integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Products drawn at a time, which bounds the memory.
_ROWS = 4096
# Terms of the series below this share of the sum are below rounding.
_NEGLIGIBLE = 1e-17


def uniform_products(count: int = 50, draws: int = 100_000, seed: int = 0) -> np.ndarray:
    """The decimal logarithms of products of uniform random numbers, shape (draws,).

    Args:
        count: the factors of each product, at least 1, default 50.
        draws: the number of products, at least 1, default 100 000.
        seed: a non-negative integer, default 0. The first products do not depend on `draws`.
    """
    count = integer(count, "count")
    draws = integer(draws, "draws")
    generator = np.random.default_rng(integer(seed, "seed", least=0))
    result = np.empty(draws)
    for start in range(0, draws, _ROWS):
        rows = min(_ROWS, draws - start)
        # 1 - u is in (0, 1]; u is in [0, 1), and its logarithm may be infinite.
        result[start : start + rows] = np.log10(1 - generator.random((rows, count))).sum(axis=1)
    return result


def uniform_product_probability(threshold: ArrayLike, count: int = 50) -> np.ndarray | float:
    """The exact probability that the product of `count` uniform random numbers exceeds `threshold`.

        1 - sum_{j < count} exp(-s) s**j / j!,        s = -log(threshold)

    Args:
        threshold: a non-negative number or array; at 1 and above the probability is 0.
        count: the number of factors, at least 1, default 50.

    Returns:
        float64, of the shape of `threshold`, to nearly full relative accuracy on both sides.
    """
    count = integer(count, "count")
    threshold = np.asarray(threshold, dtype=float)
    if not (threshold >= 0).all():
        raise ValueError(
            "threshold must be a number of at least 0, or an array of such numbers, but is "
            f"{threshold!r}."
        )
    with np.errstate(divide="ignore"):
        surprise = np.maximum(-np.log(threshold), 0.0)
    # Each side has its own series, which is accurate where the probability is small there.
    below = np.where(surprise < count, surprise, 0.0)
    above = np.where((surprise >= count) & np.isfinite(surprise), surprise, count)
    tail = np.where(surprise < count, _poisson_from(count, below), 1 - _poisson_below(count, above))
    return np.where(np.isinf(surprise), 1.0, tail)[()]


def uniform_product_density(log10_product: ArrayLike, count: int = 50) -> np.ndarray | float:
    """The exact density of the decimal logarithm of the product, per decade.

        log(10) * exp(-s) s**(count - 1) / (count - 1)!,        s = -log(10) * log10_product

    Args:
        log10_product: a number or array; above 0 the density is 0.
        count: the number of factors, at least 1, default 50.
    """
    count = integer(count, "count")
    surprise = -math.log(10) * np.asarray(log10_product, dtype=float)
    inside = np.where(surprise >= 0, surprise, 1.0)
    return np.where(surprise >= 0, math.log(10) * _poisson(count - 1, inside), 0.0)[()]


def _poisson(number: int, mean: np.ndarray) -> np.ndarray:
    """exp(-mean) * mean**number / number!, by logarithms, since single factors overflow."""
    with np.errstate(divide="ignore"):
        power = number * np.log(mean) if number else 0.0
    return np.exp(power - mean - math.lgamma(number + 1))


def _poisson_below(count: int, mean: np.ndarray) -> np.ndarray:
    """P(N < count) for a mean of at least `count`: a sum from its largest term downwards."""
    term = _poisson(count - 1, mean)
    total = term
    for number in range(count - 1, 0, -1):
        term = term * number / mean
        total = total + term
    return total


def _poisson_from(count: int, mean: np.ndarray) -> np.ndarray:
    """P(N >= count) for a mean below `count`: a series of falling terms, cut below rounding."""
    term = _poisson(count, mean)
    total = term
    number = count
    while np.any(term > _NEGLIGIBLE * total):
        number += 1
        term = term * mean / number
        total = total + term
    return total
