"""Speaks up when gradients vanish, explode, are exactly 0 or no numbers, or when units die."""

import dataclasses
import warnings

import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.callbacks.listening import Listener
from keras_surrogate.checks import integer, one_of
from keras_surrogate.functions import real_number
from keras_surrogate.records import Record


@dataclasses.dataclass(frozen=True)
class Alert:
    """What was seen.

    Attributes:
        kind: "vanishing", "exploding", "nonfinite", "zero" or "dead".
        step: the number of the recorded step in which it was seen.
        epoch: the epoch of that step.
        layer: the layer it is about; "global" for all together.
        value: the number that passed the threshold.
        message: all that in a sentence.
    """

    kind: str
    step: int
    epoch: int
    layer: str
    value: float
    message: str


class GradientAlerts(Listener):
    """Watches what a `GradientNormLogger` records, and speaks up.

        logger = GradientNormLogger(also="activations", read_every=16)
        model.fit(..., callbacks=[logger, GradientAlerts(logger, action="stop")])

    vanishing: the gradient norm of the first layer, divided by that of the last, is below
        `vanishing`.
    exploding: the gradient norm over all layers is above `exploding` times what it was at the start
        of this `fit`, the median of its first `patience` recorded steps; or that of the first layer
        is above `exploding` times that of the last. So it does not depend on the scale of the loss.
    nonfinite: a gradient is NaN or infinite; the layer is the first of them in the backward pass.
    zero: the gradient norm of a layer is exactly 0. With `per="variable"` of the logger, that of a
        variable.
    dead: of a layer's units, more than the share `dead` was 0 during a whole epoch.

    All but dead units must last for `patience` recorded steps, except that a single step that is
    not finite is enough where the optimizer does not scale the loss; where it does, it skips such
    steps and lowers the scale. An alert is not repeated before its condition has ceased. It comes
    when the logger reads, every `read_every` recorded steps and at the end of an epoch.

    Args:
        logger: the `GradientNormLogger`, which is in the callbacks of the same `fit`.
        vanishing: a positive number, default 1e-3; None for no such alert.
        exploding: a factor, a positive number, default 1000; None for no such alert.
        dead: a positive share, default 0.7; None for no such alert. Only where the logger has
            `also="activations"`.
        patience: recorded steps in a row, an integer of at least 1, default 10.
        action: "warn", the default; "stop", which also ends training after the batch; or a function
            that is called with the `Alert`.
        zero: whether there are alerts of layers that no gradient reaches, default True.

    Attributes:
        alerts: the list of all `Alert` objects since `fit` began.

    Raises:
        TypeError: `logger` is no `GradientNormLogger`.
        ValueError: an argument out of its range; the logger is not in the callbacks of the same
            `fit`.

    Source: the kinds and the share of 0.7 are AUTOTRAINER's, Zhang et al. 2021,
    doi:10.1109/ICSE43902.2021.00043.
    """

    def __init__(
        self,
        logger,
        vanishing=thresholds.VANISHING_RESCALED,
        exploding=thresholds.EXPLODING_RUN,
        dead=thresholds.DEAD,
        patience=10,
        action="warn",
        zero=True,
    ):
        super().__init__(logger)
        if action not in ("warn", "stop") and not callable(action):
            raise ValueError(
                f'GradientAlerts: action must be "warn", "stop" or a function, but is {action!r}.'
            )
        self._thresholds = _Thresholds(
            _positive("vanishing", vanishing),
            _positive("exploding", exploding),
            _share("dead", dead),
            integer(patience, "GradientAlerts: patience"),
        )
        self._zero = one_of(zero, "GradientAlerts: zero", (True, False))
        self._action = action
        self._reset()

    def _reset(self):
        self.alerts = []
        self._newest = None
        self._first_norms = []
        self._lasted = dict.fromkeys(_CONDITIONS, 0)
        self._zero_for = 0
        self._already_dead = set()

    def write(self, columns, steps, epochs, rows):
        """Takes what the logger has read."""
        record = Record(tuple(columns), steps, epochs, rows, self._logger.kind)
        if not record.layer_names:
            return
        for row in range(len(steps)):
            self._look(record.rows(slice(row, row + 1)))
        self._newest = record.rows(slice(-1, None))

    def _look(self, record):
        """At one recorded step."""
        start = self._norm_at_start(record.global_norms[0])
        for kind, condition in _CONDITIONS.items():
            seen = condition(record, self._thresholds, start)
            self._lasted[kind] = self._lasted[kind] + 1 if seen else 0
            if self._lasted[kind] == self._needed(kind):
                self._report(kind, record, *seen)
        if self._zero:
            self._look_for_zeros(record)

    def _norm_at_start(self, norm):
        """The median of the first finite norms; None before there are enough."""
        if len(self._first_norms) < self._thresholds.patience:
            if np.isfinite(norm):
                self._first_norms.append(norm)
            return None
        return float(np.median(self._first_norms))

    def _needed(self, kind):
        may_skip = hasattr(self.model.optimizer, "inner_optimizer")
        return 1 if kind == "nonfinite" and not may_skip else self._thresholds.patience

    def _look_for_zeros(self, record):
        """Counts for each layer for how many steps its gradient has been 0, and reports those that just reached it."""
        self._zero_for = np.where(record.norms[0] == 0, self._zero_for + 1, 0)
        layers = [
            record.layer_names[place]
            for place in np.flatnonzero(self._zero_for == self._thresholds.patience)
        ]
        if layers:
            others = (
                f" (nor {', '.join(layers[1:4])}{', ...' if layers[4:] else ''})"
                if layers[1:]
                else ""
            )
            what = f"it has not reached {layers[0]}{others} for {self._thresholds.patience} recorded steps. {_CAUSES}"
            self._report("zero", record, layers[0], 0.0, what)

    def on_epoch_end(self, epoch, logs=None):
        self._logger.read()
        if (
            self._newest is None
            or self._thresholds.dead is None
            or "dead_units" not in self._newest.quantities
        ):
            return
        for layer, share in zip(
            self._newest.names("dead_units"), self._newest["dead_units"][0], strict=True
        ):
            self._look_for_dead_units(layer, share)

    def _look_for_dead_units(self, layer, share):
        if not share > self._thresholds.dead:
            self._already_dead.discard(layer)
        elif layer not in self._already_dead:
            self._already_dead.add(layer)
            what = f"{share:.0%} of the units of {layer} were 0 during the whole epoch"
            self._report("dead", self._newest, layer, share, what)

    def _report(self, kind, record, layer, value, what):
        step = int(record.steps[0])
        epoch = int(record.epochs[0])
        message = f"{_TITLES[kind]} {what} (step {step}, epoch {epoch})."
        alert = Alert(kind, step, epoch, layer, float(value), message)
        self.alerts.append(alert)
        if callable(self._action):
            self._action(alert)
            return
        warnings.warn(alert.message, stacklevel=3)
        if self._action == "stop":
            self.model.stop_training = True


