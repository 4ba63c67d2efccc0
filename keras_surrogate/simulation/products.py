"""The product of uniform random numbers, the textbook's picture of a vanishing gradient, with its exact distribution.

"Sample 50 numbers from 0 to 1 and multiply them: I could never get a value of order more than
1e-18." The story is often told and half right: the product is tiny. But -log(u) of a uniform u has
the exponential distribution, so minus the logarithm of a product of `count` of them has the
distribution Gamma(count, 1), with mean and variance `count`:

    P(product > t) = P(Gamma(count) < -log t) = P(N >= count),     N Poisson with mean -log t

For 50 numbers and t = 1e-18 that is 0.108: about one try in nine exceeds 1e-18, so that "never" is
wrong; 1e-13 is exceeded once in some 2000. The median is 2.7e-22.
"""

import math

import numpy as np

from keras_surrogate.checks import integer


def uniform_products(count=50, draws=100_000, seed=0):
    """The decimal logarithms of products of uniform random numbers, shape (draws,).

    Args:
        count: the factors of each product, at least 1, default 50.
        draws: the number of products, at least 1, default 100 000.
        seed: a non-negative integer. The first products are the same however many are drawn.
    """
    count, draws = integer(count, "count"), integer(draws, "draws")
    generator = np.random.default_rng(integer(seed, "seed", least=0))
    result = np.empty(draws)
    for start in range(0, draws, _ROWS):
        rows = min(_ROWS, draws - start)
        # 1 - u is in (0, 1], u in [0, 1), whose logarithm may be infinite.
        result[start : start + rows] = np.log10(1 - generator.random((rows, count))).sum(axis=1)
    return result


# Products drawn at a time, which bounds the memory.
_ROWS = 4096


def uniform_product_probability(threshold, count=50):
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
            f"threshold must be a number of at least 0, or an array of such, but is {threshold!r}."
        )
    with np.errstate(divide="ignore"):
        surprise = np.maximum(-np.log(threshold), 0.0)
    below = np.where(surprise < count, surprise, 0.0)
    above = np.where((surprise >= count) & np.isfinite(surprise), surprise, count)
    tail = np.where(surprise < count, _poisson_from(count, below), 1 - _poisson_below(count, above))
    return np.where(np.isinf(surprise), 1.0, tail)[()]


def uniform_product_density(log10_product, count=50):
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


def _poisson(number, mean):
    """exp(-mean) * mean**number / number!, by logarithms, since each factor by itself overflows."""
    with np.errstate(divide="ignore"):
        power = number * np.log(mean) if number else 0.0
    return np.exp(power - mean - math.lgamma(number + 1))


def _poisson_below(count, mean):
    """P(N < count) for a mean of at least `count`: from its largest term downwards."""
    term = total = _poisson(count - 1, mean)
    for number in range(count - 1, 0, -1):
        term = term * number / mean
        total = total + term
    return total


def _poisson_from(count, mean):
    """P(N >= count) for a mean below `count`: a series with falling terms, cut where they no longer count."""
    term = total = _poisson(count, mean)
    number = count
    while np.any(term > 1e-17 * total):
        number += 1
        term = term * mean / number
        total = total + term
    return total
