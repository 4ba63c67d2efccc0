"""Layers of spiking neurons over the time axis, with the parameters of the neuron as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras

from keras_surrogate.layers.neuron_layer import NeuronLayer
from keras_surrogate.layers.neurons import (
    DEFAULT_SURROGATE,
    ALIFNeuron,
    IFNeuron,
    LIFNeuron,
    LINeuron,
    Neuron,
    SynapticLIFNeuron,
)

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.layers.learned import Learn

# The start of the names of arguments that say how a parameter is learned.
_LEARN = "learn_"


class _NamedNeuronLayer(NeuronLayer):
    """The base of the layers of one class of neurons.

    The `__init__` of a subclass lists its arguments, for readers and for editors, and passes all of
    them at once as `locals()`. Each is a parameter of the neuron, the name of a parameter after
    `learn_`, or an argument of `NeuronLayer`.

    Args:
        given: the `locals()` of that `__init__`.
    """

    neuron_class: ClassVar[type[Neuron]]

    def __init__(self, given: Mapping[str, Any]) -> None:
        arguments = {**given, **given["kwargs"]}
        # `__class__` is there because `super()` needs it.
        for name in ("self", "__class__", "kwargs"):
            del arguments[name]
        parameters = {field.name for field in dataclasses.fields(self.neuron_class)}
        of_neuron = {}
        learn = {}
        others = {}
        for name, value in arguments.items():
            if name in parameters:
                of_neuron[name] = value
            elif name.startswith(_LEARN):
                learn[name.removeprefix(_LEARN)] = value
            else:
                others[name] = value
        super().__init__(self.neuron_class(**of_neuron), learn, **others)
        self._learnable = tuple(learn)

    def get_config(self) -> dict[str, Any]:
        learn = {_LEARN + name: self._learn.get(name, False) for name in self._learnable}
        return {**super().get_config(), **self.neuron.get_config(), **learn}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class IF(_NamedNeuronLayer):
    """Integrate-and-fire neurons, which forget nothing: `LIF` with leak 1.

    Args:
        threshold, reset, reset_delay, detach_reset, surrogate, learn_threshold, return_potential,
            stateful, go_backwards, unroll, kwargs: as in `LIF`.

    Input, output, errors: as in `LIF`.

    Source: Lapicque 1907, in discrete time.
    """

    neuron_class = IFNeuron

    def __init__(
        self,
        threshold: float = 1.0,
        reset: Literal["subtract", "zero", "none"] = "subtract",
        reset_delay: bool = False,
        detach_reset: bool = True,
        surrogate: SurrogateLike = DEFAULT_SURROGATE,
        learn_threshold: Learn = False,
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals())


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LIF(_NamedNeuronLayer):
    """Leaky integrate-and-fire neurons, from currents to spikes of 1.

        v = leak * u[t-1] + I[t]        s[t] = surrogate(v - threshold)
        u[t] = v - threshold * s[t]  (subtract)     v * (1 - s[t])  (zero)     v  (none)

    With `reset_delay=True` the reset follows in the next step:

        u[t] = leak * u[t-1] + I[t] - threshold * s[t-1]    (subtract)
        u[t] = leak * (1 - s[t-1]) * u[t-1] + I[t]          (zero)
        s[t] = surrogate(u[t] - threshold)

    Args:
        leak: the factor of the potential in each step, such as exp(-dt / tau); in [0, 1], default
            0.9.
        threshold: the potential from which on the neuron fires; in (0, inf), default 1.
        reset: "subtract" lowers the potential by the threshold after a spike, "zero" sets it to 0,
            "none" leaves it. Default "subtract".
        reset_delay: False resets at once, as spikingjelly, norse and NIR do; True in the next step,
            as snnTorch does. Default False.
        detach_reset: True hides the reset from the gradient; default True.
        surrogate: anything that `keras_surrogate.get` takes, with different forward and backward.
            Default: "atan_spike". It is wide, so that the gradient keeps its direction through
            many layers (see `neurons.SpikingNeuron` for the measurement).
        learn_leak, learn_threshold: False, the default; "layer" (or True), one learned number for
            the layer; "channel", one for each entry of the last axis; "unit", one for each unit.
            The leak is the sigmoid of its weight, the threshold the softplus.
        return_potential, stateful, go_backwards, unroll, kwargs: as in `Spiking`.

    Input: currents of shape (batch, time, ...); time may be unknown. Output: spikes of that shape,
    or a tuple of spikes and potentials.

    A masked step leaves the state, and its output is 0. State and parameters are float32 under
    mixed precision. A second derivative takes the slope of the spikes for a constant. Under XLA
    on a CPU (`jit_compile=True`) unrolled steps are somewhat faster, but take long to compile, and
    a loop, over an unknown number of steps or more than 32, can be slower. Keras's "auto" does not
    use XLA there.

    Raises:
        ValueError: a leak outside [0, 1], a threshold not above 0, an unknown reset or surrogate,
            an input without time or without any time step, a learned leak that starts at 0 or 1,
            `stateful` with an unknown batch size.

    Source: Gerstner and Kistler 2002, Spiking Neuron Models, in discrete time; Zenke and Ganguli
    2018, arXiv:1705.11146, for the slope.
    """

    neuron_class = LIFNeuron

    def __init__(
        self,
        leak: float = 0.9,
        threshold: float = 1.0,
        reset: Literal["subtract", "zero", "none"] = "subtract",
        reset_delay: bool = False,
        detach_reset: bool = True,
        surrogate: SurrogateLike = DEFAULT_SURROGATE,
        learn_leak: Learn = False,
        learn_threshold: Learn = False,
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals())


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SynapticLIF(_NamedNeuronLayer):
    """Leaky integrate-and-fire neurons behind synapses that keep a part of their current.

        i[t] = synaptic_leak * i[t-1] + I[t]

    and the equations of `LIF` with i[t] for I[t]. The reset leaves the synaptic current. (In
    snnTorch's `Synaptic` the zero reset also drops the i[t] of that step from the potential.)

    Args:
        synaptic_leak: the factor of the synaptic current in each step; in [0, 1], default 0.8.
        leak, threshold, reset, reset_delay, detach_reset, surrogate, return_potential, stateful,
            go_backwards, unroll, kwargs: as in `LIF`.
        learn_synaptic_leak, learn_leak, learn_threshold: as in `LIF`.

    Input, output, errors: as in `LIF`.

    Source: as `LIF`; NIR's CubaLIF, Pedersen et al. 2024, arXiv:2311.14641.
    """

    neuron_class = SynapticLIFNeuron

    def __init__(
        self,
        synaptic_leak: float = 0.8,
        leak: float = 0.9,
        threshold: float = 1.0,
        reset: Literal["subtract", "zero", "none"] = "subtract",
        reset_delay: bool = False,
        detach_reset: bool = True,
        surrogate: SurrogateLike = DEFAULT_SURROGATE,
        learn_synaptic_leak: Learn = False,
        learn_leak: Learn = False,
        learn_threshold: Learn = False,
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals())


@keras.saving.register_keras_serializable(package="keras_surrogate")
class ALIF(_NamedNeuronLayer):
    """Leaky integrate-and-fire neurons with a threshold that rises with each spike.

        threshold[t] = threshold + adaptation * a[t]
        a[t+1] = adaptation_leak * a[t] + (1 - adaptation_leak) * s[t]

    and the equations of `LIF` with threshold[t]; a[0] = 0. A neuron that fires in a share r of the
    steps has a threshold of threshold + adaptation * r. The gradient passes through a.

    Args:
        leak, threshold, reset, reset_delay, detach_reset, surrogate, learn_leak, learn_threshold,
            return_potential, stateful, go_backwards, unroll, kwargs: as in `LIF`.
        adaptation: the rise for a neuron that fires in every step; in (0, inf), default 1.8.
        adaptation_leak: the factor of a in each step; in [0, 1], default 0.95.

    Input, output, errors: as in `LIF`.

    Source: Bellec et al. 2018, arXiv:1803.09574, where beta is the adaptation and rho its leak.
    """

    neuron_class = ALIFNeuron

    def __init__(
        self,
        leak: float = 0.9,
        threshold: float = 1.0,
        adaptation: float = 1.8,
        adaptation_leak: float = 0.95,
        reset: Literal["subtract", "zero", "none"] = "subtract",
        reset_delay: bool = False,
        detach_reset: bool = True,
        surrogate: SurrogateLike = DEFAULT_SURROGATE,
        learn_leak: Learn = False,
        learn_threshold: Learn = False,
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals())


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LI(_NamedNeuronLayer):
    """Leaky integrators without spikes, to read out a spiking network: the output is the potential.

        u[t] = leak * u[t-1] + I[t]

    Args:
        leak, learn_leak, stateful, go_backwards, unroll, kwargs: as in `LIF`.

    Input: currents of shape (batch, time, ...). Output: potentials of that shape, 0 in masked
    steps. `LastPotential` and `MaxPotential` make one prediction of them.

    Raises:
        ValueError: as in `LIF`; `return_potential`, because the output is the potential.

    Source: the usual readout of spiking networks, as in Bellec et al. 2018, arXiv:1803.09574.
    """

    neuron_class = LINeuron

    def __init__(
        self,
        leak: float = 0.9,
        learn_leak: Learn = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if "return_potential" in kwargs:
            raise ValueError("LI has no return_potential: its output is the potential.")
        super().__init__(locals())

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        # The output is the potential, and there is no such argument.
        del config["return_potential"]
        return config
