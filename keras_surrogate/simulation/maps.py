"""Which initial weights lead to vanishing gradients? A map from where training starts to the gradient where it ends.

The smallest deep network is a chain, one unit a layer:

    h_k = f(w_k h_{k-1} + b_k),    k = 1 .. depth

All layers start at the same weight w and bias b, so that (w, b) is a point in the plane, and plain
gradient descent, which has no chance in it, takes each point somewhere: "a deterministic model
(map) that tells which initial points (initial values of weights) lead to gradient vanishing;
possibly accompanied by trajectories from initial to final values" (the accepted answer to question
51545, Data Science Stack Exchange).
"""

import dataclasses

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


@dataclasses.dataclass(frozen=True, repr=False)
class GradientMap(Shown):
    """What becomes of chains that start on a grid; the grid's axes are (biases, weights).

    Args:
        weights, biases: the initial values, shapes (weights,) and (biases,).
        weight_paths, bias_paths: the way through training, means over the layers, shape (steps + 1,
            biases, weights).
        log10_product: decimal logarithm of the product of the slopes, root mean square over the
            samples; shape (steps + 1, biases, weights), the start first and the end last; -inf
            where it is 0.
        log10_norm: that of the gradient of the output for the first pre-activation, weights
            included; likewise.
        loss: half the mean squared error; likewise.

    All are NaN from the step on at which a chain overflows; `diverged` is the share of such chains.
    """

    weights: np.ndarray
    biases: np.ndarray
    weight_paths: np.ndarray
    bias_paths: np.ndarray
    log10_product: np.ndarray
    log10_norm: np.ndarray
    loss: np.ndarray

    _more = "chains.weight_paths, chains.log10_norm, plots.gradient_map(chains)"

    def _facts(self):
        return {
            "chains": f"{len(self.biases)} biases x {len(self.weights)} weights",
            "steps": len(self.loss) - 1,
            "median log10 of the gradient's norm": from_start_to_end(self.log10_norm),
            "median loss": from_start_to_end(self.loss),
            "diverged": self.diverged,
        }

    @property
    def diverged(self):
        return float(np.isnan(self.loss[-1]).mean())


def gradient_map(
    surrogate="tanh",
    depth=10,
    weights=None,
    biases=None,
    inputs=(-1.0, -0.5, 0.5, 1.0),
    targets=(-0.5, -0.25, 0.25, 0.5),
    steps=200,
    learning_rate=0.1,
    tied=False,
    chunk_size=None,
    verbose=0,
):
    """Trains a chain from every point of a grid of initial weights and biases.

        parameter -= learning_rate * d(mean over samples of (output - target)**2 / 2) / d(parameter)

    Args:
        surrogate: a `Surrogate`, or whatever `keras_surrogate.get` takes; default "tanh".
        depth: layers, at least 1; default 10.
        weights, biases: the initial values; default 61 each from -3 to 3.
        inputs, targets: the samples, as many of one as of the other; default: -1, -0.5, 0.5
            and 1, with half of each for its target.
        steps: at least 1; default 200.
        learning_rate: positive; default 0.1.
        tied: whether all layers share one weight and one bias in training as well, as in a
            recurrent network; the trajectories then are the whole truth and no means. Default
            False.
        chunk_size: chains computed at a time; it bounds the memory and changes nothing else.
        verbose: 1 for a progress bar; default 0.

    Returns:
        `GradientMap`; it takes 40 * (steps + 1) bytes a chain.

    Raises:
        ValueError: a number out of range; inputs and targets of different lengths; an unknown
            function.
    """
    surrogate, learning_rate = presets.get(surrogate), positive(learning_rate, "learning_rate")
    depth, steps = integer(depth, "depth"), integer(steps, "steps")
    if not isinstance(tied, bool):
        raise ValueError(f"tied must be True or False, but is {tied!r}.")
    weights = numbers(_GRID if weights is None else weights, "weights")
    biases = numbers(_GRID if biases is None else biases, "biases")
    inputs, targets = numbers(inputs, "inputs"), numbers(targets, "targets")
    if len(inputs) != len(targets):
        raise ValueError(
            f"inputs and targets must be as many, but are {len(inputs)} and {len(targets)}."
        )
    starts = np.stack(np.meshgrid(weights, biases), axis=-1).reshape(-1, 2)
    found = np.empty((5, steps + 1, len(starts)))
    slices = batches.chunks(len(starts), chunk_length(chunk_size, depth, 1, len(inputs)))
    progress = keras.utils.Progbar(len(slices) * (steps + 1), verbose=verbose, unit_name="step")
    step = training_step(surrogate, learning_rate, trains_readout=False)
    for chunk in slices:
        chains = _chains(starts[chunk], 1 if tied else depth, depth)
        data = _samples(inputs, chains), _samples(targets, chains)[:, 0]
        for number in range(steps + 1):
            places = _mean(chains.weights), _mean(chains.biases)
            chains, *measured = step(chains, *data)
            found[:, number, chunk] = [
                values[: chunk.stop - chunk.start] for values in (*places, *measured)
            ]
            progress.add(1)
    found[:, overflown([*np.abs(found[:2]), *found[2:]])] = np.nan
    return GradientMap(weights, biases, *found.reshape(5, steps + 1, len(biases), len(weights)))


_GRID = np.linspace(-3, 3, 61)


def _chains(starts, layers, depth):
    starts = batches.whole(starts)[:, :, np.newaxis, np.newaxis]
    weights, biases = ((tf.constant(starts[:, part]),) * layers for part in (0, 1))
    return batches.Networks(depth, weights, biases, tf.ones_like(weights[0]))


def _samples(values, chains):
    """The same samples for each chain, shape (chains, 1, samples)."""
    return tf.tile(tf.constant(values)[tf.newaxis, tf.newaxis], (len(chains.readout), 1, 1))


def _mean(tensors):
    return tf.reduce_mean(tf.stack([tensor[:, 0, 0] for tensor in tensors]), axis=0)
