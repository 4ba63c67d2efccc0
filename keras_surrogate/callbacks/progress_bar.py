"""Numbers that all loggers receive, and that Keras's progress bar does not print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import keras

from keras_surrogate import methods

_Event: TypeAlias = Literal["on_epoch_end", "on_train_batch_end"]


class ShortBar:
    """Keeps numbers out of the progress bar that Keras puts after all other callbacks.

    Keras passes one dictionary of logs to all callbacks in turn: to the user's callbacks, then to
    its own History, and last to its progress bar. So the numbers are removed from the dictionary
    after History has received them. A `ProgbarLogger` in the user's own list prints the numbers of
    the callbacks before it.

    Args:
        history: the fit's `History`, `model.history`; None if there is none.
    """

    def __init__(self, history: keras.callbacks.History | None) -> None:
        self._history = history
        self._restore: dict[_Event, Callable[[], None]] = {}

    def hide(self, event: _Event, names: Sequence[str]) -> None:
        """Keep numbers out of the bar once.

        Args:
            event: the method that Keras is calling, "on_epoch_end" or "on_train_batch_end".
            names: the names of the numbers in the logs.
        """
        if self._history is None:
            return

        def hiding(history: keras.callbacks.History, receive: Callable[..., None]):
            def receive_and_hide(number: int, logs: dict[str, Any] | None = None) -> None:
                self.restore(event)
                receive(number, logs)
                for name in names:
                    (logs or {}).pop(name, None)

            return receive_and_hide

        self.restore(event)
        self._restore[event] = methods.replace(self._history, event, hiding)

    def restore(self, *events: _Event) -> None:
        """Restore History's own methods."""
        for event in events:
            restore = self._restore.pop(event, None)
            if restore is not None:
                restore()
