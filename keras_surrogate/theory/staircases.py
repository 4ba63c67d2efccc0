"""Averages of piecewise constant functions over Gaussian pre-activations, in closed form.

Signs, steps, roundings and quantisers jump. A sum over a grid is wrong by the chance to miss a jump
by part of a cell, and the correlation of two inputs by more, because it depends on how often two
nearly equal numbers lie on different sides of a jump. Here every average is a sum over the jumps.

One pre-activation h, N(0, q). Each level has the probability of its cell, from the error function.

Two pre-activations (u, v) of variance q and correlation c. For jumps of height k_i at t_i,

    d/dc E[f(u) f(v)] = sum_ij k_i k_j p(t_i / sqrt(q), t_j / sqrt(q); c)

with p the density of two standard normal variables (Price 1958). The integral over c from 0, where
E[f(u) f(v)] = E[f(h)]**2, is taken over the angle psi = arccos(c). With a_i = t_i / sqrt(q),

    E[f(u) f(v)] = E[f(h)]**2 + integral from arccos(c) to pi / 2 of S(psi) dpsi / (2 pi)

    S(psi) = sum_ij k_i k_j exp(-((a_i - a_j) / sin(psi / 2))**2 / 8
                                -((a_i + a_j) / cos(psi / 2))**2 / 8)

S is smooth in psi, and changes where psi passes the distance of two jumps: on a logarithmic scale.
So Gauss-Legendre quadrature on intervals that double in length is right to 1e-12 or so.

Source: Price 1958, doi:10.1109/TIT.1958.1057444; for signs and staircases Blumenfeld et al. 2019,
arXiv:1906.00771.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras_surrogate.functions.base import Function

# The jumps of all pre-activations up to this many standard deviations count.
_REACH = 10.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# Below this share of the least distance of two jumps only pairs of equal jumps are left:
# exp(-(1 / share)**2 / 2) is 1e-22.
_NEGLIGIBLE = 0.1
# A pair of jumps this many scales apart contributes exp(-_FAR**2 / 8), 1e-18, of its heights.
_FAR = 18.0
# Two jumps that are closer count as equal. This is in standard deviations.
_EQUAL = 1e-9
# Jumps whose distances and heights differ relatively by less are equally spaced.
_UNEVEN = 1e-9


@dataclasses.dataclass(frozen=True)
class Steps:
    """A piecewise constant function: its jumps in order, and its level in every cell.

    Attributes:
        places: shape (n,).
        levels: shape (n + 1,).
    """

    places: np.ndarray
    levels: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """Those of the jumps, shape (n,)."""
        return np.diff(self.levels)


def is_staircase(function: Function) -> bool:
    """Tell if a function is constant between jumps that it declares."""
    return function.jumps(1.0) is not None


def steps_of(function: Function, variance: float) -> Steps | None:
    """The steps that pre-activations of that variance reach.

    None: the function is no staircase, its jumps are too many, or the variance is 0.
    """
    if not variance > 0 or not is_staircase(function):
        return None
    # In powers of 2, so that nearby variances share an entry of the cache.
    reach = 2.0 ** math.ceil(math.log2(_REACH * math.sqrt(variance)))
    return _steps_within(function, reach)


@functools.lru_cache(maxsize=128)
def _steps_within(function: Function, reach: float) -> Steps | None:
    places = function.jumps(reach)
    if places is None:
        return None
    # A number within each cell. At the jumps themselves values are a matter of convention.
    middles = (places[1:] + places[:-1]) / 2
    inside = np.concatenate([places[:1] - 1, middles, places[-1:] + 1])
    with tf.init_scope():
        levels = np.asarray(function.value(tf.constant(inside)))
    return Steps(places, levels)


def mean_and_power(steps: Steps, variance: float) -> tuple[float, float]:
    """E[f(h)] and E[f(h)**2]."""
    probability = _probabilities(steps.places / math.sqrt(variance))
    return float(steps.levels @ probability), float(steps.levels**2 @ probability)


def _probabilities(places: np.ndarray) -> np.ndarray:
    """Those of the cells between places under N(0, 1), small ones with full relative accuracy."""
    tails = np.array([math.erfc(abs(place) / math.sqrt(2)) / 2 for place in places])
    # From the nearer tail, so that no two numbers close to 1 are subtracted.
    low = np.concatenate([[0.0], tails])
    high = np.concatenate([tails, [0.0]])
    left_of_0 = np.concatenate([places <= 0, [False]])
    right_of_0 = np.concatenate([[False], places >= 0])
    return np.where(left_of_0, high - low, np.where(right_of_0, low - high, 1 - low - high))


def mean_product(steps: Steps, variance: float, correlation: float) -> float:
    """E[f(u) f(v)] for two pre-activations of that correlation, from -1 to 1."""
    mean, power = mean_and_power(steps, variance)
    if correlation == 1:
        return power
    places = steps.places / math.sqrt(variance)
    other = places
    heights = steps.heights
    other_heights = heights
    if correlation < 0:
        # f(-x), whose jumps are mirrored, at -v, whose correlation with u is positive.
        other = -places[::-1]
        other_heights = -heights[::-1]
    density, nearest = _pairs(places, heights, other, other_heights)
    integral = _integral(density, math.acos(abs(correlation)), nearest)
    return mean**2 + integral / (2 * math.pi)


def _integral(density: Callable[[np.ndarray], np.ndarray], start: float, nearest: float) -> float:
    """The integral of S from `start` to pi / 2."""
    end = math.pi / 2
    edges = [start]
    # The first interval ends where the first pair of unlike jumps comes in.
    edge = max(start, _NEGLIGIBLE * nearest)
    while edge < end:
        if edge > start:
            edges.append(edge)
        edge *= 2
    edges.append(end)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        half = (high - low) / 2
        total += half * float(density(low + half * (1 + _NODES)) @ _WEIGHTS)
    return total


def _pairs(
    places: np.ndarray, heights: np.ndarray, other: np.ndarray, other_heights: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """S as a function of an array of angles, and the least distance of two unlike jumps."""
    if _is_lattice(places, heights):
        return _lattice_pairs(places, heights[0], other, other_heights[0])
    differences = np.subtract.outer(places, other).ravel()
    sums = np.add.outer(places, other).ravel()
    weights = np.multiply.outer(heights, other_heights).ravel()

    def density(angles: np.ndarray) -> np.ndarray:
        near = np.abs(differences) < _FAR * np.sin(angles.max() / 2)
        across = _exponents(differences[near], np.sin(angles / 2))
        along = _exponents(sums[near], np.cos(angles / 2))
        return np.exp(across + along) @ weights[near]

    return density, _least(differences)


def _least(differences: np.ndarray) -> float:
    sizes = np.abs(differences)
    return float(np.min(sizes[sizes > _EQUAL], initial=np.inf))


def _exponents(lengths: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Those of the Gaussians in S, shape (angles, pairs)."""
    return -((lengths / scales[:, np.newaxis]) ** 2) / 8


