"""The straight-through estimator that another slope of a quantiser amounts to.

A weight w with the quantised value Q(w) is trained with a slope s in place of Q'. Per step of
gradient descent with learning rate r, where g is the gradient of Q(w),

    w moves by -r s(w) g,        so that        M(w) = integral of dw / s(w)    moves by -r g

for small steps. That is straight-through training of M(w), which has slope 1 everywhere. Stretched
so that the jumps of Q stay where they are, a cell of width D between two jumps has

    u = low + alpha (M(w) - M(low)),        alpha = D / (M(high) - M(low)),

and u moves by -alpha r g: straight-through training with the learning rate alpha r, from the start
weights u(w). Both runs have the same quantised weights all along, if the steps are small and all
cells have one alpha. Under Adam and its like, which divide each weight's gradient by its size, the
learning rate stays and so do the start weights, as long as the slope changes slowly.

Source: Schoenbauer, Moffat, Dua et al. 2024, "Custom gradient estimators are straight-through
estimators in disguise", arXiv:2405.05171.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import functions, presets
from keras_surrogate.reprs import Shown
from keras_surrogate.theory import moments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.surrogate import Surrogate

# Points of Gauss-Legendre quadrature in each of the parts into which a range is cut.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_PARTS = 2048
# Cells whose alphas differ relatively by less share one.
_ALIKE = 1e-2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StraightThrough(Shown):
    """The result of `equivalent_straight_through`.

    Attributes:
        surrogate: the pair.
        jumps: the places at which its value jumps, shape (n,).
        factors: alpha of every cell between two jumps, shape (n - 1,); for a single jump the slope
            there, shape (1,).
    """

    surrogate: Surrogate
    jumps: np.ndarray
    factors: np.ndarray

    _more = "result.learning_rate_factor, result.factors, result.start(weights)"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.surrogate.title,
            "learning rate factor of plain SGD": self.learning_rate_factor,
            "of Adam": 1,
        }

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
        edges = self.jumps if len(self.jumps) > 1 else np.array([-np.inf, np.inf])
        return ["from", "to", "alpha"], zip(edges[:-1], edges[1:], self.factors, strict=True)

    @property
    def learning_rate_factor(self) -> float | None:
        """alpha, the learning rate of the straight-through run over that of the surrogate's.

        None: the cells differ by more than 1 %, so that no single rate gives the same training.
        """
        least = self.factors.min()
        largest = self.factors.max()
        if largest > least * (1 + _ALIKE):
            return None
        return float((least + largest) / 2)

    def start(self, weights: ArrayLike) -> np.ndarray:
        """The start weights of the straight-through run with plain SGD.

        Args:
            weights: those of the surrogate's run, numbers of any shape.

        Returns:
            An array of the same shape. Beyond the outermost jumps the alpha of the next cell holds.
            Of `round` and `floor` only the jumps up to 2 count, so that the slope must repeat in
            every cell.

        Raises:
            ValueError: the slope is not positive between some weight and the jumps, so that it
                cannot move there.
        """
        weights = np.asarray(weights, float)
        if not np.isfinite(weights).all():
            raise ValueError("StraightThrough.start: all weights must be finite numbers.")
        outermost = [weights.min(initial=self.jumps[0]), weights.max(initial=self.jumps[-1])]
        edges = np.unique([*self.jumps, *outermost])
        places, times = _primitive(self.surrogate, edges)
        # alpha of the cell that begins at each jump; the last one holds to the right of all jumps.
        alphas = np.concatenate([self.factors[:1], self.factors, self.factors[-1:]])
        if len(self.jumps) == 1:
            alphas = np.repeat(self.factors, 2)
        cell = np.searchsorted(self.jumps, weights, side="right")
        anchor = self.jumps[np.maximum(cell - 1, 0)]
        passed = np.interp(weights, places, times) - np.interp(anchor, places, times)
        return anchor + alphas[cell] * passed


def equivalent_straight_through(surrogate: SurrogateLike) -> StraightThrough:
    """The straight-through estimator that a quantiser's slope amounts to in training.

        alpha = D / integral of dw / slope(w)        over a cell of width D between two jumps

    Plain SGD with a small learning rate and this slope trains the same quantised weights as the
    straight-through estimator (slope 1) with alpha times the rate, from the weights `start(w)`.
    For a single jump, as of signs, cells have no ends: alpha is the slope at the jump, so that
    weights near it stay where they are. Adam needs neither the factor nor other start weights.

        same = theory.equivalent_straight_through("dge_fp4")
        same.learning_rate_factor            0.359
        same.start(kernel)                   weights to start the straight-through run from

    Args:
        surrogate: any argument of `keras_surrogate.get` whose value is constant between jumps, and
            whose slope is positive between the outermost ones.

    Returns:
        A `StraightThrough`.

    Raises:
        ValueError: the value is not constant between jumps, there are infinitely many, or the slope
            is not positive.

    Source: Schoenbauer et al. 2024, arXiv:2405.05171.
    """
    surrogate = presets.get(surrogate)
    jumps = _all_jumps(surrogate.forward)
    if len(jumps) == 1:
        factors = _slope(surrogate, jumps)
        _check_positive(surrogate, jumps, factors)
        return StraightThrough(surrogate, jumps, factors)
    places, times = _primitive(surrogate, jumps)
    passed = np.diff(np.interp(jumps, places, times))
    return StraightThrough(surrogate, jumps, np.diff(jumps) / passed)


def _all_jumps(forward: functions.Function) -> np.ndarray:
    """The jumps of a quantiser; for one without end, as `round`, those of the cells around 0."""
    jumps = forward.jumps(2.0)
    if jumps is None:
        raise ValueError(
            f"equivalent_straight_through: {forward.title} is not constant between jumps, as a "
            "quantiser is, or has too many of them. Pass a pair such as 'ste_sign', 'dge_fp4' or "
            "Surrogate(functions.Staircase(4), 'tanh')."
        )
    return jumps


def _slope(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    return moments.slope(surrogate, x)


def _check_positive(surrogate: Surrogate, x: np.ndarray, slope: np.ndarray) -> None:
    wrong = ~(slope > 0)
    if wrong.any():
        first = wrong.ravel().argmax()
        place = float(np.ravel(x)[first])
        # Adding 0 makes 0 of -0.
        found = float(slope.ravel()[first]) + 0.0
        raise ValueError(
            f"equivalent_straight_through: the slope of {surrogate.slope_title} at {place:.4g} is "
            f"{found:.4g}. It must be positive between the "
            "jumps and at all weights: where it is 0 a weight cannot move, and where it is "
            "negative it moves the other way."
        )


def _primitive(surrogate: Surrogate, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places, among them the edges, and M there: the integral of dw / slope(w) from the first."""
    shares = np.arange(_PARTS) / _PARTS
    starts = (edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * shares).ravel()
    places = np.append(starts, edges[-1])
    half = np.diff(places)[:, np.newaxis] / 2
    x = places[:-1, np.newaxis] + half * (1 + _NODES)
    slope = _slope(surrogate, x)
    _check_positive(surrogate, x, slope)
    times = (half / slope) @ _WEIGHTS
    return places, np.concatenate([[0.0], np.cumsum(times)])
