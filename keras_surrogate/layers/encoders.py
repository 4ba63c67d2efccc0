"""Encoders: numbers or images into currents and spikes over time."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_surrogate import checks, functions
from keras_surrogate.layers.time_loop import over_units


class Encoder(keras.layers.Layer):
    """The base of the encoders that add a time axis of `steps` steps, axis 1."""

    def __init__(self, steps: int, **kwargs: Any) -> None:
        # Keras would cast the input to half precision under mixed precision.
        super().__init__(autocast=False, **kwargs)
        self.steps = checks.integer(steps, f"{type(self).__name__}: steps")

    def build(self, input_shape: Any) -> None:
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.steps, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps}

    def _repeated(self, inputs: tf.Tensor, dtype: str) -> tf.Tensor:
        inputs = tf.cast(inputs, dtype)
        shape = tf.shape(inputs)
        wanted = tf.concat([shape[:1], [self.steps], shape[1:]], axis=0)
        repeated = tf.broadcast_to(tf.expand_dims(inputs, 1), wanted)
        return tf.ensure_shape(repeated, self.compute_output_shape(inputs.shape))


@keras.saving.register_keras_serializable(package="keras_surrogate")
class ConstantCurrent(Encoder):
    """The input as the current of every step.

        y[:, t] = x

    Put it after the first Dense or convolution, not before: the result is the same, and that layer
    runs once instead of `steps` times.

    Args:
        steps: the number of time steps, at least 1.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, ...). Output: shape (batch, steps, ...).

    Raises:
        ValueError: `steps` is not an integer of at least 1.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._repeated(inputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_surrogate")
class PoissonEncoder(Encoder):
    """Random spikes: the input is the probability of a spike of 1 in each step.

        P(y[:, t] = 1) = clip(x, 0, 1)

    Every call draws anew, in inference too. No gradient passes to the input.

    Args:
        steps: the number of time steps, at least 1.
        seed: an integer makes the sequence of draws repeatable; default None, a random seed.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: probabilities, shape (batch, ...); what is outside [0, 1] counts as the nearer end.
    Output: 0 and 1, shape (batch, steps, ...).

    Raises:
        ValueError: `steps` is not an integer of at least 1.

    Source: rate coding; independent draws in each step are the usual discrete Poisson process.
    """

    def __init__(self, steps: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(steps, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # In float32, where half precision has few values in [0, 1).
        probability = self._repeated(inputs, "float32")
        draws = keras.random.uniform(tf.shape(probability), seed=self.seed_generator)
        return tf.cast(draws < probability, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class LatencyEncoder(Encoder):
    """One spike for each input, the earlier the larger the input: the time to the first spike.

        linear:  t = round((steps - 1) * (1 - clip(x, 0, 1)))
        tau:     t = floor(tau * log(x / (x - threshold)))

    The second is the time in which a leaky neuron with time constant tau reaches the threshold
    under the constant current x. An input that does not exceed the threshold never fires, nor does
    one whose time is beyond the last step. No gradient passes to the input.

    Args:
        steps: the number of time steps, at least 1.
        threshold: in [0, inf), default 0.01.
        tau: the time constant in steps, in (0, inf); default None, the linear formula.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: shape (batch, ...), usually from 0 to 1. Output: 0 and 1, shape (batch, steps, ...).

    Raises:
        ValueError: an argument out of range, or a threshold of 0 with `tau`.

    Source: Zenke, SpyTorch, tutorial 2, for tau; Thorpe et al. 1996, doi:10.1038/381520a0.
    """

    def __init__(
        self, steps: int, threshold: float = 0.01, tau: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(steps, **kwargs)
        self.threshold = functions.real_number(
            threshold,
            "LatencyEncoder",
            "threshold",
            "a number of at least 0, and above 0 with tau",
            lambda number: number > 0 or (number == 0 and tau is None),
        )
        self.tau = tau
        if tau is not None:
            self.tau = functions.real_number(
                tau, "LatencyEncoder", "tau", "a positive number or None", lambda number: number > 0
            )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        inputs = tf.cast(inputs, "float32")
        if self.tau is None:
            times = tf.round((self.steps - 1) * (1 - tf.clip_by_value(inputs, 0, 1)))
        else:
            # Any positive number avoids a division by 0 where the input never fires.
            excess = tf.where(inputs > self.threshold, inputs - self.threshold, 1.0)
            times = tf.floor(self.tau * tf.math.log(tf.maximum(inputs, excess) / excess))
        never = tf.constant(-1.0)
        times = tf.where(inputs > self.threshold, times, never)
        # Steps along axis 1, and 1 for each axis of the input but the batch.
        steps = tf.reshape(tf.range(self.steps, dtype="float32"), [1, -1] + [1] * (inputs.ndim - 1))
        spikes = tf.equal(tf.expand_dims(times, 1), steps)
        return tf.stop_gradient(tf.cast(spikes, self.compute_dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold, "tau": self.tau}


@keras.saving.register_keras_serializable(package="keras_surrogate")
class DeltaEncoder(keras.layers.Layer):
    """Spikes where a signal changes: 1 where it rises by the threshold from one step to the next.

        y[:, t] = 1 where x[:, t] - x[:, t-1] >= threshold, else 0;    y[:, 0] = 0

    The change is computed in float32, in float64 for inputs of float64. A masked step has no spike,
    nor has the step after it. No gradient passes to the input.

    Args:
        threshold: the least change, in (0, inf), default 0.1.
        signed: True also gives -1 where the signal falls by the threshold; default False.
        kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input: a signal of shape (batch, time, ...), integers too. Output: the same shape.

    Raises:
        ValueError: `threshold` is not above 0, `signed` is not a bool, or the input has no time.

    Source: Lichtsteiner, Posch and Delbruck 2008, doi:10.1109/JSSC.2007.914337, for the idea.
    """

    def __init__(self, threshold: float = 0.1, signed: bool = False, **kwargs: Any) -> None:
        # Keras would cast the input to half precision under mixed precision.
        super().__init__(autocast=False, **kwargs)
        self.threshold = functions.real_number(
            threshold, "DeltaEncoder", "threshold", "a positive number", lambda number: number > 0
        )
        if not isinstance(signed, bool):
            raise ValueError(f"DeltaEncoder: signed must be True or False, but is {signed!r}.")
        self.signed = signed
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        checks.one_tensor(input_shape, "DeltaEncoder")
        if len(input_shape) < 2:
            raise ValueError(
                "DeltaEncoder needs inputs of shape (batch, time, ...), but got "
                f"{tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        inputs = tf.convert_to_tensor(inputs)
        if inputs.dtype != tf.float64:
            inputs = tf.cast(inputs, "float32")
        change = inputs[:, 1:] - inputs[:, :-1]
        if mask is not None:
            mask = over_units(mask, inputs)
            change = tf.where(mask[:, 1:] & mask[:, :-1], change, tf.zeros_like(change))
        spikes = tf.cast(change >= self.threshold, self.compute_dtype)
        if self.signed:
            spikes -= tf.cast(change <= -self.threshold, self.compute_dtype)
        before = tf.zeros_like(inputs[:, :1], self.compute_dtype)
        return tf.stop_gradient(tf.concat([before, spikes], axis=1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold, "signed": self.signed}
