"""Recommended backwards for a forward, a depth and weights: predicted, ranked and explained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import checks, functions, presets
from keras_surrogate.reprs import Shown
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import criticality, moments, verdicts, weights
from keras_surrogate.theory.prediction import Network, Prediction, prepared

if TYPE_CHECKING:
    from keras_surrogate._types import FunctionLike
    from keras_surrogate.functions.base import Function
    from keras_surrogate.theory.weights import WeightsLike

# A scale this close to 1 is left out.
_NEGLIGIBLE = 0.02
# A gradient carried by a smaller share of the units than this is called sparse.
_SMALL_SHARE = 0.05


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommendation(Shown):
    """One rank: a surrogate, its prediction, and the reason for its rank.

    Attributes:
        surrogate: the pair.
        prediction: its `Prediction`.
        score: from 0 to 1: the alignment at the first layer, where there is one, divided by the
            decades that the gradient's norm is off, if more than one.
        revives: the share of the gradient's mean square that goes to units whose true slope is 0; 0
            for the true slope.
        share: the share of units that carry the gradient, E[g**2]**2 / E[g**4].
    """

    surrogate: Surrogate
    prediction: Prediction
    score: float
    revives: float
    share: float

    _more = "recommendation.reason, recommendation.surrogate, recommendation.prediction"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.name,
            "score": self.score,
            "gradient of the first layer over the last": self.prediction.gradient_ratio,
            "share of it to inactive units": self.revives,
            "share of units that carry it": self.share,
        }

    @property
    def name(self) -> str:
        """The pair in short: "true slope", "2.5 x slope of softplus"."""
        pair = self.surrogate
        backward = "true slope"
        if pair.backward != pair.forward:
            backward = f"slope of {pair.backward.described}"
        return backward if pair.scale == 1 else f"{pair.scale:.3g} x {backward}"

    @property
    def reason(self) -> str:
        """A sentence about the gradient's norm, its direction and the units that receive it."""
        ratio = self.prediction.gradient_ratio
        parts = [f"The first layer gets {ratio:.2g} times the last one's gradient"]
        parts.append(self._direction())
        if self.revives > 0:
            parts.append(f"inactive units get {100 * self.revives:.2g} % of its square")
        if self.share < _SMALL_SHARE:
            parts.append(f"only {100 * self.share:.2g} % of the units carry it")
        return ", ".join(parts) + "."

    def _direction(self) -> str:
        if self.surrogate.backward == self.surrogate.forward:
            return "in the true direction"
        if self.prediction.alignment is None:
            return "and there is no true one to compare with"
        return f"at a cosine of {self.prediction.alignment[0]:.2f} with the true one"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommendations(Shown):
    """The result of `recommend`.

    Attributes:
        ranking: a tuple of `Recommendation`, best first.
        advice: sentences about the weights and the true slope.
    """

    ranking: tuple[Recommendation, ...]
    advice: str

    _more = "print(recommendations), recommendations.ranking, recommendations.advice"

    def _facts(self) -> dict[str, object]:
        forward = self.ranking[0].surrogate.forward.title
        best = [f"{item.name} ({item.score:.2f})" for item in self.ranking]
        return {"slopes for": forward, "best first:": best}

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
        headings = [
            "rank",
            "slope",
            "score",
            "first layer over last",
            "to inactive units",
            "units that carry it",
        ]
        rows = [
            [rank, item.name, item.score, item.prediction.gradient_ratio, item.revives, item.share]
            for rank, item in enumerate(self.ranking, 1)
        ]
        return headings, rows

    def __str__(self) -> str:
        ranks = [f"{rank}. {item.name}: {item.reason}" for rank, item in enumerate(self.ranking, 1)]
        return "\n".join([self.advice, *ranks])


def recommend(
    forward: FunctionLike,
    depth: int,
    weight_variance: WeightsLike,
    *,
    candidates: Iterable[FunctionLike] | None = None,
    count: int = 5,
    revive: bool = False,
    width: int | None = None,
    **options: Any,
) -> Recommendations:
    """Rank slopes for a forward in a network of this depth and these weights.

    Every candidate is balanced (`theory.balance`) and predicted; the true slope is also predicted
    without balancing. The best candidates keep the direction of the true gradient and its norm.
    Where there is no true gradient, as for steps, the slopes that involve most units rank first.
    Equal scores rank by how little they change.

    Args:
        forward: any argument of `keras_surrogate.functions.get`.
        depth, weight_variance: as in `predict`.
        candidates: backwards, names or functions; default every function of the collection, and the
            backward of every published pair with this forward.
        count: how many to return, at least 1; default 5.
        revive: True keeps only slopes that reach units whose true slope is 0; default False.
        width: as in `predict`, for those that are returned; they are chosen in the limit of
            infinite width.
        options: `bias_variance`, `input_variance`, `fans`, as in `predict`.

    Returns:
        `Recommendations`.

    Raises:
        ValueError: an argument out of range, or no candidate with a gradient.
    """
    forward = functions.get(forward)
    count = checks.integer(count, "recommend: count")
    network = prepared(forward, depth, weight_variance, input_correlation=0.5, **options)
    reference = network.predict(Surrogate(forward))
    pairs = _pairs(forward, candidates, weight_variance, options)
    rated = _rated(pairs, network)
    if revive:
        rated = [item for item in rated if item.revives > 0]
    ranking = _ranked(rated)[:count]
    if not ranking:
        raise ValueError(
            "recommend: none of the candidates brings a gradient back through "
            f"{forward.title} at this depth."
        )
    if width is not None:
        chosen = [item.surrogate for item in ranking]
        narrow = prepared(forward, depth, weight_variance, width=width, **options)
        ranking = _ranked(_rated(chosen, narrow))
    return Recommendations(tuple(ranking), _advice(forward, reference, options))


