"""The recovery of vanished gradients: networks in training, and a Markov chain fitted to them.

The accepted answer to question 51545, Data Science Stack Exchange, compares training to a Markov
chain of two states, [g >> 0] and [g ~ 0]: once in the second, "there is not much gradient to bring
(change) the values back", so that it is "a one way street". Here networks train, each on its own
data, by plain gradient descent with the surrogate's gradient. The transitions are counted, and the
chain's forecast is compared with the observed shares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import presets, thresholds
from keras_surrogate.checks import integer
from keras_surrogate.reprs import Shown
from keras_surrogate.simulation import networks as batches
from keras_surrogate.simulation.checks import nonnegative, positive
from keras_surrogate.simulation.gradients import chunk_length

if TYPE_CHECKING:
    from keras_surrogate._types import SurrogateLike
    from keras_surrogate.surrogate import Surrogate

# The 97.5 % point of the normal distribution.
_TWO_SIDED = 1.959963984540054


@dataclasses.dataclass(frozen=True, repr=False)
class TrainingPaths(Shown):
    """The training of many networks; arrays of shape (steps + 1, networks).

    The first row is before the first step.

    Args:
        log10_product: decimal logarithm of the product of the slopes along a path, root mean square
            over the samples.
        log10_norm: that of the norm of the whole gradient at the first layer, of a gradient of
            length 1 at the last.
        loss: half the mean squared error of each network on its own samples.

    All three are NaN from the step at which a network's numbers overflow.
    """

    log10_product: np.ndarray
    log10_norm: np.ndarray
    loss: np.ndarray

    _more = "paths.log10_norm, paths.loss, simulation.two_state_chain(paths.log10_norm)"

    def _facts(self) -> dict[str, object]:
        return {
            "networks": self.loss.shape[1],
            "steps": len(self.loss) - 1,
            "median log10 of the gradient's norm": from_start_to_end(self.log10_norm),
            "median loss": from_start_to_end(self.loss),
            "diverged": self.diverged,
        }

    @property
    def diverged(self) -> float:
        """The share of networks whose numbers overflow."""
        return float(np.isnan(self.loss[-1]).mean())


def training_paths(
    surrogate: SurrogateLike = "tanh",
    depth: int = 10,
    networks: int = 1000,
    width: int = 8,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    input_variance: float = 1.0,
    samples: int = 8,
    steps: int = 200,
    learning_rate: float = 0.1,
    seed: int = 0,
    chunk_size: int | None = None,
    verbose: int = 0,
) -> TrainingPaths:
    """Train random networks, all parameters and the readout, to classify random inputs.

    The labels are 1/2 and -1/2.

        parameter -= learning_rate * d(mean over samples of (output - label)**2 / 2) / d(parameter)

    Args:
        surrogate, depth, networks, width, weight_variance, bias_variance, input_variance, seed,
            chunk_size, verbose: as for `gradient_sample`, with defaults "tanh", 10, 1000, 8, 1, 0,
            1, 0, None and 0.
        samples: the number of each network's inputs ~ N(0, input_variance), at least 1; default 8.
        steps: at least 1; default 200.
        learning_rate: positive; default 0.1.

    Returns:
        `TrainingPaths`.
    """
    surrogate = presets.get(surrogate)
    learning_rate = positive(learning_rate, "learning_rate")
    depth = integer(depth, "depth")
    networks = integer(networks, "networks")
    width = integer(width, "width")
    samples = integer(samples, "samples")
    steps = integer(steps, "steps")
    weight_variance = nonnegative(weight_variance, "weight_variance")
    bias_variance = nonnegative(bias_variance, "bias_variance")
    input_variance = nonnegative(input_variance, "input_variance")
    seed = integer(seed, "seed", least=0)
    source = batches.RandomNetworks(depth, width, weight_variance, bias_variance, seed)
    found = np.empty((3, steps + 1, networks))
    slices = batches.chunks(networks, chunk_length(chunk_size, depth, width, samples))
    progress = keras.utils.Progbar(len(slices) * (steps + 1), verbose=verbose, unit_name="step")
    step = training_step(surrogate, learning_rate)
    for chunk in slices:
        count = chunk.stop - chunk.start
        batch = source.draw(count)
        inputs = source.draw_inputs(count, input_variance, samples)
        targets = source.draw_targets(count, samples)
        for number in range(steps + 1):
            batch, *measured = step(batch, inputs, targets)
            found[:, number, chunk] = [values[:count] for values in measured]
            progress.add(1)
    # A network that overflows is NaN in all three from there on.
    found[:, overflown(found)] = np.nan
    return TrainingPaths(*found)


def from_start_to_end(paths: np.ndarray) -> str:
    """The median before and after training, over networks that did not diverge, in words."""
    return f"from {_median(paths[0]):.4g} to {_median(paths[-1]):.4g}"


def _median(numbers: np.ndarray) -> float:
    return np.nanmedian(numbers) if np.isfinite(numbers).any() else np.nan


def training_step(
    surrogate: Surrogate, learning_rate: float, trains_readout: bool = True
) -> Callable[..., tuple[batches.Networks, tf.Tensor, tf.Tensor, tf.Tensor]]:
    """A step of gradient descent: a function of networks, inputs and targets.

    It returns the networks after the step, and log10 product, log10 norm and loss before it.
    """

    @tf.function(autograph=False)
    def compute(
        parameters: tuple[object, ...], depth: int, inputs: tf.Tensor, targets: tf.Tensor
    ) -> tuple[object, ...]:
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
        if not trains_readout:
            moved = (*moved[:2], networks.readout)
        return moved, measured.log10_product, measured.log10_norm, losses

    def step(
        networks: batches.Networks, inputs: tf.Tensor, targets: tf.Tensor
    ) -> tuple[batches.Networks, tf.Tensor, tf.Tensor, tf.Tensor]:
        parameters = (networks.weights, networks.biases, networks.readout)
        moved, *found = compute(parameters, networks.depth, inputs, targets)
        return batches.Networks(networks.depth, *moved), *found

    return step


def overflown(arrays: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """True where any of some arrays, time first, is or was NaN or inf; -inf, log(0), is valid."""
    lost = np.any([np.isnan(array) | (array == np.inf) for array in arrays], axis=0)
    return np.logical_or.accumulate(lost, axis=0)


@dataclasses.dataclass(frozen=True, repr=False)
class TwoStateChain(Shown):
    """A Markov chain between "alive", [g >> 0], and "vanished", [g ~ 0], estimated from training.

    Args:
        counts: observed transitions, shape (2, 2): from (row) alive, vanished to (column) alive,
            vanished.
        observed: the share of vanished gradients at each time, shape (times,), among the networks
            not diverged; NaN where all have diverged.
        forecast: the chain's forecast of `observed` from the first time on; shape (times,).
        left_out: transitions not counted because the network had diverged.
    """

    counts: np.ndarray
    observed: np.ndarray
    forecast: np.ndarray
    left_out: int

    _more = "chain.observed, chain.forecast, chain.counts"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.verdict.rstrip("."),
            "vanishing per step": self.vanishing,
            "recovery per step": self.recovery,
            "vanished at the end": float(self.observed[-1]),
            "forecast of that": float(self.forecast[-1]),
        }

    @property
    def vanishing(self) -> float | None:
        """The probability, per step, that a living gradient vanishes; None without any."""
        return _probability(self.counts[0, 1], self.counts[0].sum())

    @property
    def recovery(self) -> float | None:
        """The probability, per step, that a vanished gradient recovers; None without any."""
        return _probability(self.counts[1, 0], self.counts[1].sum())

    @property
    def vanishing_interval(self) -> tuple[float, float]:
        """95 % interval of `vanishing`, as if all transitions were independent (Wilson 1927).

        (0, 1) without any transition.
        """
        return _wilson(self.counts[0, 1], self.counts[0].sum())

    @property
    def recovery_interval(self) -> tuple[float, float]:
        """95 % interval of `recovery`, with the same assumption."""
        return _wilson(self.counts[1, 0], self.counts[1].sum())

    @property
    def verdict(self) -> str:
        """A sentence about the recovery of vanished gradients ("a one-way street")."""
        (_, vanished), (recovered, stayed) = self.counts
        if not vanished + recovered + stayed:
            return "No gradient vanished."
        if not recovered:
            return (
                f"A one-way street in these data: no vanished gradient recovered in {stayed} "
                f"steps; the probability per step is below {self.recovery_interval[1]:.1e}."
            )
        recovery = f"per step {self.recovery:.1e} of the vanished gradients recovered"
        if not vanished:
            return f"No one-way street into vanishing: {recovery}, and no living one vanished."
        vanishing = f"{self.vanishing:.1e} of the living ones vanished"
        if self.recovery_interval[1] < self.vanishing_interval[0]:
            return (
                "Not quite a one-way street, but gradients vanish more often than they recover: "
                f"{recovery}, {vanishing}."
            )
        return f"Not a one-way street: {recovery}, {vanishing}."


def two_state_chain(
    log10_gradients: Sequence[Sequence[float]] | np.ndarray,
    vanishing: float = thresholds.VANISHED_IN_CENSUS,
    alive: float | None = None,
) -> TwoStateChain:
    """Count the transitions between [g >> 0] and [g ~ 0], and fit a Markov chain to them.

    The fit is the one of maximum likelihood.

    Args:
        log10_gradients: `paths.log10_product` or `paths.log10_norm`, or other decimal logarithms,
            shape (times, networks) with at least two times; NaN where a network has diverged.
        vanishing: a gradient below has vanished; positive, default 1e-3.
        alive: a vanished gradient has recovered when it reaches this, at least `vanishing`, the
            default. A higher value leaves out gradients that oscillate about the threshold.

    Returns:
        `TwoStateChain`. The chain has no memory and its probabilities do not change in time. For
        training neither holds, so compare `observed` with `forecast` before you rely on it.
    """
    logarithms = np.asarray(log10_gradients, dtype=float)
    if logarithms.ndim != 2 or len(logarithms) < 2 or not logarithms.shape[1]:
        raise ValueError(
            "log10_gradients must have the shape (times, networks) with at least two times, but "
            f"has {logarithms.shape}."
        )
    known = ~np.isnan(logarithms)
    if not known[0].any():
        raise ValueError(
            "All gradients are NaN at the first time: the networks overflow before the first step. "
            "Lower their weights."
        )
    vanished = _vanished(logarithms, vanishing, vanishing if alive is None else alive)
    both = known[:-1] & known[1:]
    # 0: alive to alive, 1: alive to vanished, 2: vanished to alive, 3: vanished to vanished.
    transitions = 2 * vanished[:-1][both] + vanished[1:][both]
    counts = np.bincount(transitions, minlength=4).reshape(2, 2)
    observed = _share(vanished & known, known)
    forecast = _forecast(observed[0], counts, len(observed))
    return TwoStateChain(counts, observed, forecast, left_out=int(both.size - both.sum()))


def _share(vanished: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The share at each time; NaN from where on all networks have diverged."""
    total = known.sum(axis=1)
    return np.divide(vanished.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _vanished(logarithms: np.ndarray, vanishing: float, alive: float) -> np.ndarray:
    """True where a gradient has fallen below `vanishing` and has not reached `alive` since."""
    low, high = np.log10([positive(vanishing, "vanishing"), positive(alive, "alive")])
    if high < low:
        raise ValueError(
            f"alive must be at least vanishing, but they are {alive:g} and {vanishing:g}."
        )
    vanished = logarithms < low
    for time in range(1, len(vanished)):
        vanished[time] |= vanished[time - 1] & (logarithms[time] < high)
    return vanished


def _forecast(share: float, counts: np.ndarray, times: int) -> np.ndarray:
    """The share of vanished gradients at each time; a state never seen is never left."""
    vanishing = _probability(counts[0, 1], counts[0].sum()) or 0.0
    recovery = _probability(counts[1, 0], counts[1].sum()) or 0.0
    shares = [share]
    for _ in range(times - 1):
        share = share * (1 - recovery) + (1 - share) * vanishing
        shares.append(share)
    return np.array(shares)


def _probability(count: int, of: int) -> float | None:
    return float(count / of) if of else None


def _wilson(count: int, of: int) -> tuple[float, float]:
    """Wilson's score interval for a share of `count` in `of` trials."""
    if not of:
        return 0.0, 1.0
    share = count / of
    square = _TWO_SIDED**2 / of
    middle = (share + square / 2) / (1 + square)
    spread = np.sqrt(share * (1 - share) / of + _TWO_SIDED**2 / (4 * of**2))
    half = _TWO_SIDED / (1 + square) * spread
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
