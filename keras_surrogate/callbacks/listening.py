"""What a callback does that watches a `GradientNormLogger`."""

from keras_surrogate.callbacks.base import Callback
from keras_surrogate.callbacks.logger import GradientNormLogger


class Listener(Callback):
    """A callback that is given what a logger in the same `fit` reads. A subclass defines `write` and `_reset`.

    Args:
        logger: the `GradientNormLogger`.

    Raises:
        TypeError: `logger` is something else.
        ValueError: when `fit` begins: the logger is not in the callbacks of the same fit.
    """

    def __init__(self, logger):
        super().__init__()
        if not isinstance(logger, GradientNormLogger):
            name = type(self).__name__
            raise TypeError(
                f"{name} watches a GradientNormLogger, but got {_shortly(logger)}. Write logger = "
                f"GradientNormLogger(), then callbacks=[logger, {name}(logger)]."
            )
        self._logger = logger

    def on_train_begin(self, logs=None):
        self._reset()
        self._logger.listen(self)

    def on_train_batch_begin(self, batch, logs=None):
        if not self._logger.is_in_fit_of(self.model):
            raise ValueError(
                f"{type(self).__name__}: put its GradientNormLogger into the callbacks of the same fit."
            )


def _shortly(value):
    """A few words about anything: whole models print as tables."""
    text = repr(value)
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"