def _pairs(
    forward: Function,
    candidates: Iterable[FunctionLike] | None,
    weight_variance: WeightsLike,
    options: Mapping[str, Any],
) -> list[Surrogate]:
    """The true slope, and every candidate balanced, each once."""
    if candidates is None:
        backwards = _default_candidates(forward)
    else:
        backwards = [functions.get(candidate) for candidate in candidates]
    pairs = [Surrogate(forward)]
    try:
        rest = _fixed_point(pairs[0], weight_variance, **options)
    except ValueError:
        return pairs
    for backward in [forward, *backwards]:
        unscaled = Surrogate(forward, backward)
        try:
            pair = criticality.balance(unscaled, weight_variance, signal_variance=rest, **options)
        except ValueError:
            continue
        pairs.append(pair if abs(pair.scale - 1) > _NEGLIGIBLE else unscaled)
    return list(dict.fromkeys(pairs))


def _fixed_point(
    true: Surrogate,
    weight_variance: WeightsLike,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    *,
    fans: tuple[float, float] | None = None,
) -> float:
    """The signal's variance at which all slopes of a forward are balanced."""
    scale, _ = weights.variances(weight_variance, fans)
    return criticality.fixed_point(true, scale, bias_variance, input_variance)


def _default_candidates(forward: Function) -> list[Function]:
    published = [presets.get(name) for name in presets.names()]
    own = [pair.backward for pair in published if type(pair.forward) is type(forward)]
    return [*own, *map(functions.get, functions.names())]


def _rated(pairs: Iterable[Surrogate], network: Network) -> list[Recommendation]:
    rated = []
    for pair in pairs:
        try:
            prediction = network.predict(pair)
        except ValueError:
            continue
        if prediction.gradient_ratio > 0:
            rated.append(_recommendation(pair, prediction))
    return rated


def _recommendation(pair: Surrogate, prediction: Prediction) -> Recommendation:
    h = moments.pre_activations(prediction.signal_variance[-1])
    power = moments.slope(pair, h) ** 2
    true = moments.true_slope(pair, h)
    weight = moments.FINE[1]
    # Where the true slope is 0 everywhere, as of a step, no unit counts as inactive.
    off = (true == 0) if (true != 0).any() else np.zeros_like(h)
    return Recommendation(
        surrogate=pair,
        prediction=prediction,
        score=verdicts.worth(prediction),
        revives=float((power * off) @ weight / (power @ weight)),
        share=float((power @ weight) ** 2 / (power**2 @ weight)),
    )


def _ranked(items: Sequence[Recommendation]) -> list[Recommendation]:
    """The items, best first.

    Scores within a hundredth are equal. Then the true slope comes first, and then the slope that
    more units carry.
    """
    return sorted(
        items,
        key=lambda item: (
            -round(item.score, 2),
            item.surrogate.backward != item.surrogate.forward,
            -round(item.share, 2),
        ),
    )


def _advice(forward: Function, reference: Prediction, options: Mapping[str, Any]) -> str:
    """Changes of the weights that must come first, because no backward replaces them."""
    if verdicts.signal_is_lost(reference):
        signal = verdicts.signal(reference)
        return f"{signal} First correct the weights: {_remedy(forward, options)}"
    return f"The weights carry the signal through. {_on_true_slope(reference)}"


def _on_true_slope(reference: Prediction) -> str:
    title = reference.surrogate.forward.title
    ratio = reference.gradient_ratio
    if ratio == 0:
        return (
            f"The true slope of {title} is 0: the ranking ignores directions and compares only "
            "norms and the number of units that take part."
        )
    if verdicts.gradient_is_off(reference):
        gradient = verdicts.gradient(reference)
        return f"The true slope of {title} does not bring the gradient back: {gradient}"
    if abs(math.log10(ratio)) > 1:
        return (
            f"The true slope of {title} multiplies the gradient's norm by {ratio:.2g}. This "
            "affects plain SGD; optimizers that rescale each parameter (Adam) compensate for it."
        )
    return (
        f"The true slope of {title} brings the gradient back: another slope is needed only for "
        "units that are dead."
    )


def _remedy(forward: Function, options: Mapping[str, Any]) -> str:
    known = {name: options[name] for name in ("bias_variance", "input_variance") if name in options}
    try:
        scale = criticality.critical_weight_variance(Surrogate(forward), **known)
    except ValueError:
        return "use normalisation, residual connections or fewer layers."
    return (
        f"use weight_variance={scale:.4g} (initializers.CriticalNormal({forward.title!r})), "
        "normalisation or residual connections."
    )
