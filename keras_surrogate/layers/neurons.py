"""Neurons: the equations of one time step.

Neuron           the base: parameters, states, `step(state, current)`
SpikingNeuron    the base of those with a threshold and a reset
IFNeuron, LIFNeuron, SynapticLIFNeuron, ALIFNeuron    neurons that fire
LINeuron         a leaky integrator without spikes, to read a network out

A neuron holds numbers, no variables and no state. `layers.Spiking` runs it over the time axis, and
`layers.SpikingCell` makes it the cell of a recurrent layer.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.checks import one_of
from keras_surrogate.custom_gradient import Use, applied, constant, with_slope
from keras_surrogate.functions import Atan, Step, real_number
from keras_surrogate.layers.ranges import FRACTION, POSITIVE, Range
from keras_surrogate.surrogate import Surrogate

if TYPE_CHECKING:
    # Part of every type checker; Python 3.10 lacks the one in `typing`.
    from typing_extensions import dataclass_transform

    from keras_surrogate._types import SurrogateLike
else:

    def dataclass_transform(**_):
        return lambda cls: cls


RESETS = ("subtract", "zero", "none")

# Of eight wide and narrow slopes one of the best at every depth: see SpikingNeuron.
DEFAULT_SURROGATE = Surrogate("step", Atan(2.0))


# Type checkers see the default of a parameter only when it is passed by keyword.


def fraction(default: float) -> Any:
    """A parameter in [0, 1]; a learned one is the sigmoid of its weight."""
    return dataclasses.field(default=default, metadata={"range": FRACTION})


def positive(default: float) -> Any:
    """A parameter in (0, inf); a learned one is the softplus of its weight."""
    return dataclasses.field(default=default, metadata={"range": POSITIVE})


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(fraction, positive)
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Neuron:
    """The equations of one time step of a neuron.

    A subclass defines `step`, and becomes a frozen dataclass that Keras can save. Its parameters
    are fields, declared by `fraction` or `positive`, which also lets a layer learn them:

        class Quadratic(Neuron):
            leak: float = fraction(default=0.9)

            def step(self, state, current):
                (potential,) = state
                potential = self.leak * potential + current
                return (potential,), potential**2

        layers.Spiking(Quadratic(leak=0.8), learn={"leak": "channel"})

    Parameters are passed by keyword.

    Attributes:
        states: the names of the state's tensors, default ("potential",). The one called "potential"
            is what `return_potential=True` returns.
    """

    states: ClassVar[tuple[str, ...]] = ("potential",)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        # A user's class has Keras's own package, which does not depend on the module: a class of a
        # script is imported under another name by the next one.
        is_ours = cls.__module__.partition(".")[0] == "keras_surrogate"
        package = "keras_surrogate" if is_ours else "Custom"
        keras.saving.register_keras_serializable(package=package)(cls)

    def __post_init__(self) -> None:
        for name, valid in self.ranges().items():
            value = getattr(self, name)
            # A layer puts tensors in the place of the numbers that it learns.
            if not tf.is_tensor(value):
                value = real_number(value, self.title(), name, valid.meaning, valid.accepts)
                object.__setattr__(self, name, value)

    @classmethod
    def title(cls) -> str:
        """The name in messages."""
        return cls.__name__.removesuffix("Neuron")

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        """The range of each parameter that can be learned, by name."""
        fields = dataclasses.fields(cls)
        return {
            field.name: field.metadata["range"] for field in fields if "range" in field.metadata
        }

    def initial_state(self, zeros: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The state before the first step: zeros.

        Args:
            zeros: a tensor of zeros with the shape of the current in one step.
        """
        return (zeros,) * len(self.states)

    def step(
        self, state: tuple[tf.Tensor, ...], current: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """One time step.

        Args:
            state: the state before the step, one tensor for each name in `states`.
            current: the input of the step, shape (batch, ...).

        Returns:
            The state after the step, and the output, shape (batch, ...).
        """
        raise TypeError(f"{type(self).__name__} does not define step(state, current).")

    def get_config(self) -> dict[str, Any]:
        """A dictionary of plain values that `from_config` turns into an equal neuron."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.get_config() if isinstance(value, Surrogate) else value
            for name, value in config.items()
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Neuron:
        """The neuron of a configuration made by `get_config`."""
        return cls(**config)


class SpikingNeuron(Neuron):
    """The base of neurons that fire a spike of 1 where the potential reaches the threshold.

        spikes = surrogate(potential - threshold)

    Args:
        threshold: in (0, inf), default 1.
        reset: "subtract" lowers the potential by the threshold after a spike, "zero" sets it to 0,
            "none" leaves it. Default "subtract".
        reset_delay: False resets in the step of the spike, as spikingjelly, norse and NIR do; True
            in the next step, as snnTorch does. Default False.
        detach_reset: True hides the reset from the gradient; default True.
        surrogate: anything that `keras_surrogate.get` takes, with different forward and backward.
            Default: "atan_spike", with slope 1 / (1 + (pi * x)**2). It is wide, because a narrow
            slope loses the gradient's direction with depth. On Fashion-MNIST, with 2, 4 and 8
            layers, each slope with its own learning rate and five starts, it reaches 83.0, 82.2 and
            80.3 %; triangle, box, sigmoid and FastSigmoid(1) are within a point of it, and
            FastSigmoid(25) reaches 81.3, 76.0 and 57.7 % (`examples/evidence/spiking.py`; likewise
            on digits and MNIST, `spiking_digits.py`).
    """

    threshold: float = positive(default=1.0)
    reset: Literal["subtract", "zero", "none"] = "subtract"
    reset_delay: bool = False
    detach_reset: bool = True
    surrogate: SurrogateLike = DEFAULT_SURROGATE

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.reset, f"{self.title()}: reset", RESETS)
        for name in ("reset_delay", "detach_reset"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{self.title()}: {name} must be True or False, but is {value!r}.")
        object.__setattr__(self, "surrogate", self._pair(self.surrogate))

    def _pair(self, surrogate: SurrogateLike) -> Surrogate:
        pair = presets.get(surrogate)
        if pair.forward == pair.backward and not isinstance(pair.forward, Step):
            raise ValueError(
                f"{self.title()}: {surrogate!r} has the slope of its own forward. Pass a pair of "
                'two functions, as in Surrogate("step", "atan").'
            )
        return pair

    @property
    def states(self) -> tuple[str, ...]:
        # The spikes are kept only for a reset in the next step.
        return ("potential", "spikes") if self.reset_delay else ("potential",)

    def fired(self, excess: tf.Tensor) -> tf.Tensor:
        """The spikes for `excess`, the potential less the threshold."""
        pair = self.surrogate

        def slope(x):
            slope = pair.backward.slope(x)
            return slope if pair.scale == 1 else pair.scale * slope

        def usual(x):
            return with_slope(x, pair.forward.value, slope)

        def smooth(x):
            return with_slope(x, pair.smooth_value, pair.smooth_slope)

        return applied(Use(excess, usual, smooth, pair))

    def after_reset(
        self, potential: tf.Tensor, spikes: tf.Tensor, threshold: tf.Tensor | float
    ) -> tf.Tensor:
        """The potential after the reset that `spikes` cause."""
        if self.detach_reset:
            spikes = constant(spikes)
        if self.reset == "subtract":
            return potential - threshold * spikes
        if self.reset == "zero":
            return potential * (1 - spikes)
        return potential

    def integrated(
        self,
        state: tuple[tf.Tensor, ...],
        current: tf.Tensor,
        leak: tf.Tensor | float,
        threshold: tf.Tensor | float,
    ) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        """The step of the potential.

        Args:
            state: the potential, and the spikes of the step before if `reset_delay`.
            current: what is added to the potential.
            leak: the factor of the potential.
            threshold: the threshold in this step.

        Returns:
            The potential, with the spikes if `reset_delay`; and the spikes.
        """
        if not self.reset_delay:
            # v = leak * u[t-1] + I[t]; s[t] = H(v - threshold); u[t] = reset of v by s[t]
            (potential,) = state
            potential = leak * potential + current
            spikes = self.fired(potential - threshold)
            return (self.after_reset(potential, spikes, threshold),), spikes
        potential, last_spikes = state
        if self.reset == "zero":
            # u[t] = leak * (1 - s[t-1]) * u[t-1] + I[t]
            potential = leak * self.after_reset(potential, last_spikes, threshold) + current
        else:
            # u[t] = leak * u[t-1] + I[t] - threshold * s[t-1]
            potential = self.after_reset(leak * potential + current, last_spikes, threshold)
        spikes = self.fired(potential - threshold)
        return (potential, spikes), spikes


class IFNeuron(SpikingNeuron):
    """The integrate-and-fire neuron, which forgets nothing: a `LIFNeuron` with leak 1.

    Source: Lapicque 1907, in discrete time.
    """

    def step(self, state, current):
        return self.integrated(state, current, 1.0, self.threshold)


class LIFNeuron(SpikingNeuron):
    """The leaky integrate-and-fire neuron.

        v = leak * u[t-1] + I[t]        s[t] = surrogate(v - threshold)
        u[t] = v - threshold * s[t]  (subtract)     v * (1 - s[t])  (zero)     v  (none)

    With `reset_delay`:

        u[t] = leak * u[t-1] + I[t] - threshold * s[t-1]    (subtract)
        u[t] = leak * (1 - s[t-1]) * u[t-1] + I[t]          (zero)
        s[t] = surrogate(u[t] - threshold)

    Args:
        leak: the factor of the potential in each step, such as exp(-dt / tau); in [0, 1], default
            0.9.
        threshold, reset, reset_delay, detach_reset, surrogate: as in `SpikingNeuron`.

    Source: Gerstner and Kistler 2002, Spiking Neuron Models, in discrete time.
    """

    leak: float = fraction(default=0.9)

    def step(self, state, current):
        return self.integrated(state, current, self.leak, self.threshold)


class SynapticLIFNeuron(SpikingNeuron):
    """The leaky integrate-and-fire neuron behind a synapse that keeps a part of its current.

        i[t] = synaptic_leak * i[t-1] + I[t]

    and the equations of `LIFNeuron` with i[t] for I[t]. The reset leaves the synaptic current.
    (snnTorch's `Synaptic` with its zero reset also drops the i[t] of that step from the potential.)

    Args:
        synaptic_leak: the factor of the synaptic current in each step; in [0, 1], default 0.8.
        leak, threshold, reset, reset_delay, detach_reset, surrogate: as in `LIFNeuron`.

    Source: as `LIFNeuron`; NIR's CubaLIF, Pedersen et al. 2024, arXiv:2311.14641.
    """

    synaptic_leak: float = fraction(default=0.8)
    leak: float = fraction(default=0.9)

    @property
    def states(self) -> tuple[str, ...]:
        return (*super().states, "synaptic_current")

    def step(self, state, current):
        *membrane, synaptic_current = state
        synaptic_current = self.synaptic_leak * synaptic_current + current
        membrane, spikes = self.integrated(
            tuple(membrane), synaptic_current, self.leak, self.threshold
        )
        return (*membrane, synaptic_current), spikes


class ALIFNeuron(SpikingNeuron):
    """The leaky integrate-and-fire neuron with a threshold that rises with each spike.

        threshold[t] = threshold + adaptation * a[t]
        a[t+1] = adaptation_leak * a[t] + (1 - adaptation_leak) * s[t]

    and the equations of `LIFNeuron` with threshold[t]; a[0] = 0. A neuron that fires in a share r
    of the steps has a threshold of threshold + adaptation * r. The gradient passes through a.

    Args:
        adaptation: the rise for a neuron that fires in every step; in (0, inf), default 1.8.
        adaptation_leak: the factor of a in each step; in [0, 1], default 0.95.
        leak, threshold, reset, reset_delay, detach_reset, surrogate: as in `LIFNeuron`.

    Source: Bellec et al. 2018, arXiv:1803.09574, where beta is the adaptation and rho its leak.
    """

    leak: float = fraction(default=0.9)
    adaptation: float = positive(default=1.8)
    adaptation_leak: float = fraction(default=0.95)

    @property
    def states(self) -> tuple[str, ...]:
        return (*super().states, "adaptation")

    def step(self, state, current):
        *membrane, adaptation = state
        threshold = self.threshold + self.adaptation * adaptation
        membrane, spikes = self.integrated(tuple(membrane), current, self.leak, threshold)
        adaptation = self.adaptation_leak * adaptation + (1 - self.adaptation_leak) * spikes
        return (*membrane, adaptation), spikes


class LINeuron(Neuron):
    """The leaky integrator, which has no spikes: its output is its potential.

        u[t] = leak * u[t-1] + I[t]

    Args:
        leak: the factor of the potential in each step; in [0, 1], default 0.9.

    Source: the usual readout of spiking networks, as in Bellec et al. 2018, arXiv:1803.09574.
    """

    leak: float = fraction(default=0.9)

    def step(self, state, current):
        (potential,) = state
        potential = self.leak * potential + current
        return (potential,), potential
