"""The layer that runs any neuron over the time axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_surrogate import checks
from keras_surrogate.layers import learned, time_loop
from keras_surrogate.layers.neurons import Neuron

if TYPE_CHECKING:
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
        checks.one_tensor(shape, name)
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

    # `keras.layers.RNN` has both names.
    reset_states = reset_state

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
            mask = None if mask is None else tf.reverse(tf.convert_to_tensor(mask), [1])
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
            self._check_batch(currents)
            return tuple(tf.convert_to_tensor(variable) for variable in self._state)
        return neuron.initial_state(time_loop.zeros_of_a_step(currents))

    def _check_batch(self, currents: tf.Tensor) -> None:
        """Refuse a batch of another size than the state, which would be broadcast."""
        size = self._state[0].shape[0]
        message = (
            f"{self.name}: with stateful=True each batch must have {size} samples, the size of the "
            "state. Drop the rest of the last batch."
        )
        if currents.shape[0] not in (size, None):
            raise ValueError(f"{message} This one has {currents.shape[0]}.")
        if currents.shape[0] is None:
            tf.debugging.assert_equal(tf.shape(currents)[0], size, message)

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
