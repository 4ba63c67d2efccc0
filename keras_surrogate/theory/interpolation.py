"""Averages at thousands of variances q for the price of some dozens, by Chebyshev polynomials.

The mean of any function over N(0, q) is analytic in ln q wherever Re(1 / q) > 0, that is within
pi / 2 of the real axis. So a polynomial through n Chebyshev points of an interval of length 1 is
exact up to about 6.4**-n (Trefethen 2013, "Approximation Theory and Approximation Practice",
theorem 8.2, with the nearest singularity pi half-lengths away).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.polynomial import chebyshev

# Up to so many different variances, each is computed.
_FEW = 64
# The points in each interval of ln(q); 6.4**-20 is the rounding of float64.
_POINTS = 20
# So many variances are computed at a time: arrays of this size fit the processor's cache.
_TOGETHER = 16
# Where a row varies by more than this within an interval, its small entries would lose digits.
_LARGEST_RATIO = 1e3
# Beyond this abs(ln q) pre-activations are larger or smaller than any scale of a function, and its
# averages hardly change with q: there intervals are as long as a comparison at some points permits.
_ORDINARY = 32
_COMPARED = 8
_TOLERANCE = 1e-12

# A function from variances, shape (n,), to rows of numbers, shape (rows, n).
Compute: TypeAlias = Callable[[np.ndarray], Sequence[np.ndarray] | np.ndarray]
# A function from ln(q), shape (n,), to the same rows.
_Polynomial: TypeAlias = Callable[[np.ndarray], np.ndarray]


def at(compute: Compute, variances: np.ndarray) -> np.ndarray:
    """The rows at every variance; memory and time hardly depend on the number of variances.

    Args:
        compute: a function from variances to rows of averages over Gaussians of these variances.
        variances: shape (n,), at least 0.

    Returns:
        Shape (rows, n).
    """
    distinct, place = np.unique(variances, return_inverse=True)
    if len(distinct) <= _FEW:
        return in_parts(compute, distinct)[:, place]
    # A variance of 0 has no logarithm; it is the first one and is computed.
    with np.errstate(divide="ignore"):
        logarithms = np.log(distinct)
    pieces = list(_pieces(compute, distinct, logarithms))
    is_left = np.ones(len(distinct), bool)
    for piece, _ in pieces:
        is_left[piece] = False
    rows = [polynomial(logarithms[piece]) for piece, polynomial in pieces]
    order = [np.arange(piece.start, piece.stop) for piece, _ in pieces]
    if is_left.any():
        rows.append(in_parts(compute, distinct[is_left]))
        order.append(np.flatnonzero(is_left))
    ordered = np.argsort(np.concatenate(order))
    return np.concatenate(rows, axis=1)[:, ordered[place]]


def in_parts(compute: Compute, variances: np.ndarray) -> np.ndarray:
    """The rows at every variance, some variances at a time."""
    parts = [
        np.stack(compute(variances[first : first + _TOGETHER]))
        for first in range(0, len(variances), _TOGETHER)
    ]
    return np.concatenate(parts, axis=1)


def _pieces(
    compute: Compute, variances: np.ndarray, logarithms: np.ndarray
) -> Iterator[tuple[slice, _Polynomial]]:
    """The parts of ascending variances at which a polynomial is exact, with this polynomial."""
    floors = np.clip(np.floor(logarithms), -_ORDINARY - 1, _ORDINARY)
    floors[variances == 0] = -np.inf
    begins, firsts = np.unique(floors, return_index=True)
    lasts = np.append(firsts[1:], len(variances))
    for begin, first, last in zip(begins, firsts.tolist(), lasts.tolist(), strict=True):
        piece = slice(first, last)
        if begin in (-_ORDINARY - 1, _ORDINARY):
            yield from _extreme_pieces(compute, variances, logarithms, piece)
        elif last - first > _POINTS:
            polynomial = _polynomial(compute, begin, begin + 1)
            if polynomial is not None:
                yield piece, polynomial


def _extreme_pieces(
    compute: Compute, variances: np.ndarray, logarithms: np.ndarray, piece: slice
) -> Iterator[tuple[slice, _Polynomial]]:
    """The same among very small or very large variances: a piece, or its halves' pieces."""
    count = piece.stop - piece.start
    if count <= _POINTS:
        return
    polynomial = _polynomial(compute, logarithms[piece.start], logarithms[piece.stop - 1])
    if polynomial is not None:
        some = slice(piece.start, piece.stop, count // _COMPARED)
        exact = in_parts(compute, variances[some])
        if np.allclose(polynomial(logarithms[some]), exact, rtol=_TOLERANCE, atol=0):
            yield piece, polynomial
            return
    middle = piece.start + count // 2
    for half in (slice(piece.start, middle), slice(middle, piece.stop)):
        yield from _extreme_pieces(compute, variances, logarithms, half)


def _polynomial(compute: Compute, low: float, high: float) -> _Polynomial | None:
    """The function from ln(q) between two bounds to the rows; None where it would be inexact."""
    # Chebyshev points in (-1, 1).
    t = chebyshev.chebpts1(_POINTS)
    known = in_parts(compute, np.exp(low + (t + 1) / 2 * (high - low)))
    if not _varies_little(known):
        return None
    coefficients = chebyshev.chebinterpolate(lambda _: known.T, _POINTS - 1)
    return lambda logarithms: chebyshev.chebval(
        2 * (logarithms - low) / (high - low) - 1, coefficients
    )


def _varies_little(rows: np.ndarray) -> bool:
    """True if each row is 0, or its entries are of one sign and one order of magnitude."""
    least = rows.min(axis=1)
    largest = rows.max(axis=1)
    is_0 = (least == 0) & (largest == 0)
    has_one_sign = least * largest > 0
    sizes = np.abs(rows)
    is_even = sizes.max(axis=1) <= _LARGEST_RATIO * sizes.min(axis=1)
    return bool(np.isfinite(rows).all() and (is_0 | (has_one_sign & is_even)).all())
