"""Do vanished gradients come back? Many small networks trained at once, and a Markov chain fitted to them.

The accepted answer to question 51545, Data Science Stack Exchange, likens training to a Markov
chain of two states, [g >> 0] and [g ~ 0]: once in the second, "there is not much gradient to bring
(change) the values back", so that it is "a one way street". Here networks train, each on data of
its own, by plain gradient descent with the surrogate's gradient; the transitions are counted, and
the chain's forecast stands beside what happened.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets, thresholds
from keras_surrogate.checks import integer
from keras_surrogate.reprs import Shown
from keras_surrogate.simulation import networks as batches
from keras_surrogate.simulation.checks import nonnegative, positive
from keras_surrogate.simulation.gradients import chunk_length


@dataclasses.dataclass(frozen=True, repr=False)
class TrainingPaths(Shown):
    """What many networks go through in training; arrays of shape (steps + 1, networks), before the first step first.

    Args:
        log10_product: decimal logarithm of the product of the slopes along a path, root mean square
            over the samples.
        log10_norm: that of the norm of the whole gradient at the first layer, of a gradient of
            length 1 at the last.
        loss: half the mean squared error of each network on its own samples.

    All three are NaN from the step at which a network's numbers overflow; `diverged` is the share
    of such networks.
    """

    log10_product: np.ndarray
    log10_norm: np.ndarray
    loss: np.ndarray

    _more = "paths.log10_norm, paths.loss, simulation.two_state_chain(paths.log10_norm)"

    def _facts(self):
        return {
            "networks": self.loss.shape[1],
            "steps": len(self.loss) - 1,
            "median log10 of the gradient's norm": from_start_to_end(self.log10_norm),
            "median loss": from_start_to_end(self.loss),
            "diverged": self.diverged,
        }

    @property
    def diverged(self):
        return float(np.isnan(self.loss[-1]).mean())


def training_paths(
    surrogate="tanh",
    depth=10,
    networks=1000,
    width=8,
    weight_variance=1.0,
    bias_variance=0.0,
    input_variance=1.0,
    samples=8,
    steps=200,
    learning_rate=0.1,
    seed=0,
    chunk_size=None,
    verbose=0,
):
    """Trains random networks, all parameters and the readout, to tell random inputs apart: labels are 1/2 and -1/2.

        parameter -= learning_rate * d(mean over samples of (output - label)**2 / 2) / d(parameter)

    Args:
        surrogate, depth, networks, width, weight_variance, bias_variance, input_variance, seed,
            chunk_size, verbose: as for `gradient_sample`, with defaults "tanh", 10, 1000, 8, 1, 0,
            1, 0, None and 0.
        samples: each network's inputs ~ N(0, input_variance), at least 1; default 8.
        steps: at least 1; default 200.
        learning_rate: positive; default 0.1.

    Returns:
        `TrainingPaths`.
    """
    surrogate, learning_rate = presets.get(surrogate), positive(learning_rate, "learning_rate")
    depth, networks, width = (
        integer(depth, "depth"),
        integer(networks, "networks"),
        integer(width, "width"),
    )
    samples, steps = integer(samples, "samples"), integer(steps, "steps")
    variances = [
        nonnegative(weight_variance, "weight_variance"),
        nonnegative(bias_variance, "bias_variance"),
    ]
    input_variance = nonnegative(input_variance, "input_variance")
    source = batches.RandomNetworks(depth, width, *variances, integer(seed, "seed", least=0))
    paths = TrainingPaths(*(np.empty((steps + 1, networks)) for _ in range(3)))
    slices = batches.chunks(networks, chunk_length(chunk_size, depth, width, samples))
    progress = keras.utils.Progbar(len(slices) * (steps + 1), verbose=verbose, unit_name="step")
    step = training_step(surrogate, learning_rate)
    for chunk in slices:
        count = chunk.stop - chunk.start
        batch = source.draw(count)
        data = (
            source.draw_inputs(count, input_variance, samples),
            source.draw_targets(count, samples),
        )
        for number in range(steps + 1):
            batch, *found = step(batch, *data)
            for array, values in zip(
                (paths.log10_product, paths.log10_norm, paths.loss), found, strict=True
            ):
                array[number, chunk] = values[:count]
            progress.add(1)
    return _without_infinities(paths)


def from_start_to_end(paths):
    """The median over what did not diverge, before and after training, in words."""
    medians = [
        np.nanmedian(paths[time]) if np.isfinite(paths[time]).any() else np.nan for time in (0, -1)
    ]
    return "from {:.4g} to {:.4g}".format(*medians)


def training_step(surrogate, learning_rate, trains_readout=True):
    """A function of networks, inputs, targets: a step later the networks; before it log10 product, log10 norm, loss."""

    @tf.function(autograph=False)
    def compute(parameters, depth, inputs, targets):
        networks = batches.Networks(depth, *parameters)
        measured = batches.measure(networks, surrogate, inputs)
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            errors = networks.output(surrogate, inputs) - targets
            losses = tf.reduce_mean(tf.square(errors), axis=1) / 2
            total = tf.reduce_sum(losses)
        changes = tape.gradient(total, parameters)
        moved = tf.nest.map_structure(
            lambda old, change: old - learning_rate * change, parameters, changes
        )
        moved = moved if trains_readout else (*moved[:2], networks.readout)
        return moved, measured.log10_product, measured.log10_norm, losses

    def step(networks, inputs, targets):
        parameters = networks.weights, networks.biases, networks.readout
        moved, *found = compute(parameters, networks.depth, inputs, targets)
        return batches.Networks(networks.depth, *moved), *found

    return step


def _without_infinities(paths):
    """A network that overflows is NaN in everything from there on."""
    arrays = paths.log10_product, paths.log10_norm, paths.loss
    lost = overflown(arrays)
    return TrainingPaths(*(np.where(lost, np.nan, array) for array in arrays))


def overflown(arrays):
    """Where any of some arrays, time first, is NaN or inf, or was before. -inf, the logarithm of 0, is a number."""
    lost = np.any([np.isnan(array) | (array == np.inf) for array in arrays], axis=0)
    return np.logical_or.accumulate(lost, axis=0)


# The 97.5 % point of the normal distribution.
_TWO_SIDED = 1.959963984540054


@dataclasses.dataclass(frozen=True, repr=False)
class TwoStateChain(Shown):
    """A Markov chain between "alive", [g >> 0], and "vanished", [g ~ 0], estimated from training.

    Args:
        counts: observed transitions, shape (2, 2): from (row) alive, vanished to (column) alive,
            vanished.
        observed: the share of vanished gradients at each time, shape (times,), among the networks
            not diverged; NaN where all have.
        forecast: the same as the chain forecasts it from the first time on; shape (times,).
        left_out: transitions not counted because the network had diverged.
    """

    counts: np.ndarray
    observed: np.ndarray
    forecast: np.ndarray
    left_out: int

    _more = "chain.observed, chain.forecast, chain.counts"

    def _facts(self):
        return {
            "": self.verdict.rstrip("."),
            "vanishing per step": self.vanishing,
            "recovery per step": self.recovery,
            "vanished at the end": float(self.observed[-1]),
            "forecast of that": float(self.forecast[-1]),
        }

    @property
    def vanishing(self):
        """The probability, per step, that a living gradient vanishes; None if there never was a living one."""
        return _probability(self.counts[0, 1], self.counts[0].sum())

    @property
    def recovery(self):
        """The probability, per step, that a vanished gradient comes back; None if none had vanished."""
        return _probability(self.counts[1, 0], self.counts[1].sum())

    @property
    def vanishing_interval(self):
        """95 % interval of `vanishing` (Wilson 1927), as if all transitions were independent; (0, 1) without any."""
        return _wilson(self.counts[0, 1], self.counts[0].sum())

    @property
    def recovery_interval(self):
        """95 % interval of `recovery`, likewise."""
        return _wilson(self.counts[1, 0], self.counts[1].sum())

    @property
    def verdict(self):
        """One sentence: is it a one-way street?"""
        (_, vanished), (recovered, stayed) = self.counts
        if not vanished + recovered + stayed:
            return "No gradient vanished."
        if not recovered:
            chance = f"the chance per step is below {self.recovery_interval[1]:.1e}"
            return (
                f"A one-way street, as far as seen: none of {stayed} steps brought a vanished "
                f"gradient back; {chance}."
            )
        back = f"per step {self.recovery:.1e} of the vanished gradients came back"
        if not vanished:
            return f"No one-way street into vanishing: {back}, and no living one vanished."
        there = f"{self.vanishing:.1e} of the living vanished"
        if self.recovery_interval[1] < self.vanishing_interval[0]:
            return f"Not quite one-way, but easier to enter than to leave: {back}, {there}."
        return f"Not a one-way street: {back}, {there}."


def two_state_chain(log10_gradients, vanishing=thresholds.VANISHED_IN_CENSUS, alive=None):
    """Counts how gradients go between [g >> 0] and [g ~ 0], and fits a Markov chain by maximum likelihood.

    Args:
        log10_gradients: `paths.log10_product` or `paths.log10_norm`, or other decimal logarithms,
            shape (times, networks) with at least two times; NaN where a network has diverged.
        vanishing: a gradient below has vanished; positive, default 1e-3.
        alive: a vanished gradient is back when it reaches this, at least `vanishing`, which is the
            default. A higher one leaves out those that tremble about the threshold.

    Returns:
        `TwoStateChain`. The chain has no memory and its probabilities do not change in time;
        training has both, so compare `observed` with `forecast` before believing it.
    """
    logarithms = np.asarray(log10_gradients, dtype=float)
    if logarithms.ndim != 2 or len(logarithms) < 2 or not logarithms.shape[1]:
        raise ValueError(
            f"Logarithms of shape (times, networks), at least two times, are needed; got {logarithms.shape}."
        )
    known = ~np.isnan(logarithms)
    if not known[0].any():
        raise ValueError(
            "All gradients are NaN from the start: the networks overflow before the first step."
        )
    vanished = _vanished(logarithms, vanishing, vanishing if alive is None else alive)
    both = known[:-1] & known[1:]
    transitions = 2 * vanished[:-1][both] + vanished[1:][both]
    counts = np.bincount(transitions, minlength=4).reshape(2, 2)
    observed = _share(vanished & known, known)
    return TwoStateChain(
        counts, observed, _forecast(observed[0], counts, len(observed)), int(both.size - both.sum())
    )


def _share(vanished, known):
    """The share at each time; NaN, as the doc of `observed` says, from where on all networks have diverged."""
    total = known.sum(axis=1)
    return np.divide(vanished.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _vanished(logarithms, vanishing, alive):
    """Whether each gradient has vanished: it does below one threshold, and stays so until it reaches the other."""
    low, high = np.log10([positive(vanishing, "vanishing"), positive(alive, "alive")])
    if high < low:
        raise ValueError(
            f"alive must be at least vanishing, but they are {alive:g} and {vanishing:g}."
        )
    vanished = logarithms < low
    for time in range(1, len(vanished)):
        vanished[time] |= vanished[time - 1] & (logarithms[time] < high)
    return vanished


def _forecast(share, counts, times):
    """The share of vanished gradients at each time; a state never seen is as good as one that is never left."""
    vanishing = _probability(counts[0, 1], counts[0].sum()) or 0.0
    recovery = _probability(counts[1, 0], counts[1].sum()) or 0.0
    shares = [share]
    for _ in range(times - 1):
        shares.append(shares[-1] * (1 - recovery) + (1 - shares[-1]) * vanishing)
    return np.array(shares)


def _probability(count, of):
    return float(count / of) if of else None


def _wilson(count, of):
    """Wilson's score interval for a share of `count` in `of` trials."""
    if not of:
        return 0.0, 1.0
    share, square = count / of, _TWO_SIDED**2 / of
    middle = (share + square / 2) / (1 + square)
    half = (
        _TWO_SIDED / (1 + square) * np.sqrt(share * (1 - share) / of + _TWO_SIDED**2 / (4 * of**2))
    )
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