@dataclasses.dataclass(frozen=True)
class _Thresholds:
    vanishing: float | None
    exploding: float | None
    dead: float | None
    patience: int


def _vanishing(record, thresholds, start):
    """The layer, the number and the words of the alert, or None, as the other conditions."""
    first, last = record.norms[0, [0, -1]]
    if (
        thresholds.vanishing is None
        or not np.isfinite([first, last]).all()
        or first >= thresholds.vanishing * last
    ):
        return None
    names = record.layer_names
    what = (
        f"the gradient norm of the first layer, {names[0]}, is {first / last:.2g} times that of the last, {names[-1]}, "
        f"and has been below {thresholds.vanishing:g} times it for {thresholds.patience} recorded steps"
    )
    return names[0], first / last, what


def _exploding(record, thresholds, start):
    total = record.global_norms[0]
    if thresholds.exploding is None or not np.isfinite(total):
        return None
    names = record.layer_names
    first, last = record.norms[0, [0, -1]]
    lasting = f"and has been above {thresholds.exploding:g} times it for {thresholds.patience} recorded steps"
    if start is not None and total > thresholds.exploding * start:
        largest = names[int(np.argmax(record.norms[0]))]
        times = total / start if start > 0 else np.inf
        what = (
            f"the gradient norm is {total:.2g}, most of it in {largest}. That is {times:.2g} times what it was at "
            f"the start of this fit, {lasting}"
        )
        return largest, times, what
    if last > 0 and first > thresholds.exploding * last:
        what = (
            f"the gradient norm of the first layer, {names[0]}, is {first / last:.2g} times that of the last, "
            f"{names[-1]}, {lasting}"
        )
        return names[0], first / last, what
    return None


def _nonfinite(record, thresholds, start):
    layers = list(record.nonfinite.values())
    if not layers:
        return None
    norm = record["gradient_norm"][0, record.layer_names.index(layers[0])]
    return layers[0], norm, f"first, in the backward pass, that of {layers[0]}"


_CONDITIONS = {"vanishing": _vanishing, "exploding": _exploding, "nonfinite": _nonfinite}
_CAUSES = (
    "Common causes: a zero slope on the way (round, sign, a step), a stop_gradient, a branch that is not used, dead "
    "units, weights that are all 0 once quantised; diagnosis.diagnose(model, x, y) says which"
)
_TITLES = {
    "vanishing": "Gradients vanish:",
    "exploding": "Gradients explode:",
    "nonfinite": "The gradient is not finite:",
    "zero": "No gradient:",
    "dead": "Units are dead:",
}


def _positive(name, number):
    return _number(name, number, "positive", lambda number: number > 0)


def _share(name, number):
    return _number(name, number, "above 0 and at most 1", lambda number: 0 < number <= 1)


def _number(name, number, meaning, accepts):
    return None if number is None else real_number(number, "GradientAlerts", name, meaning, accepts)
