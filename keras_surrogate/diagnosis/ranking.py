"""The order of options, and the verdict in words.

The effect of a slope, of calibrated scales and of rates comes from the rule of the theory,
`verdicts.measured_effect`, with measured numbers in place of predicted ones. Other weights and
normalisation change the forward pass, which that rule knows nothing of: they help where they repair
a fault of the gradient or of the signal, by the thresholds of `diagnose`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_surrogate import thresholds
from keras_surrogate.diagnosis.recommended import Kind, Option
from keras_surrogate.diagnosis.workbench import Numbers, Signal
from keras_surrogate.theory import verdicts
from keras_surrogate.theory.verdicts import Effect

# Healthy networks have this ratio or a larger one (see `thresholds.VANISHING`). Four sigmoid layers
# with 0.013 learned nothing under plain SGD (digits, rate 0.3, 20 epochs).
_HEALTHY = 0.1
# A least cosine below it is no direction.
_NOWHERE = 0.05
# Of options with one effect and one score, the earlier kind comes first: first what keeps the true
# gradient, and of that first what the study found best.
_PREFERRED: tuple[Kind, ...] = (
    "true",
    "weights",
    "normalisation",
    "slope",
    "present",
    "calibrated",
    "rates",
)
# Where the true slope is 0, first what changes least.
_PREFERRED_FLAT: tuple[Kind, ...] = (
    "slope",
    "present",
    "calibrated",
    "rates",
    "weights",
    "normalisation",
    "true",
)
_IN_WORDS = {
    "weights": "other initial weights",
    "normalisation": "batch normalisation",
    "present": "the slopes that it has",
    "calibrated": "calibrated scales",
    "rates": "a learning rate for each layer",
}
_CHANGED = {"weights": "weights", "normalisation": "network"}
_EFFECTS: tuple[Effect | None, ...] = ("helps", "none", "cannot tell", "hurts")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the verdict depends on besides the options.

    Attributes:
        title: the title of the forward.
        is_flat: True if its true slope is 0 everywhere.
        optimizer_name: the optimizer's class.
        rescaled: True if the optimizer rescales steps.
        rate: its learning rate.
        signal: the `Signal` with the true slope.
        true_ratio: the ratio with the true slope.
        reference: the name of the reference of the cosines.
    """

    title: str
    is_flat: bool
    optimizer_name: str
    rescaled: bool
    rate: float
    signal: Signal
    true_ratio: float
    reference: str

    def effect(self, numbers: Numbers) -> Effect | None:
        """The effect of a slope, of scales or of rates."""
        if self.signal.is_lost:
            return "none"
        return verdicts.measured_effect(
            numbers.ratio,
            self.true_ratio,
            numbers.cosine,
            self.rescaled,
            self.rate,
            self.signal.shrinks,
        )

    def repair(self, after: Numbers, before: Numbers) -> Effect:
        """The effect of a change of the forward pass, beside the numbers without it."""
        is_faulty = self.signal.is_lost or self.is_off(before.ratio)
        loses_direction = self.score(after) < self.score(before)
        if not is_faulty or self.is_off(after.ratio) or loses_direction:
            return "none"
        return "helps"

    def is_off(self, ratio: float) -> bool:
        """True if the gradient vanishes or explodes, or for plain SGD is not healthy."""
        least = _HEALTHY
        if self.rescaled:
            least = thresholds.VANISHING_RESCALED
        return not least <= ratio <= thresholds.EXPLODING

    def score(self, numbers: Numbers) -> float:
        """The least cosine, and for plain SGD over the decades that the norm is off."""
        direction = max(0.0, numbers.least_cosine or 0.0)
        if self.rescaled:
            return direction
        return direction / verdicts.decades_off(numbers.ratio)


def ranked(options: Sequence[Option], setting: Setting) -> list[Option]:
    """The options, best first; those that were not measured last."""
    preferred = _PREFERRED_FLAT if setting.is_flat else _PREFERRED

    def order(one: Option) -> tuple[float, ...]:
        return (
            one.reason is not None,
            _rank_of_effect(one, setting),
            -round(one.score or 0.0, 2),
            preferred.index(one.kind),
            -(one.least_cosine or 0.0),
        )

    return sorted(options, key=order)


def _rank_of_effect(one: Option, setting: Setting) -> int:
    if not setting.is_flat:
        return _EFFECTS.index(one.effect or "none")
    if one.kind == "true":
        return len(_EFFECTS)
    # Beside a slope of 0 "none" means a small gradient. The score counts it for plain SGD, and Adam
    # corrects it: in twelve layers of signs a slope with a ratio of 1.7e-7 trained best.
    if one.effect == "none" and one.kind not in _CHANGED:
        return _EFFECTS.index("helps")
    return _EFFECTS.index(one.effect or "none")


