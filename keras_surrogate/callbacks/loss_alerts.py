"""Faults of the training loss over epochs, from Keras's logs."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from keras_surrogate import thresholds

LossKind: TypeAlias = Literal["loss_stuck", "loss_oscillates"]


class LossFault(NamedTuple):
    """A fault of the loss: its kind, the number and a sentence."""

    kind: LossKind
    value: float
    what: str


class LossFaults:
    """The faults of the loss in one `fit`, each reported once.

    Args:
        is_new: True if the optimizer has made no step before this `fit`. Only then is anything
            found: the loss of a trained model need not fall, and the first one is no measure.
    """

    def __init__(self, is_new: bool = True) -> None:
        self._is_new = is_new
        self._losses: list[float] = []
        self._told: set[LossKind] = set()

    def found(self, loss: float | None) -> list[LossFault]:
        """The faults that are new after an epoch with this mean loss; None where there is none."""
        if not self._is_new or loss is None or not math.isfinite(loss):
            return []
        self._losses.append(float(loss))
        faults = [fault for fault in (self._stuck(), self._oscillates()) if fault is not None]
        new = [fault for fault in faults if fault.kind not in self._told]
        self._told.update(fault.kind for fault in new)
        return new

    def _stuck(self) -> LossFault | None:
        epochs = len(self._losses)
        if epochs != thresholds.LOSS_EPOCHS:
            return None
        first = self._losses[0]
        fall = first - min(self._losses)
        if fall >= thresholds.LOSS_FALL * abs(first):
            return None
        share = fall / abs(first) if first else 0.0
        what = f"in {epochs} epochs it has fallen by {share:.2%} of the {first:.3g} of the first"
        return LossFault("loss_stuck", share, what)

    def _oscillates(self) -> LossFault | None:
        if len(self._losses) <= thresholds.LOSS_EPOCHS:
            return None
        rises = np.diff(self._losses[-thresholds.LOSS_EPOCHS - 1 :])
        # A loss near 0 may double from noise alone, so that the first loss is the measure.
        bound = thresholds.LOSS_RISE * abs(self._losses[0])
        count = int(np.sum(rises > bound))
        if count < thresholds.LOSS_RISES:
            return None
        what = (
            f"it has risen by more than {thresholds.LOSS_RISE:.0%} of the loss of the first epoch "
            f"in {count} of the last {thresholds.LOSS_EPOCHS} epochs, once by {rises.max():.3g}"
        )
        return LossFault("loss_oscillates", float(rises.max()), what)
