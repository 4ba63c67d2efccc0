"""A neuron with recurrent weights, as the cell of a recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_surrogate import checks
from keras_surrogate.layers import learned
from keras_surrogate.layers.neurons import Neuron

if TYPE_CHECKING:
    from keras_surrogate.layers.learned import Learn


@keras.saving.register_keras_serializable(package="keras_surrogate")
class SpikingCell(keras.layers.Layer):
    """A neuron whose output comes back to all units one step later, a cell for `keras.layers.RNN`.

        state[t], s[t] = neuron.step(state[t-1], I[t] + s[t-1] @ recurrent_kernel)

    The currents I come from a layer before, which runs over all time steps at once:

        keras.layers.Dense(100),
        keras.layers.RNN(layers.SpikingCell(100, layers.neurons.LIFNeuron()), return_sequences=True)

    Without recurrent weights `layers.LIF` and the others do the same faster. Under mixed precision
    pass dtype="float32" to the cell and to the RNN, which would otherwise round the state. Where
    the number of steps is known, pass unroll=True to the RNN: it is faster. With masks pass
    zero_output_for_mask=True to it: otherwise it repeats the last output in masked steps, and so
    spikes are counted that do not exist.

    Args:
        units: the number of neurons, which is that of the currents; at least 1.
        neuron: a `layers.neurons.Neuron`.
        learn: as in `layers.Spiking`; default: nothing.
        recurrent_initializer: of the weights between the units, default "orthogonal".
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: currents of one step, shape (batch, units). Output: the same shape.

    Raises:
        ValueError: `units` is below 1, `neuron` is no neuron, a parameter cannot be learned, or the
            currents are not of `units` units.

    Source: Bellec et al. 2018, arXiv:1803.09574.
    """

    def __init__(
        self,
        units: int,
        neuron: Neuron,
        learn: Mapping[str, Learn] | None = None,
        recurrent_initializer: str | dict[str, Any] | keras.initializers.Initializer = "orthogonal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(neuron, dict):
            neuron = keras.saving.deserialize_keras_object(neuron)
        if not isinstance(neuron, Neuron):
            raise ValueError(
                "SpikingCell needs a neuron, such as layers.neurons.LIFNeuron(), but got "
                f"{neuron!r}."
            )
        self.units = checks.integer(units, "SpikingCell: units")
        self.neuron = neuron
        self._learn = learned.check(neuron, learn or {})
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        # The neuron's state, and its last output.
        self.state_size = [self.units] * (len(neuron.states) + 1)
        self.output_size = self.units

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] != self.units:
            raise ValueError(
                f"SpikingCell: the currents must be of {self.units} units, one for each neuron, "
                f"but have the shape {tuple(input_shape)}. Put keras.layers.Dense({self.units}) "
                "before."
            )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units),
            initializer=self.recurrent_initializer,
            name="recurrent_kernel",
        )
        self._weights_of_parameters = learned.add_weights(
            self, self.neuron, self._learn, (self.units,)
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters of the neuron as they are now, learned ones as NumPy arrays."""
        return learned.values(self.neuron, self._weights_of_parameters, "float32")

    def get_initial_state(self, batch_size: Any = None) -> list[tf.Tensor]:
        zeros = tf.zeros((batch_size, self.units), self.compute_dtype)
        return [*self.neuron.initial_state(zeros), zeros]

    def call(self, inputs: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        *state, last = states
        neuron = learned.substituted(self.neuron, self._weights_of_parameters, self.compute_dtype)
        current = inputs + tf.matmul(last, tf.convert_to_tensor(self.recurrent_kernel))
        state, output = neuron.step(tuple(state), current)
        return output, [*state, output]

    def get_config(self) -> dict[str, Any]:
        own = {
            "units": self.units,
            "neuron": keras.saving.serialize_keras_object(self.neuron),
            "learn": dict(self._learn),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
        }
        return {**super().get_config(), **own}
