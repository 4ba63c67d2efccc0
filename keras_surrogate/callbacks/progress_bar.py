"""Numbers that all loggers see, and Keras's progress bar does not."""


class ShortBar:
    """Keeps numbers out of the progress bar that Keras puts after all other callbacks.

    Keras hands one dictionary of logs to all callbacks in turn: to the user's, then to its own
    History, last to its progress bar. So the numbers are taken out of it as soon as History has
    seen them. A `ProgbarLogger` that the user puts into the list himself prints what the callbacks
    before it have logged.

    Args:
        history: the fit's `History`, as `model.history`; None where there is none.
    """

    def __init__(self, history):
        self._history = history

    def hide(self, event, names):
        """Keeps numbers out of the bar this time.

        Args:
            event: the method that Keras is calling, "on_epoch_end" or "on_train_batch_end".
            names: the numbers' names in the logs.
        """
        if self._history is None:
            return

        def see_and_hide(number, logs=None):
            self.restore(event)
            getattr(self._history, event)(number, logs)
            for name in names:
                (logs or {}).pop(name, None)

        vars(self._history)[event] = see_and_hide

    def restore(self, *events):
        """Gives History its own methods back."""
        for event in events:
            if self._history is not None:
                vars(self._history).pop(event, None)
