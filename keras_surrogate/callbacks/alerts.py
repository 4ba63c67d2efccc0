"""Warnings about gradients, units, weights, spikes and the loss."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.callbacks.listening import Listener
from keras_surrogate.callbacks.logger import GradientNormLogger
from keras_surrogate.callbacks.loss_alerts import LossFaults
from keras_surrogate.callbacks.spike_alerts import SpikeFaults
from keras_surrogate.callbacks.weight_alerts import WeightFaults
from keras_surrogate.checks import integer, one_of
from keras_surrogate.functions import real_number
from keras_surrogate.recording.optimizers import counting, updates_made
from keras_surrogate.records import Record

_Kind: TypeAlias = Literal[
    "vanishing",
    "exploding",
    "nonfinite",
    "zero",
    "dead",
    "frozen",
    "unstable",
    "one_level",
    "silent",
    "always_firing",
    "loss_stuck",
    "loss_oscillates",
]


@dataclasses.dataclass(frozen=True)
class Alert:
    """A fault that `GradientAlerts` found.

    Attributes:
        kind: "vanishing", "exploding", "nonfinite", "zero", "dead", "frozen", "unstable",
            "one_level", "silent", "always_firing", "loss_stuck" or "loss_oscillates".
        step: the number of the recorded step in which it was found.
        epoch: the epoch of that step.
        layer: the name of the layer (or variable) with the fault; "loss" for a fault of the loss.
        value: the number that passed the threshold.
        message: a sentence with all of this.
    """

    kind: _Kind
    step: int
    epoch: int
    layer: str
    value: float
    message: str


class GradientAlerts(Listener):
    """Warns about faults in the gradients that a `GradientNormLogger` records.

        logger = GradientNormLogger(also="activations", read_every=16)
        model.fit(..., callbacks=[logger, GradientAlerts(logger, action="stop")])

    vanishing: the gradient norm of the first layer, divided by that of the last, is below
        `vanishing`.
    exploding: the gradient norm over all layers, divided by that at the start of this `fit`, is
        above `exploding`; or the gradient norm of the first layer, divided by that of the last, is
        above `exploding`. The norm at the start is the median of the first `patience` recorded
        steps. So the scale of the loss has no effect.
    nonfinite: a gradient is NaN or infinite. The alert names the first such layer in the backward
        pass.
    zero: the gradient norm of a layer is exactly 0. With `per="variable"` of the logger, that of a
        variable.
    dead: more than the share `dead` of a layer's units was 0 during a whole epoch.

    Of the weights that `SurrogateWeights` replaces, if the logger has `also=("flips", "levels")`:

    frozen: in an epoch no weight of a layer changed its level.
    unstable: in each recorded step of an epoch more than half of a layer's weights changed theirs.
    one_level: at the end of an epoch a kernel has one level only.

    Of spiking layers, if the logger has `also="spikes"`:

    silent: in each recorded step of an epoch more than the share `silent` of a layer's units did
        not fire at all.
    always_firing: in each recorded step of an epoch more than the share `always_firing` of a
        layer's units fired in every time step.

    Of the mean loss of each epoch in Keras's logs, of a model that was not trained before:

    loss_stuck: in the first five epochs it has fallen by less than 0.5 %.
    loss_oscillates: in two of the last five epochs it has risen by more than 10 % of the loss of
        the first epoch.

    All faults except those of units, weights, spikes and the loss must last for `patience` recorded
    steps. One non-finite step is enough where the optimizer does not scale the loss; an optimizer
    that scales the loss skips such steps and lowers its scale. An alert is repeated only after its
    condition has ended. Alerts appear when the logger reads: every `read_every` recorded steps, and
    at the end of an epoch.

    Args:
        logger: the `GradientNormLogger`, which is in the callbacks of the same `fit`.
        vanishing: a positive number, default 1e-3; None for no such alert.
        exploding: a positive factor, default 1000; None for no such alert.
        dead: a share above 0 and at most 1, default 0.7; None for no such alert. It needs
            `also="activations"` of the logger.
        patience: consecutive recorded steps, an integer of at least 1, default 10.
        action: "warn", the default; "stop", which also ends training after the batch; or a function
            that is called with the `Alert`.
        zero: whether to report layers whose gradient is 0, default True.
        silent, always_firing: shares above 0 and at most 1, default 0.9 and 0.5; None for no such
            alert. They need `also="spikes"` of the logger.
        loss: whether to report a loss that is stuck or oscillates, default True.

    Attributes:
        alerts: a list of all `Alert` objects since `fit` began.

    Raises:
        TypeError: `logger` is not a `GradientNormLogger`.
        ValueError: an argument is out of its range; the logger is not in the callbacks of the same
            `fit`.

    Source: the kinds and the share of 0.7 are from AUTOTRAINER, Zhang et al. 2021,
    doi:10.1109/ICSE43902.2021.00043.
    """

    alerts: list[Alert]

    def __init__(
        self,
        logger: GradientNormLogger,
        vanishing: float | None = thresholds.VANISHING_RESCALED,
        exploding: float | None = thresholds.EXPLODING_RUN,
        dead: float | None = thresholds.DEAD,
        patience: int | np.integer = 10,
        action: Literal["warn", "stop"] | Callable[[Alert], object] = "warn",
        zero: bool = True,
        silent: float | None = thresholds.SILENT,
        always_firing: float | None = thresholds.FIRING,
        loss: bool = True,
    ) -> None:
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
        self._spike_limits = {
            "silent": _share("silent", silent),
            "always_firing": _share("always_firing", always_firing),
        }
        self._loss = one_of(loss, "GradientAlerts: loss", (True, False))
        self._action = action
        self._reset()

    def _reset(self) -> None:
        self.alerts = []
        self._newest: Record | None = None
        # Whether a step of this epoch was recorded.
        self._recorded = False
        self._first_norms: list[float] = []
        self._lasted = dict.fromkeys(_CONDITIONS, 0)
        self._zero_for: np.ndarray | int = 0
        self._already_dead: set[str] = set()
        self._weight_faults = WeightFaults()
        self._spike_faults = SpikeFaults(self._spike_limits)
        self._loss_faults: LossFaults | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Not in on_train_begin, in which BackupAndRestore may still restore the updates.
        if self._loss_faults is None:
            self._loss_faults = LossFaults(updates_made(self.model) == 0)

    def write(
        self, columns: Sequence[str], steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
    ) -> None:
        """Check rows that the logger has read."""
        record = Record(tuple(columns), steps, epochs, rows, self._logger.kind or "raw")
        if not record.layer_names:
            return
        for row in np.flatnonzero(~record.updates_nothing):
            self._check(record.rows(slice(row, row + 1)))
        self._newest = record.rows(slice(-1, None))
        self._recorded = True
        self._weight_faults.see(record)
        self._spike_faults.see(record)

    def _check(self, record: Record) -> None:
        """Check one recorded step."""
        start = self._norm_at_start(record.global_norms[0])
        for kind, condition in _CONDITIONS.items():
            seen = condition(record, self._thresholds, start)
            if seen is None:
                self._lasted[kind] = 0
                continue
            self._lasted[kind] += 1
            if self._lasted[kind] == self._needed(kind):
                self._report(kind, record, *seen)
        if self._zero:
            self._check_zeros(record)

    def _norm_at_start(self, norm: float) -> float | None:
        """The median of the first finite norms; None before there are `patience` of them."""
        if len(self._first_norms) < self._thresholds.patience:
            if np.isfinite(norm):
                self._first_norms.append(norm)
            return None
        return float(np.median(self._first_norms))

    def _needed(self, kind: _Kind) -> int:
        """The number of consecutive steps after which a fault is reported."""
        scales_the_loss = isinstance(counting(self.model), keras.optimizers.LossScaleOptimizer)
        if kind == "nonfinite" and not scales_the_loss:
            return 1
        return self._thresholds.patience

    def _check_zeros(self, record: Record) -> None:
        """Report the layers whose gradient has now been 0 for `patience` recorded steps."""
        self._zero_for = np.where(record.norms[0] == 0, self._zero_for + 1, 0)
        patience = self._thresholds.patience
        layers = [record.layer_names[place] for place in np.flatnonzero(self._zero_for == patience)]
        if not layers:
            return
        more = ", ..." if len(layers) > 4 else ""
        listed = ", ".join(layers[:4]) + more
        what = f"the gradients of {listed} have been 0 for {patience} recorded steps"
        self._report("zero", record, layers[0], 0.0, what)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._logger.read()
        newest = self._newest
        if newest is None:
            return
        # Without a recorded step in this epoch nothing is new, and nothing has ended.
        if self._recorded:
            self._recorded = False
            for faults in (self._weight_faults, self._spike_faults):
                for kind, layer, value, what in faults.found(newest):
                    self._report(kind, newest, layer, value, what)
                faults.begin_epoch()
            self._check_dead_units(newest)
        if self._loss and self._loss_faults is not None:
            for kind, value, what in self._loss_faults.found((logs or {}).get("loss")):
                self._report(kind, newest, "loss", value, what)

    def _check_dead_units(self, newest: Record) -> None:
        """Report the layers of which too many units were 0 during the whole epoch."""
        if self._thresholds.dead is None or "dead_units" not in newest.quantities:
            return
        shares = newest["dead_units"][0]
        for layer, share in zip(newest.names("dead_units"), shares, strict=True):
            if not share > self._thresholds.dead:  # "not", because the share may be NaN.
                self._already_dead.discard(layer)
            elif layer not in self._already_dead:
                self._already_dead.add(layer)
                what = f"{share:.0%} of the units of {layer} were 0 during the whole epoch"
                self._report("dead", newest, layer, share, what)

    def _report(self, kind: _Kind, record: Record, layer: str, value: float, what: str) -> None:
        step = int(record.steps[0])
        epoch = int(record.epochs[0])
        message = f"{_TITLES[kind]} {what} (step {step}, epoch {epoch}).{_ADVICE.get(kind, '')}"
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


# The layer, the number and the text of an alert.
_Seen: TypeAlias = tuple[str, float, str]


def _vanishing(record: Record, thresholds: _Thresholds, start: float | None) -> _Seen | None:
    first, last = record.norms[0, [0, -1]]
    if thresholds.vanishing is None or not np.isfinite([first, last]).all():
        return None
    if first >= thresholds.vanishing * last:
        return None
    what = (
        f"{_first_over_last(record)}; the ratio has been below {thresholds.vanishing:g} for "
        f"{thresholds.patience} recorded steps"
    )
    return record.layer_names[0], first / last, what


def _exploding(record: Record, thresholds: _Thresholds, start: float | None) -> _Seen | None:
    total = record.global_norms[0]
    if thresholds.exploding is None or not np.isfinite(total):
        return None
    first, last = record.norms[0, [0, -1]]
    lasting = (
        f"the ratio has been above {thresholds.exploding:g} for {thresholds.patience} recorded "
        "steps"
    )
    if start is not None and total > thresholds.exploding * start:
        largest = record.layer_names[int(np.argmax(record.norms[0]))]
        ratio = total / start if start > 0 else np.inf
        what = (
            f"the gradient norm over all layers is {total:.2g}, which is {ratio:.2g} times the "
            f"norm at the start of this fit; the largest part is in {largest}; {lasting}"
        )
        return largest, ratio, what
    if last > 0 and first > thresholds.exploding * last:
        return record.layer_names[0], first / last, f"{_first_over_last(record)}; {lasting}"
    return None


def _first_over_last(record: Record) -> str:
    names = record.layer_names
    first, last = record.norms[0, [0, -1]]
    return (
        f"the gradient norm of the first layer, {names[0]}, is {first / last:.2g} times that of "
        f"the last layer, {names[-1]}"
    )


def _nonfinite(record: Record, thresholds: _Thresholds, start: float | None) -> _Seen | None:
    layers = list(record.nonfinite.values())
    if not layers:
        return None
    norm = record["gradient_norm"][0, record.layer_names.index(layers[0])]
    return layers[0], norm, f"the first such layer in the backward pass is {layers[0]}"


# From a recorded step, the thresholds and the norm at the start to what is to be reported, or None.
_CONDITIONS: dict[_Kind, Callable[[Record, _Thresholds, float | None], _Seen | None]] = {
    "vanishing": _vanishing,
    "exploding": _exploding,
    "nonfinite": _nonfinite,
}
_TITLES: dict[_Kind, str] = {
    "vanishing": "Gradients vanish:",
    "exploding": "Gradients explode:",
    "nonfinite": "The gradient is not finite:",
    "zero": "No gradient:",
    "dead": "Units are dead:",
    "frozen": "Weights are frozen:",
    "unstable": "Weights are unstable:",
    "one_level": "Weights are equal:",
    "silent": "Neurons are silent:",
    "always_firing": "Neurons fire all the time:",
    "loss_stuck": "The loss does not fall:",
    "loss_oscillates": "The loss goes up and down:",
}
_ADVICE: dict[_Kind, str] = {
    "zero": (
        " Common causes: an operation whose derivative is zero (round, sign, a step), a "
        "stop_gradient, an unused branch, dead units, weights that quantisation sets to 0. "
        "diagnosis.diagnose(model, x, y) finds the cause."
    ),
    "dead": (
        " Lower the learning rate, or use an activation whose slope is not 0 for negative inputs, "
        "such as leaky_relu or elu: in ten ReLU layers under Adam 12 % of the units were dead at "
        "the rate 0.001 and 73 % at 0.03, with leaky_relu none."
    ),
    "frozen": (
        " The latent weights are too large for the learning rate, or beyond the slope's range: "
        "raise the learning rate, or clip them by constraints.WeightClip."
    ),
    "unstable": " Lower the learning rate: the latent weights are small beside its steps.",
    "one_level": (
        " The latent weights are all on one side of the surrogate's thresholds: give the layer a "
        'scale, such as "max_abs", or a larger initializer.'
    ),
    "silent": (
        " Their currents do not reach the threshold: use larger initial weights, such as "
        "initializers.SustainedActivity, or a lower threshold or learning rate."
    ),
    "always_firing": (
        " Their currents are far above the threshold: use smaller initial weights, such as "
        "initializers.SustainedActivity, or a higher threshold or a lower learning rate."
    ),
    "loss_stuck": (
        " Common causes: data or targets that are not scaled, a last activation that does not fit "
        "the loss, a learning rate that is too small or far too large, dead units. "
        "diagnosis.diagnose(model, x, y) on the untrained model finds the cause."
    ),
    "loss_oscillates": " Lower the learning rate, or make the batches larger.",
}


def _positive(name: str, number: float | None) -> float | None:
    return _number(name, number, "positive", lambda number: number > 0)


def _share(name: str, number: float | None) -> float | None:
    return _number(name, number, "above 0 and at most 1", lambda number: 0 < number <= 1)


def _number(
    name: str, number: float | None, meaning: str, accepts: Callable[[float], bool]
) -> float | None:
    if number is None:
        return None
    return real_number(number, "GradientAlerts", name, meaning, accepts)
