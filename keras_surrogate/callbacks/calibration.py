"""`Calibration`: slopes whose scales follow the gradient during training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from keras_surrogate.callbacks.base import Callback
from keras_surrogate.checks import integer
from keras_surrogate.recording.optimizers import updates_made

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.calibration import Calibrated


class Calibration(Callback):
    """Scales the slopes of all surrogates such that the gradient keeps its size during training.

        model.fit(x, y, callbacks=[Calibration(x[:256], y[:256], every=100)])

    It does what `diagnosis.calibrate` does, to the model itself, before the first step and then
    every `every` steps. The train function is compiled once: the scales are variables in it. A file
    that is saved in between, and the model after `fit`, have the present scales. Where the gradient
    becomes 0 or NaN, as after a divergence, the scales stay, with a warning.

    Each calibration costs an eager forward and backward pass on the batch to measure, and one or
    more to set the scales.

    Args:
        x, y: one batch, as in `diagnosis.calibrate`.
        every: steps of the optimizer between two calibrations, an integer of at least 1, default
            100.
        layers, tolerance, limit: as in `diagnosis.calibrate`.
        iterations: as in `diagnosis.calibrate`, default 3.

    Attributes:
        reports: a pair of the optimizer's step and the `diagnosis.Calibrated` for each calibration
            of this `fit`.

    Raises:
        ValueError: an argument out of range; when `fit` begins: no surrogates, x or y does not fit,
            several replicas.
    """

    reports: list[tuple[int, Calibrated]]

    _of_the_fit: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"_balance": None, "_batch": None}
    )

    def __init__(
        self,
        x: Any,
        y: Any = None,
        every: int = 100,
        layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None = None,
        tolerance: float = 1.1,
        iterations: int = 3,
        limit: float = 1e4,
    ) -> None:
        # Here, because that room is below: importing it takes time.
        from keras_surrogate.diagnosis.calibration import checked_settings

        super().__init__()
        self._x = x
        self._y = y
        self.every = integer(every, "Calibration: every")
        self._layers = layers
        self._settings = checked_settings("Calibration", tolerance, iterations, limit)
        self.reports = []
        vars(self).update(self._of_the_fit)

    def set_model(self, model: keras.Model) -> None:
        from keras_surrogate.diagnosis.balancing import Balance
        from keras_surrogate.diagnosis.calibration import found_sites

        super().set_model(model)
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "Calibration: it runs its pass on one replica, but the model has several. Use "
                "diagnosis.calibrate before the training."
            )
        found = found_sites("Calibration", model, self._layers)
        self._balance = Balance(model, found, self._settings.limit)
        # The step is traced again, with the variables that now hold the scales.
        model.train_function = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.reports = []
        self._batch = None
        self._next: int | None = None

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # The optimizer's number is known now, also after BackupAndRestore.
        step = updates_made(self.model)
        if self._next is None or step >= self._next:
            self._calibrate_or_warn()
            self._next = (step // self.every + 1) * self.every

    def _calibrate_or_warn(self) -> None:
        """Calibrate. After the first time, a gradient of 0 leaves the scales, with a warning."""
        from keras_surrogate.diagnosis.balancing import NoGradientError

        try:
            self.calibrate()
        except NoGradientError as error:
            if not self.reports:
                raise
            warnings.warn(f"{error} The scales stay for now.", stacklevel=2)

    def calibrate(self) -> None:
        """Measure, and set the scales. It is called by `fit`.

        Raises:
            ValueError: no `fit` has begun.
        """
        from keras_surrogate.diagnosis import preparing
        from keras_surrogate.diagnosis.calibration import Calibrated, measured, named

        if self._balance is None:
            raise ValueError("Calibration: call it within fit: callbacks=[Calibration(x, y)].")
        with named("Calibration"):
            if self._batch is None:
                x, y = preparing.batch(self.model, self._x, self._y)
                objective = preparing.objective(self.model, x, y, seed=0)
                self._batch = (x, y, objective)
            x, _, objective = self._batch
            outcomes = measured(self._balance, self.model, x, objective, self._settings)
        self.reports.append((updates_made(self.model), Calibrated(outcomes)))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._balance.release()
        self._balance = None
        # The next training has the scales as constants.
        self.model.train_function = None
