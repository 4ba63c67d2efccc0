"""Base class of callbacks that receive the rows of a `GradientNormLogger`."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_surrogate.callbacks.base import Callback
from keras_surrogate.callbacks.logger import GradientNormLogger


class Listener(Callback, abc.ABC):
    """A callback that receives each row which a logger in the same `fit` reads.

    A subclass defines `write` and `_reset`.

    Args:
        logger: the `GradientNormLogger`.

    Raises:
        TypeError: `logger` is not a `GradientNormLogger`.
        ValueError: the logger is not in the callbacks of the same `fit`. It is raised when training
            begins.
    """

    def __init__(self, logger: GradientNormLogger) -> None:
        super().__init__()
        if not isinstance(logger, GradientNormLogger):
            name = type(self).__name__
            raise TypeError(
                f"{name} needs a GradientNormLogger, but got {_shortly(logger)}. Write logger = "
                f"GradientNormLogger(), then callbacks=[logger, {name}(logger)]."
            )
        self._logger = logger

    @abc.abstractmethod
    def write(
        self, columns: Sequence[str], steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
    ) -> None:
        """Receive the rows of some recorded steps, in order."""

    @abc.abstractmethod
    def _reset(self) -> None:
        """Forget the last `fit`."""

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._reset()
        self._logger.listen(self)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._logger.is_in_fit_of(self.model):
            raise ValueError(
                f"{type(self).__name__}: put its GradientNormLogger into the callbacks of the same "
                "fit."
            )


def _shortly(value: object) -> str:
    """A short text about any object; the repr of a whole model would be a long table."""
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"
