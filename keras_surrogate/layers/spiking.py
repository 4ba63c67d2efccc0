"""Layers of spiking neurons over the time axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import keras
import tensorflow as tf

from keras_surrogate.layers import learned, time_loop
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


def state_dtype(layer: keras.layers.Layer) -> str:
    """The dtype of the state: float32 under mixed precision, which would lose small currents."""
    return "float64" if layer.variable_dtype == "float64" else "float32"


class NeuronLayer(keras.layers.Layer):
    """The base of the layers that run a neuron over the time axis."""

    def __init__(
        self,
        neuron: Neuron,
        learn: Mapping[str, Learn],
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.neuron = neuron
        self._learn = learned.check(neuron, learn)
        self.return_potential = return_potential
        self.stateful = stateful
        self.go_backwards = go_backwards
        self.unroll = unroll
        self.supports_masking = True
        self._weights_of_parameters = {}
        self._state = []

    def build(self, input_shape: Any) -> None:
        input_shape = tuple(input_shape)
        self._check_shape(input_shape)
        self._weights_of_parameters = learned.add_weights(
            self, self.neuron, self._learn, input_shape[2:]
        )
        if self.stateful:
            self._add_state(input_shape[:1] + input_shape[2:])

    def _check_shape(self, shape: tuple[int | None, ...]) -> None:
        name = type(self).__name__
        if len(shape) < 3:
            raise ValueError(
                f"{name} needs inputs of shape (batch, time, ...), such as (None, 25, 100), but "
                f"got {shape}. For an input without time put layers.ConstantCurrent(steps) before."
            )
        if shape[1] == 0:
            raise ValueError(
                f"{name} needs at least one time step, but got the shape {shape}, where time is "
                "axis 1."
            )

    def _add_state(self, shape: tuple[int | None, ...]) -> None:
        if None in shape:
            raise ValueError(
                f"{type(self).__name__}: stateful=True needs a fixed batch size and fixed units, "
                f"but the state has the shape {shape}. Use "
                "keras.Input(batch_shape=(32, None, 100)), for example."
            )
        zeros = tf.zeros(shape, state_dtype(self))
        for index, name in enumerate(self.neuron.states):

            def initializer(shape, dtype, index=index):
                return self.neuron.initial_state(tf.zeros(shape, dtype))[index]

            variable = self.add_weight(
                shape=zeros.shape,
                initializer=initializer,
                dtype=zeros.dtype.name,
                trainable=False,
                autocast=False,
                name=name,
            )
            self._state.append(variable)

    def reset_state(self) -> None:
        """Set the state of a stateful layer to that before the first step."""
        if not self.stateful:
            raise ValueError(
                f"{self.name} keeps no state between batches. Create it with stateful=True."
            )
        for index, variable in enumerate(self._state):
            zeros = tf.zeros(variable.shape, variable.dtype)
            variable.assign(self.neuron.initial_state(zeros)[index])

    def parameters(self) -> dict[str, Any]:
        """The parameters of the neuron as they are now, learned ones as NumPy arrays."""
        return learned.values(self.neuron, self._weights_of_parameters, state_dtype(self))

    def effective_neuron(self) -> Neuron:
        """The neuron with tensors for its learned parameters."""
        return learned.substituted(self.neuron, self._weights_of_parameters, state_dtype(self))

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> Any:
        inputs = tf.convert_to_tensor(inputs)
        self._check_shape(tuple(inputs.shape))
        neuron = self.effective_neuron()
        currents = tf.cast(inputs, state_dtype(self))
        if self.go_backwards:
            currents = tf.reverse(currents, [1])
            mask = None if mask is None else tf.reverse(mask, [1])
        state = self._initial_state(neuron, currents)

        results, state = time_loop.run(
            neuron, currents, state, mask, self.return_potential, self.unroll
        )

        for variable, tensor in zip(self._state, state if self.stateful else (), strict=True):
            variable.assign(tensor)
        results = tuple(tf.cast(result, self.compute_dtype) for result in results)
        return results if self.return_potential else results[0]

    def _initial_state(self, neuron: Neuron, currents: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if self.stateful:
            return tuple(tf.convert_to_tensor(variable) for variable in self._state)
        return neuron.initial_state(time_loop.zeros_of_a_step(currents))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if previous_mask is not None and self.go_backwards:
            # Keras's function, because the mask may be symbolic.
            previous_mask = keras.ops.flip(previous_mask, axis=1)
        if self.return_potential:
            return previous_mask, previous_mask
        return previous_mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.return_potential:
            return input_shape, input_shape
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {
            "return_potential": self.return_potential,
            "stateful": self.stateful,
            "go_backwards": self.go_backwards,
            "unroll": self.unroll,
        }
        return {**super().get_config(), **own}

    def _flat_config(self, *learnable: str) -> dict[str, Any]:
        """The parameters of the neuron, and a `learn_` argument for each that can be learned."""
        flags = {f"learn_{name}": self._learn.get(name, False) for name in learnable}
        return {**self.neuron.get_config(), **flags}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class Spiking(NeuronLayer):
    """Any neuron, run over the time axis: the layer for neurons of one's own.

    Args:
        neuron: a `layers.neurons.Neuron`.
        learn: a dictionary from the name of a parameter to how it is learned: "layer" (or True),
            one for the layer; "channel", one for each entry of the last axis; "unit", one for each
            unit. Default: nothing is learned.
        return_potential: True returns a tuple of the outputs and the potentials after each step,
            which are after the reset unless the neuron resets with delay. Default False.
        stateful: True goes on in the next batch with the state of this one, until `reset_state()`.
            The gradient ends at the start of the batch. Default False.
        go_backwards: True runs from the last step to the first, and returns the steps in that
            order, as `keras.layers.RNN` does. Default False.
        unroll: True writes the steps one after another into the graph, which is the fastest to
            compute, False makes a loop, which is the fastest to trace. Default None: unrolled for
            up to 32 steps.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, time, ...); time may be unknown. Output: the same shape.

    A masked step leaves the state and its output is 0. State and parameters are float32 under mixed
    precision. A second derivative takes the slope of the spikes for a constant. Under XLA
    on a CPU (`jit_compile=True`) unrolled steps are somewhat faster, but take long to compile, and
    a loop, over an unknown number of steps or more than 32, can be slower. Keras's "auto" does not
    use XLA there.

    Raises:
        ValueError: `neuron` is no neuron, a parameter cannot be learned, an input without time or
            without any time step, `stateful` with an unknown batch size.
    """

    def __init__(
        self,
        neuron: Neuron,
        learn: Mapping[str, Learn] | None = None,
        return_potential: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(neuron, dict):
            neuron = keras.saving.deserialize_keras_object(neuron)
        if not isinstance(neuron, Neuron):
            raise ValueError(
                f"Spiking needs a neuron, such as layers.neurons.LIFNeuron(), but got {neuron!r}."
            )
        super().__init__(
            neuron, learn or {}, return_potential, stateful, go_backwards, unroll, **kwargs
        )

    def get_config(self) -> dict[str, Any]:
        neuron = keras.saving.serialize_keras_object(self.neuron)
        return {**super().get_config(), "neuron": neuron, "learn": dict(self._learn)}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class IF(NeuronLayer):
    """Integrate-and-fire neurons, which forget nothing: `LIF` with leak 1.

    Args:
        threshold, reset, reset_delay, detach_reset, surrogate, learn_threshold, return_potential,
            stateful, go_backwards, unroll, kwargs: as in `LIF`.

    Input, output, errors: as in `LIF`.

    Source: Lapicque 1907, in discrete time.
    """

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
        neuron = IFNeuron(
            threshold=threshold,
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
        )
        learn = {"threshold": learn_threshold}
        super().__init__(neuron, learn, return_potential, stateful, go_backwards, unroll, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._flat_config("threshold")}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LIF(NeuronLayer):
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
            Default: Surrogate("step", FastSigmoid(5)). It is wide, so that the gradient keeps its
            direction through several layers (see `neurons.SpikingNeuron` for the measurement); the
            usual FastSigmoid(25) loses it within four. The default may change.
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
        neuron = LIFNeuron(
            leak=leak,
            threshold=threshold,
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
        )
        learn = {"leak": learn_leak, "threshold": learn_threshold}
        super().__init__(neuron, learn, return_potential, stateful, go_backwards, unroll, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._flat_config("leak", "threshold")}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SynapticLIF(NeuronLayer):
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
        neuron = SynapticLIFNeuron(
            synaptic_leak=synaptic_leak,
            leak=leak,
            threshold=threshold,
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
        )
        learn = {
            "synaptic_leak": learn_synaptic_leak,
            "leak": learn_leak,
            "threshold": learn_threshold,
        }
        super().__init__(neuron, learn, return_potential, stateful, go_backwards, unroll, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._flat_config("synaptic_leak", "leak", "threshold")}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class ALIF(NeuronLayer):
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
        neuron = ALIFNeuron(
            leak=leak,
            threshold=threshold,
            adaptation=adaptation,
            adaptation_leak=adaptation_leak,
            reset=reset,
            reset_delay=reset_delay,
            detach_reset=detach_reset,
            surrogate=surrogate,
        )
        learn = {"leak": learn_leak, "threshold": learn_threshold}
        super().__init__(neuron, learn, return_potential, stateful, go_backwards, unroll, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._flat_config("leak", "threshold")}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LI(NeuronLayer):
    """Leaky integrators without spikes, to read out a spiking network: the output is the potential.

        u[t] = leak * u[t-1] + I[t]

    Args:
        leak, learn_leak, stateful, go_backwards, unroll, kwargs: as in `LIF`.

    Input: currents of shape (batch, time, ...). Output: potentials of that shape, 0 in masked
    steps. `LastPotential` and `MaxPotential` make one prediction of them.

    Raises:
        ValueError: as in `LIF`.

    Source: the usual readout of spiking networks, as in Bellec et al. 2018, arXiv:1803.09574.
    """

    def __init__(
        self,
        leak: float = 0.9,
        learn_leak: Learn = False,
        stateful: bool = False,
        go_backwards: bool = False,
        unroll: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            LINeuron(leak=leak),
            {"leak": learn_leak},
            stateful=stateful,
            go_backwards=go_backwards,
            unroll=unroll,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), **self._flat_config("leak")}
        # The output is the potential, and there is no such argument.
        del config["return_potential"]
        return config
