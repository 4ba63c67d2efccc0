"""The share of the surrogate in the slope of a layer, which annealing changes during training."""

from __future__ import annotations

import keras

from keras_surrogate import functions


def checked_blend(share: float) -> float:
    """The share as a float; a ValueError if it is not from 0 to 1."""
    return functions.real_number(
        share, "SurrogateActivation", "blend", "from 0 to 1", lambda share: 0 <= share <= 1
    )


class Blend:
    """A share from 0 to 1; it is stored in a variable as soon as it differs from 1."""

    def __init__(self, share: float) -> None:
        self.variable: keras.Variable | None = None
        if checked_blend(share) != 1:
            self.set(share)

    def get(self) -> float:
        return 1.0 if self.variable is None else float(self.variable.numpy())

    def set(self, share: float) -> None:
        self.hold().assign(checked_blend(share))

    def hold(self) -> keras.Variable:
        if self.variable is None:
            self.variable = keras.Variable(1.0, trainable=False, name="blend")
        return self.variable
