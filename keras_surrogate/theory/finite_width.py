"""Networks of finite width: the law of their signal and gradients, sampled without their matrices.

Given a layer's input phi (N numbers) its pre-activations h = W phi + b are N independent Gaussians
of variance q = sw2 |phi|^2 / N + sb2. Given h and phi, the gradient d of h sends down exactly

    W^T d = (sw2 / (N q)) (h . d) phi + sqrt(sw2 / N) |d| v

with v a Gaussian vector whose part along phi is multiplied by sqrt(sb2 / q). The first term is a
coherent part along the layer's own input, the second is independent of h and phi. (The same
Gaussian vectors, with covariance d_a . d_b, serve two gradients: the artificial one, a = g, and the
true one, a = f'.)

So a network enters only through sums over its N units, and these are sampled. They are means over N
alike units. Here `_UNITS` of them are drawn, and the deviation of their mean from the exact mean is
multiplied by sqrt(_UNITS / N), which gives it the variance of the mean over all N. The cost does
not depend on the width. Where few units carry the gradient (narrow slopes on wide signals), such a
mean is far from Gaussian, and more units are drawn, up to all of them. Exact means come from a
table over ln q.

The way back needs the units of the way forward. Those of some layers are held at a time: the others
are drawn again from the remembered state of the random generator. So the memory does not depend on
the depth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate.theory import interpolation, moments

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate

# The drawn units of a layer: the usual number and the largest.
_UNITS = 16
_MOST_UNITS = 512
# Where few units carry the slope, units are drawn until this many of them carry it on average.
_CARRYING = 8
# Networks to sample: the usual number, the least, and the number of their units together above
# which fewer networks are drawn.
_DRAWS = 200
_LEAST_DRAWS = 32
_BUDGET = 6400
# The spacing of the table in ln(q), and the number of parts into which cubic polynomials divide it.
_SPACING = 0.25
_REFINED = 20
_NEARLY_1 = 1 - 1e-15
# The layers whose units are held at a time.
_LAYERS = 32
# The natural logarithms of the least and the largest variance that a table holds.
_LEAST_LOG = -575.0
_LARGEST_LOG = 460.0


class _Table:
    """Functions of a variance, computed at equal spacings of its logarithm, refined by cubics."""

    def __init__(
        self, compute: Callable[[np.ndarray], np.ndarray], low: float, high: float
    ) -> None:
        first = np.floor(np.log(low) / _SPACING) - 1
        last = np.floor(np.log(high) / _SPACING) + 2
        nodes = np.arange(first, last + 1)
        coarse = interpolation.in_parts(compute, np.exp(_SPACING * nodes))
        count = len(nodes) - 3
        r = np.arange(_REFINED)[:, np.newaxis] / _REFINED
        # Lagrange's polynomials for nodes at -1, 0, 1 and 2, at r in [0, 1).
        cubic = (
            -r * (r - 1) * (r - 2) / 6,
            (r * r - 1) * (r - 2) / 2,
            -r * (r + 1) * (r - 2) / 2,
            r * (r * r - 1) / 6,
        )
        parts = [
            sum(weight * column[shift : shift + count] for shift, weight in enumerate(cubic))
            for column in coarse
        ]
        self.rows = np.stack([part.T.ravel() for part in parts], axis=-1)
        self.first = nodes[1] * _SPACING

    def __call__(self, variance: np.ndarray) -> np.ndarray:
        """The entries at every variance, shape (*variance.shape, functions)."""
        place = (np.log(variance) - self.first) * (_REFINED / _SPACING)
        index = np.clip(place.astype(int), 0, len(self.rows) - 2)
        share = (place - index)[..., np.newaxis]
        return (1 - share) * self.rows[index] + share * self.rows[index + 1]


@dataclasses.dataclass(frozen=True)
class _Block:
    """Some successive layers, and what is needed to draw their units again.

    Attributes:
        first: the number of the first layer, from 0.
        count: the number of layers.
        state: the generator's state before their units.
        power_below: the mean square of the first layer's input, (draws,).
    """

    first: int
    count: int
    state: Mapping[str, Any]
    power_below: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Units:
    """The drawn units of the layers of a block.

    Attributes:
        signal: the variance of the pre-activations, (layers, draws).
        values: the pre-activations, (layers, draws, units).
        outputs: their outputs, of the same shape.
        powers: the mean square of each layer's input and of the last one's output,
            (layers + 1, draws).
    """

    signal: np.ndarray
    values: np.ndarray
    outputs: np.ndarray
    powers: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Gradient:
    """The gradients of a layer's output: the artificial one and, if it is followed, the true one.

    Attributes:
        along: their parts along the output, over their norms, (slopes, draws).
        cosine: between them, (draws,).
        log_norm: ln of the norm of the artificial one, (draws,).
        strength: the factor of the squares of their other parts.
    """

    along: np.ndarray
    cosine: np.ndarray
    log_norm: np.ndarray
    strength: float


@dataclasses.dataclass(frozen=True)
class Network:
    """A stack of alike layers, represented by sums over their units.

    Args:
        surrogate: the activation.
        weights, bias: sigma_w**2 and sigma_b**2.
        input_variance: the mean square of the first layer's input.
        width: units of a layer.
        with_true: True to follow the true gradient besides the artificial one.
        units: the number of units of a layer that are drawn.
    """

    surrogate: Surrogate
    weights: float
    bias: float
    input_variance: float
    width: int
    with_true: bool
    units: int

    def typical(self, mean: np.ndarray, sampled: np.ndarray) -> np.ndarray:
        """A mean over the drawn units, its deviation shrunk to that of a mean over all units."""
        return mean + np.sqrt(self.units / self.width) * (sampled - mean)

    def typical_of(
        self, variances: np.ndarray, draws: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays of `sample` for the typical network, each of shape (depth,)."""
        return self._run(variances, draws, seed, _typical)

    def sample(
        self, variances: np.ndarray, draws: int, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw networks.

        Args:
            variances: those of the infinitely wide network, the centre of the table; shape
                (depth,), positive.
            draws: the number of networks.
            seed: an integer; the same one gives the same numbers.

        Returns:
            The signal's variance, ln of the gradient's norm, and the cosine with the true gradient
            (1 without it); arrays of shape (depth, draws), first layer first.
        """
        return self._run(variances, draws, seed, lambda *arrays: arrays)

    def _run(
        self,
        variances: np.ndarray,
        draws: int,
        seed: int,
        summary: Callable[..., tuple[np.ndarray, ...]],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The joined summaries of signal, ln of the norm and cosine of some layers at a time."""
        generator = np.random.default_rng(seed)
        table = _Table(self._signal_entries, *_reach(variances, len(variances) / self.width))
        blocks = []
        power = np.full(draws, self.input_variance)
        low = np.inf
        high = 0.0
        for first in range(0, len(variances), _LAYERS):
            count = min(_LAYERS, len(variances) - first)
            block = _Block(first, count, generator.bit_generator.state, power)
            units = self._forward(block, table, generator)
            blocks.append(block)
            power = units.powers[-1]
            low = min(low, units.signal.min())
            high = max(high, units.signal.max())

        # All noise is drawn once in the order of the layers, to know the states to draw it from.
        states = []
        for block in blocks:
            states.append(generator.bit_generator.state)
            noise = self._noise(block, draws, generator)

        table_back = _Table(self._gradient_entries, low, high)
        gradient = self._gradient_at_last_output(draws, generator)
        parts = []
        for block, state in zip(reversed(blocks), reversed(states), strict=True):
            if block is not blocks[-1]:
                units = self._forward(block, table, _generator_in(block.state))
                noise = self._noise(block, draws, _generator_in(state))
            gradient, log_norms, cosines = self._backward(
                units, noise, gradient, table_back, generator
            )
            parts.append(summary(units.signal, log_norms, cosines))
        signal, log_norm, cosine = map(np.concatenate, zip(*reversed(parts), strict=True))
        return signal, log_norm, cosine

    def _forward(self, block: _Block, table: _Table, generator: np.random.Generator) -> _Units:
        draws = len(block.power_below)
        shape = block.count, draws, self.units
        values = generator.standard_normal(shape, np.float32).astype(float)
        signal = np.empty((block.count, draws))
        powers = np.empty((block.count + 1, draws))
        outputs = np.empty_like(values)
        powers[0] = block.power_below
        for layer in range(block.count):
            signal[layer] = self.weights * powers[layer] + self.bias
            self._check_reach(signal[layer], block.first + layer)
            values[layer] *= np.sqrt(signal[layer])[:, np.newaxis]
            outputs[layer] = moments.value(self.surrogate, values[layer])
            mean = table(signal[layer])[:, 0]
            power = self.typical(mean, _mean(outputs[layer], outputs[layer]))
            powers[layer + 1] = power
            if not power.all():
                raise ValueError(
                    f"theory: width {self.width} is too small: of {draws} sampled networks some "
                    f"have no active unit in layer {block.first + layer + 1}, so that the signal "
                    "is 0. Give a larger width."
                )
        return _Units(signal, values, outputs, powers)

    def _check_reach(self, signal: np.ndarray, layer: int) -> None:
        logarithm = np.log(signal)
        if logarithm.min() > _LEAST_LOG and logarithm.max() < _LARGEST_LOG:
            return
        raise ValueError(
            f"theory: width {self.width} is too small for this depth: in layer {layer + 1} the "
            f"signal's variance reaches {np.exp(logarithm[np.abs(logarithm).argmax()]):.1g} in "
            "some of the sampled networks. Give a larger width or fewer layers, or leave out the "
            "width."
        )

    def _noise(self, block: _Block, draws: int, generator: np.random.Generator) -> np.ndarray:
        """Gaussian vectors for the fresh parts of the gradients, (layers, slopes, draws, units)."""
        shape = block.count, self._slopes_count, draws, self.units
        return generator.standard_normal(shape, np.float32)

    def _gradient_at_last_output(self, draws: int, generator: np.random.Generator) -> _Gradient:
        """A random direction, the same for both slopes."""
        start = generator.standard_normal((1, draws)) / np.sqrt(self.width)
        return _Gradient(
            along=np.repeat(start, self._slopes_count, axis=0),
            cosine=np.ones(draws),
            log_norm=np.zeros(draws),
            strength=1.0,
        )

    @property
    def _slopes_count(self) -> int:
        return 2 if self.with_true else 1

    def _signal_entries(self, variance: np.ndarray) -> np.ndarray:
        """E[F**2] over the grid."""
        return moments.signal_power(self.surrogate, variance, moments.COARSE)[np.newaxis]

    def _slopes(self, h: np.ndarray) -> np.ndarray:
        """The artificial slope and, if it is followed, the true one."""
        slopes = [moments.slope(self.surrogate, h)]
        if self.with_true:
            slopes.append(moments.true_slope(self.surrogate, h))
        return np.stack(slopes)

    def _gradient_entries(self, variance: np.ndarray) -> np.ndarray:
        """E[a b] and E[a b F**2] for pairs of slopes, and E[h F a] for slopes, over the grid."""
        h = moments.pre_activations(variance, moments.COARSE)
        output = moments.value(self.surrogate, h)
        slopes = self._slopes(h)
        weight = moments.COARSE[1]
        products = _pairwise(np.multiply, slopes)
        return np.concatenate(
            [products @ weight, products * output**2 @ weight, slopes * (h * output) @ weight]
        )

    def _backward(
        self,
        units: _Units,
        noise: np.ndarray,
        gradient: _Gradient,
        table: _Table,
        generator: np.random.Generator,
    ) -> tuple[_Gradient, np.ndarray, np.ndarray]:
        """The gradient below a block, and ln of its norm and the cosine in each layer."""
        slopes = self._slopes(units.values)
        count = len(slopes)
        entries = np.ascontiguousarray(np.moveaxis(table(units.signal), -1, 1))
        lengths = np.sqrt(_mean(units.outputs, units.outputs))
        directions = units.outputs / _nonzero(lengths)[..., np.newaxis]
        along = gradient.along
        cosine = gradient.cosine
        log_norm = gradient.log_norm
        strength = gradient.strength
        log_norms = np.empty_like(units.signal)
        cosines = np.empty_like(units.signal)
        for layer in reversed(range(len(units.signal))):
            power = units.powers[layer + 1]
            fresh = _correlated(noise[layer], cosine) * np.sqrt(strength)
            state = along, strength * _products(cosine, count)
            drawn = slopes[:, layer], fresh, units.values[layer], directions[layer], lengths[layer]
            squares, coherent = self._after_slope(state, drawn, power, entries[layer])
            norms, cosine = _norms_and_cosine(squares)
            log_norm = log_norm + np.log(norms[0])
            log_norms[layer] = log_norm
            cosines[layer] = cosine
            along = self._along(
                coherent / norms, cosine, units.signal[layer], units.powers[layer], generator
            )
            strength = self.weights
        return _Gradient(along, cosine, log_norm, strength), log_norms, cosines

    def _along(
        self,
        coherent: np.ndarray,
        cosine: np.ndarray,
        variance: np.ndarray,
        power_below: np.ndarray,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """The gradient of the layer below along its output."""
        # The coherent part, (sw2 / (N q)) (h . d) |phi|.
        along = self.weights * np.sqrt(power_below) / variance * coherent
        if not self.bias:
            return along
        # The part of v along phi, whose variance is sb2 / q.
        noise = _correlated(generator.standard_normal(along.shape), cosine)
        return along + noise * np.sqrt(self.bias * self.weights / (self.width * variance))

    def _after_slope(
        self,
        state: tuple[np.ndarray, np.ndarray],
        drawn: tuple[np.ndarray, ...],
        power: np.ndarray,
        entries: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means over a layer's units of d_a d_b and of h d_a.

        Here d_a = a * (along_a F / |F| + fresh_a). The fresh parts are orthogonal to F. This
        removes 1 / N of them from each exact mean, and 1 / units from each sampled mean.
        """
        along, strengths = state
        slopes, fresh, h, direction, length = drawn
        root = np.sqrt(power)
        parallel = along * (length / root) - _mean(fresh, direction)
        d = slopes * (fresh + parallel[..., np.newaxis] * direction)
        products, squared, with_h = np.split(entries, [len(strengths), 2 * len(strengths)])
        squared = squared / power
        mean = _pairwise(np.multiply, along) * squared + strengths * products
        lost = strengths * squared
        shrink = np.sqrt(self.units / self.width)
        squares = (
            mean - lost / self.width + shrink * (_pairwise(_mean, d) - mean + lost / self.units)
        )
        return squares, self.typical(along * with_h / root, _mean(d, h))


def units_for(surrogate: Surrogate, variances: np.ndarray, width: int) -> int:
    """The number of units to draw; E[g**2]**2 / E[g**4] of them carry the gradient."""
    extremes = variances[[variances.argmin(), variances.argmax()]]
    power = moments.slope(surrogate, moments.pre_activations(extremes)) ** 2
    weight = moments.FINE[1]
    share = ((power @ weight) ** 2 / (power**2 @ weight)).min()
    return int(min(width, np.clip(_CARRYING / share, _UNITS, _MOST_UNITS)))


def draws_for(units: int) -> int:
    """The number of networks to sample."""
    return int(np.clip(_BUDGET / units, _LEAST_DRAWS, _DRAWS))


def _reach(variances: np.ndarray, fluctuation: float) -> tuple[float, float]:
    """The range of the signal's variance, which is log-normal.

    The variance of its logarithm is about 5 depth / width; six standard deviations are covered.
    """
    margin = 1 + 2.5 * fluctuation + 6 * np.sqrt(5 * fluctuation)
    low = max(np.log(variances.min()) - margin, _LEAST_LOG)
    high = min(np.log(variances.max()) + margin, _LARGEST_LOG)
    return np.exp(low), np.exp(high)


def _generator_in(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator, as `default_rng` makes it, in a given state."""
    generator = np.random.default_rng()
    generator.bit_generator.state = state
    return generator


def _typical(
    signal: np.ndarray, log_norm: np.ndarray, cosine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of the typical network, from arrays of shape (layers, draws)."""
    angle = np.arctanh(np.clip(cosine, -_NEARLY_1, _NEARLY_1))
    return np.exp(middle(np.log(signal))), middle(log_norm), np.tanh(middle(angle))


def middle(numbers: np.ndarray) -> np.ndarray:
    """The mean of the middle half along the last axis: as robust as the median, and less noisy."""
    quarter = numbers.shape[-1] // 4
    return np.sort(numbers, axis=-1)[..., quarter : numbers.shape[-1] - quarter].mean(axis=-1)


def _pairwise(
    product: Callable[[np.ndarray, np.ndarray], np.ndarray], parts: np.ndarray
) -> np.ndarray:
    """The product of the artificial part with itself and, if there is one, with the true part."""
    pairs = [(0, 0), (0, 1), (1, 1)][: 2 * len(parts) - 1]
    return np.stack([product(parts[one], parts[other]) for one, other in pairs])


def _products(cosine: np.ndarray, count: int) -> np.ndarray:
    """1, the cosine and 1: the products of two unit vectors; 1 of a single vector."""
    one = np.ones_like(cosine)
    return np.stack([one, cosine, one])[: 2 * count - 1]


def _mean(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The mean of a product over the last axis."""
    return np.einsum("...n,...n->...", left, right) / left.shape[-1]


def _nonzero(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers > 0, numbers, 1.0)


def _correlated(noise: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """Gaussian vectors, of which the second, if any, gets that cosine with the first."""
    if len(noise) == 2:
        cosine = cosine.reshape(cosine.shape + (1,) * (noise.ndim - 2))
        noise[1] = cosine * noise[0] + np.sqrt(1 - cosine**2) * noise[1]
    return noise


def _norms_and_cosine(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The norms of d_a and d_b and their cosine, from their products; a norm of 0 becomes tiny."""
    norms = np.sqrt(np.maximum(squares[::2], np.finfo(float).tiny))
    if len(squares) == 1:
        return norms, np.ones(squares.shape[1])
    return norms, np.clip(squares[1] / (norms[0] * norms[1]), -1, 1)
