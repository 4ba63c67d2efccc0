"""Speaks up when gradients vanish, explode or stop being numbers, or when units die."""

import dataclasses
import warnings

import keras
import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.functions import real_number
from keras_surrogate.records import Record


@dataclasses.dataclass(frozen=True)
class Alert:
    """What was seen.

    Attributes:
        kind: "vanishing", "exploding", "nonfinite" or "dead".
        step: the recorded step in which it was seen, counted from the start of `fit`.
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


class GradientAlerts(keras.callbacks.Callback):
    """Watches what a `GradientNormLogger` records, and speaks up.

        logger = GradientNormLogger(also="activations", read_every=16)
        model.fit(..., callbacks=[logger, GradientAlerts(logger, action="stop")])

    vanishing: the gradient norm of the first layer, divided by that of the last, is below `vanishing`.
    exploding: the gradient norm over all layers is above `exploding`.
    nonfinite: a gradient is NaN or infinite; the layer is the first of them in the backward pass.
    dead: of a layer's units, more than the share `dead` was 0 all through an epoch.

    The first two must last for `patience` recorded steps. So must the third where the optimizer scales the loss, since
    it then skips such steps and lowers the scale; else a single step is enough. An alert is not repeated before its
    condition has ceased. It comes when the logger reads, every `read_every` recorded steps and at the end of an epoch.

    Args:
        logger: the `GradientNormLogger`, which is in the callbacks of the same `fit`.
        vanishing: a positive number, default 1e-3; None for no such alert.
        exploding: a positive number, default 1000; None for no such alert.
        dead: a positive share, default 0.7; None for no such alert. Only where the logger has `also="activations"`.
        patience: recorded steps in a row, an integer of at least 1, default 10.
        action: "warn", the default; "stop", which also ends training after the batch; or a function that is called
            with the `Alert`.

    Attributes:
        alerts: the list of all `Alert` objects since `fit` began.

    Raises:
        ValueError: an argument out of its range; the logger is not in the callbacks of the same `fit`.

    Source: the kinds and the share of 0.7 are AUTOTRAINER's, Zhang et al. 2021, doi:10.1109/ICSE43902.2021.00043.
    """

    def __init__(
        self,
        logger,
        vanishing=thresholds.VANISHING_RESCALED,
        exploding=thresholds.EXPLODING_RUN,
        dead=thresholds.DEAD,
        patience=10,
        action="warn",
    ):
        super().__init__()
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"GradientAlerts: patience must be an integer of at least 1, but is {patience!r}.")
        if action not in ("warn", "stop") and not callable(action):
            raise ValueError(f'GradientAlerts: action must be "warn", "stop" or a function, but is {action!r}.')
        self._thresholds = _Thresholds(
            _positive("vanishing", vanishing), _positive("exploding", exploding), _share("dead", dead), patience
        )
        self._logger, self._action = logger, action
        self._reset()
        logger.listen(self)

    def _reset(self):
        self.alerts = []
        self._newest = None
        self._lasted = dict.fromkeys(_CONDITIONS, 0)
        self._already_dead = set()

    def on_train_begin(self, logs=None):
        self._reset()

    def on_train_batch_begin(self, batch, logs=None):
        self._check(self._logger.model is self.model)

    def _check(self, logger_is_at_work):
        if not logger_is_at_work:
            raise ValueError("GradientAlerts: put its GradientNormLogger into the callbacks of the same fit.")

    def write(self, columns, steps, epochs, rows):
        """Takes what the logger has read."""
        if self._logger.model is not self.model:
            return
        record = Record(tuple(columns), steps, epochs, rows, self._logger.kind)
        for row in range(len(steps)):
            self._look(record.rows(slice(row, row + 1)))
        self._newest = record.rows(slice(-1, None))

    def _look(self, record):
        """At one recorded step."""
        for kind, condition in _CONDITIONS.items():
            seen = condition(record, self._thresholds)
            self._lasted[kind] = self._lasted[kind] + 1 if seen else 0
            if self._lasted[kind] == self._needed(kind):
                self._speak_up(kind, record, *seen)

    def _needed(self, kind):
        may_skip = hasattr(self.model.optimizer, "inner_optimizer")
        return 1 if kind == "nonfinite" and not may_skip else self._thresholds.patience

    def on_epoch_end(self, epoch, logs=None):
        self._logger.read()
        # A logger that is not in this fit, but was in an earlier one of the same model, has nothing new to say.
        self._check(self._newest is not None or self._logger.every > 1)
        if self._newest is None or self._thresholds.dead is None or "dead_units" not in self._newest.quantities:
            return
        for layer, share in zip(self._newest.names("dead_units"), self._newest["dead_units"][0], strict=True):
            if share > self._thresholds.dead and layer not in self._already_dead:
                self._speak_up(
                    "dead",
                    self._newest,
                    layer,
                    share,
                    f"{share:.0%} of the units of {layer} were 0 all through the epoch",
                )
            (self._already_dead.add if share > self._thresholds.dead else self._already_dead.discard)(layer)

    def _speak_up(self, kind, record, layer, value, what):
        step, epoch = int(record.steps[0]), int(record.epochs[0])
        alert = Alert(kind, step, epoch, layer, float(value), f"{_TITLES[kind]} {what} (step {step}, epoch {epoch}).")
        self.alerts.append(alert)
        if callable(self._action):
            return self._action(alert)
        warnings.warn(alert.message, stacklevel=3)
        if self._action == "stop":
            self.model.stop_training = True


@dataclasses.dataclass(frozen=True)
class _Thresholds:
    vanishing: float | None
    exploding: float | None
    dead: float | None
    patience: int


def _vanishing(record, thresholds):
    """The layer, the number and the words of the alert, or None, as the other conditions."""
    names, (first, last) = record.layer_names, record.norms[0, [0, -1]]
    if thresholds.vanishing is None or not np.isfinite([first, last]).all() or first >= thresholds.vanishing * last:
        return None
    what = (
        f"the gradient norm of the first layer, {names[0]}, is {first / last:.2g} times that of the last, {names[-1]}, "
        f"and has been below {thresholds.vanishing:g} times it for {thresholds.patience} recorded steps"
    )
    return names[0], first / last, what


def _exploding(record, thresholds):
    total = record.global_norms[0]
    if thresholds.exploding is None or not np.isfinite(total) or total <= thresholds.exploding:
        return None
    largest = record.layer_names[int(np.argmax(record.norms[0]))]
    what = (
        f"the gradient norm is {total:.2g}, most of it in {largest}, and has been above {thresholds.exploding:g} "
        f"for {thresholds.patience} recorded steps"
    )
    return largest, total, what


def _nonfinite(record, thresholds):
    layers = list(record.nonfinite.values())
    if not layers:
        return None
    norm = record["gradient_norm"][0, record.layer_names.index(layers[0])]
    return layers[0], norm, f"first, in the backward pass, that of {layers[0]}"


_CONDITIONS = {"vanishing": _vanishing, "exploding": _exploding, "nonfinite": _nonfinite}
_TITLES = {
    "vanishing": "Gradients vanish:",
    "exploding": "Gradients explode:",
    "nonfinite": "The gradient is not finite:",
    "dead": "Units are dead:",
}


def _positive(name, number):
    return _number(name, number, "positive", lambda number: number > 0)


def _share(name, number):
    return _number(name, number, "above 0 and at most 1", lambda number: 0 < number <= 1)


def _number(name, number, meaning, accepts):
    return None if number is None else real_number(number, "GradientAlerts", name, meaning, accepts)
