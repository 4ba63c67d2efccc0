"""The network that fires by chance, and unbiased estimates of the gradient of its expected loss."""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

from keras_surrogate.custom_gradient import Use, replaced, with_gradient
from keras_surrogate.functions import tables
from keras_surrogate.layers.weight_scales import levels_of
from keras_surrogate.recording import norms
from keras_surrogate.surrogate import Surrogate

# The examples of one pass, with their repetitions.
_EXAMPLES = 4096
# The estimates from independent draws, and the draws of each: their variance gives the error.
_ESTIMATES = 16
_LEAST_DRAWS = 2
# The uses of surrogates in a pass, with all time steps.
_MOST_USES = 2**20


@functools.lru_cache(maxsize=1024)
def has_probability(pair: Surrogate) -> bool:
    """Tell if the forward has two values and the backward's function gives a probability."""
    levels = levels_of(pair.forward)
    if levels is None or len(levels) != 2 or levels != tables.limits(pair.forward):
        return False
    probability = _probability(pair, tf.linspace(tf.constant(-30.0, tf.float64), 30.0, 10_001))
    return bool(tf.reduce_all((probability >= -1e-9) & (probability <= 1 + 1e-9)))


def _probability(pair: Surrogate, x: tf.Tensor) -> tf.Tensor:
    """The probability of the upper value."""
    low, high = tables.limits(pair.forward)
    return (pair.smooth_value(x) - low) / (high - low)


class _Draws:
    """The replacement of surrogates by draws, for one pass.

    Args:
        seed: the seed of the pass.
        examples: the number of examples of the pass.
    """

    def __init__(self, seed: tuple[int, int], examples: int) -> None:
        self._seed = seed
        self._uses = 0
        self._examples = examples
        # The loss of each example less its baseline; known when the backward pass begins.
        self.advantage: tf.Tensor | None = None

    def __call__(self, use: Use) -> tf.Tensor:
        pair = use.pair
        if pair == pair.true():
            return use.usual(use.x)
        if pair.forward == pair.backward:
            # Only the slope was scaled.
            return use.smooth(use.x)
        if use.x.shape.rank == 0 or use.x.shape[0] != self._examples:
            raise ValueError(
                "alignment: the reference 'noise' needs surrogates of inputs whose first axis is "
                f"that of the examples, but one has an input of shape {tuple(use.x.shape)}."
            )
        return with_gradient(use.x, lambda x: self._drawn(pair, x), pair.smooth_value)

    def _drawn(self, pair, x):
        low, high = tables.limits(pair.forward)
        probability = tf.clip_by_value(_probability(pair, x), 0, 1)
        slope = pair.smooth_slope(x) / (high - low)
        # A seed of its own for each use.
        self._uses += 1
        seed = [self._seed[0], _MOST_USES * self._seed[1] + self._uses]
        draws = tf.random.stateless_uniform(tf.shape(x), seed, dtype=tf.float32)
        fires = draws < tf.cast(probability, tf.float32)
        value = tf.where(fires, tf.cast(high, x.dtype), tf.cast(low, x.dtype))
        # d log P / dx is p' / p for the upper value and -p' / (1 - p) for the lower one.
        chance = tf.where(fires, probability, probability - 1)
        score = tf.math.divide_no_nan(slope, chance)

        def gradient(upstream):
            shape = [-1] + [1] * (x.shape.rank - 1)
            return score * tf.cast(tf.reshape(self.advantage, shape), x.dtype)

        return value, gradient


def estimates(
    model: keras.Model, x: object, y: object, samples: int, seed: int
) -> list[dict[int, tf.Tensor | None]]:
    """Independent unbiased estimates of the gradient of the expected loss.

    Args:
        model: a built and compiled Keras model.
        x, y: inputs and targets, tensors.
        samples: the draws for each example.
        seed: the seed of the draws.

    Returns:
        A list of dictionaries from the ids of the trainable variables to their gradients, or None.

    Raises:
        ValueError: the loss is not a sum over the examples.
    """
    examples = keras.tree.flatten(x)[0].shape[0]
    draws = max(_LEAST_DRAWS, min(samples // _ESTIMATES, _EXAMPLES // examples))
    count = max(2, round(samples / draws))
    return [_estimate(model, x, y, draws, (seed, number)) for number in range(count)]


def _estimate(model, x, y, draws, seed):
    examples = keras.tree.flatten(x)[0].shape[0]
    x = _repeated(x, draws)
    y = _repeated(y, draws)
    weights = tf.ones(examples * draws)
    chance = _Draws(seed, examples * draws)
    with replaced(chance), tf.GradientTape() as tape:
        outputs = model(x, training=True)
        with tf.GradientTape() as of_examples:
            of_examples.watch(weights)
            loss = model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weights)
        # The loss is a sum over the examples of weight times loss of the example.
        parts = of_examples.gradient(loss, weights)
        if parts is None:
            raise ValueError(
                "alignment: the reference 'noise' needs a loss of each example, but the loss of "
                f"{model.name} ignores the sample weights. Use reference='smooth'."
            )
        chance.advantage = tf.stop_gradient(_without_baseline(parts, draws))
    variables = model.trainable_variables
    found = tape.gradient(loss, [variable.value for variable in variables])
    return {
        id(variable): None if one is None else norms.at_least_float32(tf.convert_to_tensor(one))
        for variable, one in zip(variables, found, strict=True)
    }


def _repeated(structure, draws):
    """Each example several times, one copy after the other."""
    return keras.tree.map_structure(lambda one: tf.repeat(one, draws, axis=0), structure)


def _without_baseline(parts, draws):
    """The part of each draw less the mean part of the other draws of the same example."""
    parts = tf.reshape(parts, [-1, draws])
    total = tf.reduce_sum(parts, axis=1, keepdims=True)
    others = (total - parts) / (draws - 1)
    return tf.reshape(parts - others, [-1])