def _is_lattice(places: np.ndarray, heights: np.ndarray) -> bool:
    """Tell if the jumps are equally spaced and equally high, and so many that it matters."""
    if len(places) < 8:
        return False
    spacings = np.diff(places)
    is_even = np.ptp(spacings) <= _UNEVEN * spacings.max()
    return bool(is_even and np.ptp(heights) <= _UNEVEN * np.abs(heights).max())


def _lattice_pairs(
    places: np.ndarray, height: float, other: np.ndarray, other_height: float
) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """S for n equally spaced jumps of one height, by n terms and not n**2.

    The difference of two jumps depends on i - j, their sum on i + j. For each difference the sums
    are every second one from |i - j| to 2 (n - 1) - |i - j|, so that partial sums serve all.
    """
    count = len(places)
    spacing = (places[-1] - places[0]) / (count - 1)
    differences = places[0] - other[0] + spacing * np.arange(1 - count, count)
    sums = places[0] + other[0] + spacing * np.arange(2 * count - 1)

    def density(angles: np.ndarray) -> np.ndarray:
        across = np.exp(_exponents(differences, np.sin(angles / 2)))
        along = np.exp(_exponents(sums, np.cos(angles / 2)))
        # The sums from k to the middle, together with those that mirror them.
        partial = along[:, count - 1 :: -1] + along[:, count - 1 :]
        # The middle is its own mirror.
        partial[:, 0] /= 2
        for parity in (0, 1):
            partial[:, parity::2] = np.cumsum(partial[:, parity::2], axis=1)
        # From k = 0 to n - 1; differences of -k have the same sums as those of k.
        partial = partial[:, ::-1]
        both = np.concatenate([partial[:, :0:-1], partial], axis=1)
        return height * other_height * np.sum(across * both, axis=1)

    return density, _least(differences)
