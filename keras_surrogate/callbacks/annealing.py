"""From the surrogate to the true derivative in the course of training."""

from types import MappingProxyType

from keras_surrogate.callbacks.base import Callback
from keras_surrogate.layers import SurrogateActivation, checked_blend
from keras_surrogate.recording.names import everything_within
from keras_surrogate.recording.optimizers import iterations


class SurrogateAnnealing(Callback):
    """Changes, step by step, the share of the surrogate in the slope of every `SurrogateActivation` of the model.

        slope = blend * surrogate slope + (1 - blend) * true slope,        blend = schedule(step)

    so that training may begin with a surrogate and end with the true derivative. The train function
    is compiled once, at the start. The share is saved with the model, in each layer's
    configuration.

    Args:
        schedule: from the number of steps the optimizer has made to a share from 0 to 1: any
            callable, or a `keras.optimizers.schedules.LearningRateSchedule`, such as
            `PolynomialDecay(1.0, 1000, 0.0)`.

    Attributes:
        blend: the share in the last step, a float; None before the first.

    Raises:
        ValueError: the schedule is not callable, or gives something else than a number from 0 to 1;
            the model has no `SurrogateActivation` (a bare `Surrogate` as `activation=` has a fixed
            slope).
    """

    _of_the_fit = MappingProxyType({"_blends": ()})

    def __init__(self, schedule):
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                f"SurrogateAnnealing: schedule must be a callable of the step, but is {schedule!r}."
            )
        self.schedule = schedule
        self.blend = None

    def set_model(self, model):
        super().set_model(model)
        layers = [
            layer for layer in everything_within(model) if isinstance(layer, SurrogateActivation)
        ]
        if not layers:
            raise ValueError(
                "SurrogateAnnealing found no SurrogateActivation in the model. Use that layer, or "
                "activation=SurrogateActivation(...), in place of a Surrogate, whose slope is fixed."
            )
        self._blends = [layer.hold_blend() for layer in layers]
        model.train_function = None

    def on_train_begin(self, logs=None):
        self._step = iterations(self.model.optimizer)

    def on_train_batch_begin(self, batch, logs=None):
        self.blend = checked_blend(float(self.schedule(self._step)))
        for variable in self._blends:
            variable.assign(self.blend)

    def on_train_batch_end(self, batch, logs=None):
        self._step += self.model.steps_per_execution
