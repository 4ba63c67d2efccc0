"""Which backward for this forward, this depth and these weights: all candidates predicted, ranked and explained."""

import dataclasses
import math

import numpy as np

from keras_surrogate import functions, presets
from keras_surrogate.reprs import Shown
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory import criticality, moments, verdicts
from keras_surrogate.theory.prediction import Prediction, predict

# A scale this close to 1 is left out.
_NEGLIGIBLE = 0.02
# Slopes whose gradient is carried by a smaller share of the units than this are as good as sparse.
_SMALL_SHARE = 0.05


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommendation(Shown):
    """One rank: a surrogate, its prediction, and why it stands there.

    score: from 0 to 1: the alignment at the first layer, where there is one, divided by the decades
        that the gradient's norm is off, if more than one.
    revives: the share of the gradient's mean square that goes to units whose true slope is 0; 0 for
        the true slope.
    share: the share of units that carry the gradient, E[g**2]**2 / E[g**4].
    reason: a sentence.
    """

    surrogate: Surrogate
    prediction: Prediction
    score: float
    revives: float
    share: float

    _more = "recommendation.reason, recommendation.surrogate, recommendation.prediction"

    def _facts(self):
        return {
            "": self.name,
            "score": self.score,
            "gradient of the first layer over the last": self.prediction.gradient_ratio,
            "share of it to units that are off": self.revives,
            "share of units that carry it": self.share,
        }

    @property
    def name(self):
        """The pair as one would type it."""
        pair, scale = self.surrogate, self.surrogate.scale
        backward = (
            "true slope"
            if pair.backward == pair.forward
            else f"slope of {_described(pair.backward)}"
        )
        return backward if scale == 1 else f"{scale:.3g} x {backward}"

    @property
    def reason(self):
        ratio, off = (
            self.prediction.gradient_ratio,
            f"units that are off get {100 * self.revives:.2g} % of its square",
        )
        parts = [
            f"The first layer gets {ratio:.2g} times the last one's gradient",
            self._direction(),
        ]
        parts += [off] if self.revives > 0 else []
        parts += (
            [f"only {100 * self.share:.2g} % of the units carry it"]
            if self.share < _SMALL_SHARE
            else []
        )
        return ", ".join(parts) + "."

    def _direction(self):
        if self.surrogate.backward == self.surrogate.forward:
            return "in the true direction"
        if self.prediction.alignment is None:
            return "and there is no true one to compare with"
        return f"at a cosine of {self.prediction.alignment[0]:.2f} with the true one"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommendations(Shown):
    """What `recommend` returns: `ranking`, a tuple of `Recommendation`, best first, and `advice`, sentences."""

    ranking: tuple
    advice: str

    _more = "print(recommendations), recommendations.ranking, recommendations.advice"

    def _facts(self):
        forward = self.ranking[0].surrogate.forward.title
        best = [f"{item.name} ({item.score:.2f})" for item in self.ranking]
        return {"slopes for": forward, "best first:": best}

    def _table(self):
        headings = [
            "rank",
            "slope",
            "score",
            "first layer over last",
            "to units that are off",
            "units that carry it",
        ]
        rows = [
            [rank, item.name, item.score, item.prediction.gradient_ratio, item.revives, item.share]
            for rank, item in enumerate(self.ranking, 1)
        ]
        return headings, rows

    def __str__(self):
        ranks = [f"{rank}. {item.name}: {item.reason}" for rank, item in enumerate(self.ranking, 1)]
        return "\n".join([self.advice, *ranks])


def recommend(
    forward,
    depth,
    weight_variance,
    *,
    candidates=None,
    count=5,
    revive=False,
    width=None,
    **options,
):
    """Ranks slopes for a forward in a network of this depth and these weights.

    Every candidate is balanced (`theory.balance`), the true slope also taken as it is, and
    predicted; the best are those that keep the direction of the true gradient and bring its norm
    through. Where there is no true gradient, as for steps, those rank first that let most units
    take part. Equals rank by how little they change.

    Args:
        forward: whatever `keras_surrogate.functions.get` takes.
        depth, weight_variance: as in `predict`.
        candidates: backwards, names or functions; default every function of the collection, and the
            backward of every published pair with this forward.
        count: how many to return, at least 1; default 5.
        revive: whether to keep only slopes that reach units whose true slope is 0; default False.
        width: as in `predict`, for those that are returned; they are chosen by the limit of
            infinite width.
        options: `bias_variance`, `input_variance`, `fans`, as in `predict`.

    Returns:
        `Recommendations`.

    Raises:
        ValueError: an argument out of range, or no candidate with a gradient.
    """
    forward = functions.get(forward)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"recommend: count must be an integer of at least 1, but is {count!r}.")
    reference = predict(
        Surrogate(forward), depth, weight_variance, input_correlation=0.5, **options
    )
    pairs = _pairs(forward, candidates, weight_variance, options)
    rated = _rated(pairs, depth, weight_variance, None, options)
    ranking = _ranked([item for item in rated if item.revives > 0 or not revive])[:count]
    if not ranking:
        raise ValueError(
            f"recommend: none of the candidates brings a gradient back through {forward.title} at this depth."
        )
    if width is not None:
        ranking = _ranked(
            _rated([item.surrogate for item in ranking], depth, weight_variance, width, options)
        )
    return Recommendations(tuple(ranking), _advice(forward, reference, options))


