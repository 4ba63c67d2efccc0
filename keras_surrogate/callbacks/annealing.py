"""The transition from the surrogate to the true derivative during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, SupportsFloat

import keras

from keras_surrogate.callbacks.base import Callback
from keras_surrogate.layers import SurrogateActivation
from keras_surrogate.layers.blend import checked_blend
from keras_surrogate.recording.names import everything_within
from keras_surrogate.recording.optimizers import updates_made


class SurrogateAnnealing(Callback):
    """Changes the share of the surrogate in the slope of every `SurrogateActivation` of a model.

        slope = blend * surrogate slope + (1 - blend) * true slope,        blend = schedule(step)

    The share changes at each step, so training can begin with a surrogate and end with the true
    derivative. The train function is compiled once, at the start. The share is saved with the
    model, in the configuration of each layer.

    Args:
        schedule: a callable from the number of steps that the optimizer has made to a share from 0
            to 1. A `keras.optimizers.schedules.LearningRateSchedule` is valid, such as
            `PolynomialDecay(1.0, 1000, 0.0)`.

    Attributes:
        schedule: the argument.
        blend: the share in the last step, a float; None before the first step.

    Raises:
        ValueError: the schedule is not callable, or returns something other than a number from 0
            to 1; the model has no `SurrogateActivation` (a bare `Surrogate` as `activation=` has a
            fixed slope).
    """

    schedule: Callable[[int], SupportsFloat] | keras.optimizers.schedules.LearningRateSchedule
    blend: float | None

    _of_the_fit: ClassVar[Mapping[str, object]] = MappingProxyType({"_blends": ()})

    def __init__(
        self,
        schedule: Callable[[int], SupportsFloat] | keras.optimizers.schedules.LearningRateSchedule,
    ) -> None:
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                f"SurrogateAnnealing: schedule must be a callable of the step, but is {schedule!r}."
            )
        self.schedule = schedule
        self.blend = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        layers = [
            layer for layer in everything_within(model) if isinstance(layer, SurrogateActivation)
        ]
        if not layers:
            raise ValueError(
                "SurrogateAnnealing found no SurrogateActivation in the model. Replace each "
                "Surrogate, whose slope is fixed, with this layer or with "
                "activation=SurrogateActivation(...)."
            )
        self._blends = [layer.hold_blend() for layer in layers]
        # The step is traced again, with the variables that now hold the shares.
        model.train_function = None

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Not counted here: a backup may be restored after this callback's start, an update may take
        # several batches, and the last execution of an epoch may have fewer steps.
        step = updates_made(self.model)
        self.blend = checked_blend(float(self.schedule(step)))
        for variable in self._blends:
            variable.assign(self.blend)