def verdict(options: Sequence[Option], setting: Setting) -> str:
    """What to do, in sentences.

    Args:
        options: ranked.
        setting: the `Setting`.
    """
    sentences = []
    if setting.signal.is_lost:
        sentences.append(
            "The signal is lost: at the last activation all examples look alike. No slope repairs "
            "this; change the weights or normalise first."
        )
    if setting.is_flat:
        sentences += _for_flat(options, setting)
    else:
        sentences += _beside_true(options, setting)
    step = options[0].kept
    if step is not None and step < 0:
        sentences.append(
            "The first step of the optimizer increases the loss of this batch: lower the learning "
            "rate."
        )
    return " ".join(sentences)


def _for_flat(options: Sequence[Option], setting: Setting) -> list[str]:
    sentences = [f"The true slope of {setting.title} is 0, so a surrogate is needed."]
    best = options[0]
    slopes = [one for one in options if one.kind in ("slope", "present") and one.reason is None]
    if not slopes:
        return [*sentences, "No candidate could be measured."]
    first = slopes[0]
    cosine = first.least_cosine
    if cosine is None or cosine < _NOWHERE:
        return [
            *sentences,
            "None of the candidates keeps the direction of the gradient. Use fewer layers, "
            "bypasses, or wider slopes.",
        ]
    compared = "direction and size"
    if setting.rescaled:
        compared = "direction"
    sentences.append(
        f"Take {_taken(first)}: of {len(slopes)} slopes it is the best by {compared}, with a "
        f"cosine of {cosine:.2f} or more in every layer (reference {setting.reference!r})."
    )
    near = [one.name for one in slopes[1:] if one.score and one.score >= 0.9 * (first.score or 0)]
    if near:
        sentences.append(f"Nearly as good: {', '.join(near)}.")
    ratio = f"The first activation gets {first.ratio:.2g} times the last one's gradient"
    if setting.rescaled:
        sentences.append(f"{ratio}, which {setting.optimizer_name} corrects by itself.")
    elif setting.is_off(first.ratio or 0.0) or best.kind in ("calibrated", "rates"):
        sentences.append(
            f"{ratio}, which plain SGD does not correct: use diagnosis.calibrate, a rate for each "
            "layer (optimizers.LayerRates) or Adam."
        )
    else:
        sentences.append(f"{ratio}.")
    sentences.append("Then tune the learning rate.")
    if best.kind in _CHANGED:
        sentences.append(f"With it, {best.name} should help too.")
    return sentences


def _beside_true(options: Sequence[Option], setting: Setting) -> list[str]:
    best = options[0]
    sentences = []
    if best.kind == "true":
        sentences += _keep(options, setting)
    elif best.kind in _CHANGED:
        sentences.append(
            f"First change the {_CHANGED[best.kind]}: with {_taken(best)} and the true slope the "
            f"first activation gets {best.ratio:.2g} times the last one's gradient, now "
            f"{setting.true_ratio:.2g}."
        )
        helping = [one for one in options if one.effect == "helps" and one.kind == "slope"]
        if helping:
            names = ", ".join(one.name for one in helping[:3])
            sentences.append(f"If the model must stay as it is, these slopes should help: {names}.")
    else:
        sentences.append(
            f"Take {_taken(best)}: it should train better than the true slope. The first "
            f"activation gets {best.ratio:.2g} times the last one's gradient, with the true slope "
            f"{setting.true_ratio:.2g}."
        )
    unclear = [one.name for one in options if one.effect == "cannot tell" and one.kind == "slope"]
    if unclear:
        sentences.append(f"The rule cannot tell about {', '.join(unclear)}.")
    if setting.signal.dead >= thresholds.DEAD:
        sentences.append(
            f"But {setting.signal.dead:.0%} of the units of an activation are dead: the true slope "
            "leaves them dead. Lower the learning rate or correct the biases; otherwise a slope "
            "that is not 0 there revives them, such as leaky_relu."
        )
    return sentences


def _keep(options: Sequence[Option], setting: Setting) -> list[str]:
    tried = [one for one in options if one.kind == "slope" and one.reason is None]
    sentences = [f"Keep the true slope: of {len(tried)} slopes tried none should train better."]
    harmful = [one.name for one in tried if one.effect == "hurts"]
    if harmful:
        sentences.append(f"These should train worse: {', '.join(harmful)}.")
    if setting.is_off(setting.true_ratio):
        sentences.append(
            "Its gradient does not keep its size: the first activation gets "
            f"{setting.true_ratio:.2g} times the last one's. Use other weights, normalisation or "
            "bypasses."
        )
    return sentences


def _taken(one: Option) -> str:
    """What to take, in words."""
    return _IN_WORDS.get(one.kind, f"the slope of {one.name}")