def _pairs(forward, candidates, weight_variance, options):
    pairs = [Surrogate(forward)]
    for backward in [
        forward,
        *(_default_candidates(forward) if candidates is None else map(functions.get, candidates)),
    ]:
        try:
            pair = criticality.balance(Surrogate(forward, backward), weight_variance, **options)
        except ValueError:
            continue
        pairs.append(pair if abs(pair.scale - 1) > _NEGLIGIBLE else Surrogate(forward, backward))
    return list(dict.fromkeys(pairs))


def _default_candidates(forward):
    published = [presets.get(name) for name in presets.names()]
    own = [pair.backward for pair in published if type(pair.forward) is type(forward)]
    return [*own, *map(functions.get, functions.names())]


def _rated(pairs, depth, weight_variance, width, options):
    rated = []
    for pair in pairs:
        try:
            prediction = predict(pair, depth, weight_variance, width=width, **options)
        except ValueError:
            continue
        if prediction.gradient_ratio > 0:
            rated.append(_recommendation(pair, prediction))
    return rated


def _recommendation(pair, prediction):
    h = moments.pre_activations(prediction.signal_variance[-1])
    slope, true = moments.slope(pair, h), moments.true_slope(pair, h)
    power, weight = slope**2, moments.FINE[1]
    off = (true == 0) if (true != 0).any() else np.zeros_like(h)
    share = (power @ weight) ** 2 / (power**2 @ weight)
    return Recommendation(
        pair,
        prediction,
        verdicts.worth(prediction),
        float((power * off) @ weight / (power @ weight)),
        float(share),
    )


def _ranked(items):
    """Best first; scores within a hundredth are equal, and then the true slope comes first, then that of more units."""
    return sorted(
        items,
        key=lambda item: (
            -round(item.score, 2),
            item.surrogate.backward != item.surrogate.forward,
            -round(item.share, 2),
        ),
    )


def _described(function):
    parameters = [
        f"{field.name}={getattr(function, field.name)}" for field in dataclasses.fields(function)
    ]
    return function.title + (
        f"({', '.join(parameters)})" if parameters and function.title in functions.names() else ""
    )


def _advice(forward, reference, options):
    """What to change in the weights first, because no backward does it."""
    if not verdicts.signal_is_lost(reference):
        return f"The weights carry the signal through. {_on_true_slope(reference)}"
    lost = reference.verdict.split(" The gradient ")[0]
    return f"{lost} First mend that: {_remedy(forward, options)}"


def _on_true_slope(reference):
    title, ratio = reference.surrogate.forward.title, reference.gradient_ratio
    if ratio == 0:
        return (
            f"The true slope of {title} is 0: the ranking knows no direction, only norms and how many "
            "units take part."
        )
    if verdicts.gradient_is_off(reference):
        return f"The true slope of {title} does not bring the gradient back: {verdicts.gradient(reference)}"
    if abs(math.log10(ratio)) > 1:
        return (
            f"The true slope of {title} multiplies the gradient's norm by {ratio:.2g}, which plain SGD feels and "
            "optimizers that rescale each parameter (Adam) hardly do."
        )
    return f"The true slope of {title} brings the gradient back: another one is needed only for units that are dead."


def _remedy(forward, options):
    try:
        known = {
            name: options[name] for name in ("bias_variance", "input_variance") if name in options
        }
        scale = criticality.critical_weight_variance(Surrogate(forward), **known)
    except ValueError:
        return "use normalisation, residual connections or fewer layers."
    return (
        f"weight_variance={scale:.4g} (initializers.CriticalNormal({forward.title!r})), normalisation or "
        f"residual connections."
    )
