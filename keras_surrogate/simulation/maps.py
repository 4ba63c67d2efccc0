"""A map from the initial weights of a chain to the gradient at the end of its training.

The smallest deep network is a chain, one unit a layer:

    h_k = f(w_k h_{k-1} + b_k),    k = 1 .. depth

All layers start at the same weight w and bias b, so that (w, b) is a point in the plane. Plain
gradient descent, which is deterministic, moves each point: "a deterministic model
(map) that tells which initial points (initial values of weights) lead to gradient vanishing;
possibly accompanied by trajectories from initial to final values" (the accepted answer to question
51545, Data Science Stack Exchange).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets
from keras_surrogate.checks import integer
from keras_surrogate.reprs import Shown
from keras_surrogate.simulation import networks as batches
from keras_surrogate.simulation.checks import numbers, positive
from keras_surrogate.simulation.gradients import chunk_length
from keras_surrogate.simulation.training import from_start_to_end, overflown, training_step

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike

# The default weights and biases.
_GRID = np.linspace(-3, 3, 61)


@dataclasses.dataclass(frozen=True, repr=False)
class GradientMap(Shown):
    """The training of chains that start on a grid; the grid's axes are (biases, weights).

    Args:
        weights, biases: the initial values, shapes (weights,) and (biases,).
        weight_paths, bias_paths: weights and biases during training, means over the layers, shape
            (steps + 1, biases, weights).
        log10_product: decimal logarithm of the product of the slopes, root mean square over the
            samples; shape (steps + 1, biases, weights), the start first and the end last; -inf
            where it is 0.
        log10_norm: that of the gradient of the output for the first pre-activation, weights
            included; the same shape.
        loss: half the mean squared error; the same shape.

    All are NaN from the step on at which a chain overflows.
    """

    weights: np.ndarray
    biases: np.ndarray
    weight_paths: np.ndarray
    bias_paths: np.ndarray
    log10_product: np.ndarray
    log10_norm: np.ndarray
    loss: np.ndarray

    _more = "chains.weight_paths, chains.log10_norm, plots.gradient_map(chains)"

    def _facts(self) -> dict[str, object]:
        return {
            "chains": f"{len(self.biases)} biases x {len(self.weights)} weights",
            "steps": len(self.loss) - 1,
            "median log10 of the gradient's norm": from_start_to_end(self.log10_norm),
            "median loss": from_start_to_end(self.loss),
            "diverged": self.diverged,
        }

    @property
    def diverged(self) -> float:
        """The share of chains that overflow."""
        return float(np.isnan(self.loss[-1]).mean())


def gradient_map(
    surrogate: SurrogateLike = "tanh",
    depth: int = 10,
    weights: Sequence[float] | np.ndarray | None = None,
    biases: Sequence[float] | np.ndarray | None = None,
    inputs: Sequence[float] | np.ndarray = (-1.0, -0.5, 0.5, 1.0),
    targets: Sequence[float] | np.ndarray = (-0.5, -0.25, 0.25, 0.5),
    steps: int = 200,
    learning_rate: float = 0.1,
    tied: bool = False,
    chunk_size: int | None = None,
    verbose: int = 0,
) -> GradientMap:
    """Train a chain from every point of a grid of initial weights and biases.

        parameter -= learning_rate * d(mean over samples of (output - target)**2 / 2) / d(parameter)

    Args:
        surrogate: any argument of `keras_surrogate.get`; default "tanh".
        depth: layers, at least 1; default 10.
        weights, biases: the initial values; default 61 each from -3 to 3.
        inputs, targets: the samples, of equal number; default: -1, -0.5, 0.5 and 1, with half of
            each as its target.
        steps: at least 1; default 200.
        learning_rate: positive; default 0.1.
        tied: True if all layers share one weight and one bias during training, as in a recurrent
            network; the trajectories then are exact and not means. Default False.
        chunk_size: chains computed at a time; it bounds the memory and changes nothing else.
        verbose: 1 for a progress bar; default 0.

    Returns:
        `GradientMap`; it takes 40 * (steps + 1) bytes a chain.

    Raises:
        ValueError: a number out of range; inputs and targets of different lengths; an unknown
            function.
    """
    surrogate = presets.get(surrogate)
    learning_rate = positive(learning_rate, "learning_rate")
    depth = integer(depth, "depth")
    steps = integer(steps, "steps")
    if not isinstance(tied, bool):
        raise ValueError(f"tied must be True or False, but is {tied!r}.")
    weights = numbers(_GRID if weights is None else weights, "weights")
    biases = numbers(_GRID if biases is None else biases, "biases")
    inputs = numbers(inputs, "inputs")
    targets = numbers(targets, "targets")
    if len(inputs) != len(targets):
        raise ValueError(
            "inputs and targets must have the same length, but have "
            f"{len(inputs)} and {len(targets)}."
        )
    starts = np.stack(np.meshgrid(weights, biases), axis=-1).reshape(-1, 2)
    found = np.empty((5, steps + 1, len(starts)))
    slices = batches.chunks(len(starts), chunk_length(chunk_size, depth, 1, len(inputs)))
    progress = keras.utils.Progbar(len(slices) * (steps + 1), verbose=verbose, unit_name="step")
    step = training_step(surrogate, learning_rate, trains_readout=False)
    for chunk in slices:
        chains = _chains(starts[chunk], 1 if tied else depth, depth)
        count = chunk.stop - chunk.start
        x = _samples(inputs, chains)
        y = _samples(targets, chains)[:, 0]
        for number in range(steps + 1):
            weight = _mean(chains.weights)
            bias = _mean(chains.biases)
            chains, *measured = step(chains, x, y)
            found[:, number, chunk] = [values[:count] for values in (weight, bias, *measured)]
            progress.add(1)
    # The logarithms of the gradients are -inf where they are 0; weights and biases must be finite.
    found[:, overflown([*np.abs(found[:2]), *found[2:]])] = np.nan
    return GradientMap(weights, biases, *found.reshape(5, steps + 1, len(biases), len(weights)))


def _chains(starts: np.ndarray, layers: int, depth: int) -> batches.Networks:
    """Networks of width 1 whose layers all have a row (weight, bias) of `starts`."""
    starts = batches.whole(starts)[:, :, np.newaxis, np.newaxis]
    weight = tf.constant(starts[:, 0])
    bias = tf.constant(starts[:, 1])
    return batches.Networks(depth, (weight,) * layers, (bias,) * layers, tf.ones_like(weight))


def _samples(values: np.ndarray, chains: batches.Networks) -> tf.Tensor:
    """The same samples for each chain, shape (chains, 1, samples)."""
    return tf.tile(tf.constant(values)[tf.newaxis, tf.newaxis], (len(chains.readout), 1, 1))


def _mean(tensors: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """The mean over the layers, shape (chains,)."""
    return tf.reduce_mean(tf.stack([tensor[:, 0, 0] for tensor in tensors]), axis=0)
