"""Networks of finite width: the law of their signal and gradients, sampled without their matrices.

Given a layer's input phi (N numbers) its pre-activations h = W phi + b are N independent Gaussians
of variance q = sw2 |phi|^2 / N + sb2. Given h and phi, what the gradient d of h sends down is
exactly

    W^T d = (sw2 / (N q)) (h . d) phi + sqrt(sw2 / N) |d| (a Gaussian vector, its part along phi
    times sqrt(sb2 / q)),

a coherent part along the layer's own input and a part that knows nothing. (The same Gaussian
vectors, with covariance d_a . d_b, serve two gradients at once: the artificial, a = g, and the
true, a = f'.) So a network enters only through sums over its N units, and these are sampled. They
are means over N alike units: here `_UNITS` of them are drawn, and the deviation of their mean from
the exact mean is shrunk by sqrt(_UNITS / N), which gives it the variance of the mean over all N.
The cost does not depend on the width. Where few units carry the gradient (narrow slopes on wide
signals), such a mean is far from Gaussian, and more units are drawn, up to all of them. Exact means
come from a table over ln q.
"""

import dataclasses

import numpy as np

from keras_surrogate.theory import moments

_UNITS, _MOST_UNITS = 16, 512
# Of slopes that few units carry, so many units are drawn that this many of them carry it on
# average.
_CARRYING = 8
# Networks to sample: the usual number, the least, and the number of their units together above
# which they become fewer.
_DRAWS, _LEAST_DRAWS, _BUDGET = 200, 32, 6400
# The spacing of the table in ln(q), and into how many parts cubic polynomials divide it.
_SPACING, _REFINED = 0.25, 20
_NEARLY_1 = 1 - 1e-15


class _Table:
    """Functions of a variance, computed at equal spacings of its logarithm and refined by cubic polynomials."""

    def __init__(self, compute, low, high):
        nodes = np.arange(
            np.floor(np.log(low) / _SPACING) - 1, np.floor(np.log(high) / _SPACING) + 3
        )
        coarse = compute(np.exp(_SPACING * nodes))
        count = len(nodes) - 3
        r = np.arange(_REFINED)[:, np.newaxis] / _REFINED
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

    def __call__(self, variance):
        """The entries at every variance, shape (*variance.shape, functions)."""
        place = (np.log(variance) - self.first) * (_REFINED / _SPACING)
        index = np.clip(place.astype(int), 0, len(self.rows) - 2)
        share = (place - index)[..., np.newaxis]
        return (1 - share) * self.rows[index] + share * self.rows[index + 1]


@dataclasses.dataclass(frozen=True)
class Network:
    """A stack of alike layers, of which only sums over the units are known.

    Args:
        surrogate: the activation.
        weights, bias: sigma_w**2 and sigma_b**2.
        input_variance: the mean square of the first layer's input.
        width: units of a layer.
        with_true: whether the true gradient is followed besides the artificial one.
        units: how many units of a layer are drawn.
    """

    surrogate: object
    weights: float
    bias: float
    input_variance: float
    width: int
    with_true: bool
    units: int

    def typical(self, mean, sampled):
        """A mean over the drawn units, its deviation shrunk to that of a mean over all units."""
        return mean + np.sqrt(self.units / self.width) * (sampled - mean)

    def typical_of(self, variances, draws, seed):
        """Of the typical draw: the variance, ln of the gradient's norm and the cosine, as `sample` has them."""
        signal, log_norm, cosine = self.sample(variances, draws, seed)
        return (
            np.exp(middle(np.log(signal))),
            middle(log_norm),
            np.tanh(middle(np.arctanh(np.clip(cosine, -_NEARLY_1, _NEARLY_1)))),
        )

    def sample(self, variances, draws, seed=0):
        """Draws networks; returns arrays of shape (depth, draws), first layer first.

        Args:
            variances: those of the infinitely wide network, around which the table is laid; shape
                (depth,), positive.
            draws: how many networks.
            seed: an integer; the same one gives the same numbers.

        Returns:
            The signal's variance, ln of the gradient's norm, and the cosine with the true gradient
            (1 without it).
        """
        generator = np.random.default_rng(seed)
        signal, values, outputs, powers = self._forward(variances, draws, generator)
        return signal, *self._backward(signal, values, outputs, powers, generator)

    def _forward(self, variances, draws, generator):
        depth = len(variances)
        table = _Table(self._signal_entries, *_reach(variances, depth / self.width))
        values = generator.standard_normal((depth, draws, self.units), np.float32).astype(float)
        signal, powers, outputs = (
            np.empty((depth, draws)),
            np.empty((depth, draws)),
            np.empty_like(values),
        )
        power = np.full(draws, self.input_variance)
        for layer in range(depth):
            signal[layer] = self.weights * power + self.bias
            values[layer] *= np.sqrt(signal[layer])[:, np.newaxis]
            outputs[layer] = moments.value(self.surrogate, values[layer])
            powers[layer] = power = self.typical(
                table(signal[layer])[:, 0], _mean(outputs[layer], outputs[layer])
            )
            if not power.all():
                raise ValueError(
                    f"theory: width {self.width} is too small: of {draws} networks drawn some have no unit on in layer "
                    f"{layer + 1}, so that nothing passes. Give a larger width."
                )
        return signal, values, outputs, powers

    def _signal_entries(self, variance):
        return moments.signal_power(self.surrogate, variance, moments.COARSE)[np.newaxis]

    def _slopes(self, h):
        slopes = [moments.slope(self.surrogate, h)]
        return np.stack(
            [*slopes, moments.true_slope(self.surrogate, h)] if self.with_true else slopes
        )

    def _gradient_entries(self, variance):
        """E[a b] and E[a b F**2] of every pair of slopes, and E[h F a] of every slope, over the grid."""
        h = moments.pre_activations(variance, moments.COARSE)
        output, slopes, weight = (
            moments.value(self.surrogate, h),
            self._slopes(h),
            moments.COARSE[1],
        )
        products = _pairwise(np.multiply, slopes)
        return np.concatenate(
            [products @ weight, products * output**2 @ weight, slopes * (h * output) @ weight]
        )

    def _backward(self, signal, values, outputs, powers, generator):
        depth, draws, units = values.shape
        slopes = self._slopes(values)
        table = _Table(self._gradient_entries, signal.min(), signal.max())
        entries = np.ascontiguousarray(np.moveaxis(table(signal), -1, 1))
        lengths = np.sqrt(_mean(outputs, outputs))
        outputs /= _nonzero(lengths)[..., np.newaxis]
        noise = generator.standard_normal((depth, len(slopes), draws, units), np.float32)
        along = np.repeat(
            generator.standard_normal((1, draws)) / np.sqrt(self.width), len(slopes), axis=0
        )
        cosine, log_norm, strength = np.ones(draws), np.zeros(draws), 1.0
        log_norms, cosines = np.empty((depth, draws)), np.empty((depth, draws))
        for layer in reversed(range(depth)):
            fresh = _correlated(noise[layer], cosine) * np.sqrt(strength)
            state = along, strength * _products(cosine, len(slopes))
            drawn = slopes[:, layer], fresh, values[layer], outputs[layer], lengths[layer]
            squares, coherent = self._after_slope(state, drawn, powers[layer], entries[layer])
            norms, cosine = _norms_and_cosine(squares)
            log_norm = log_norm + np.log(norms[0])
            log_norms[layer], cosines[layer] = log_norm, cosine
            along = self._along(
                coherent / norms, cosine, signal[layer], powers[layer - 1], generator
            )
            strength = self.weights
        return log_norms, cosines

    def _along(self, coherent, cosine, variance, power_below, generator):
        """The gradient of the layer below along its output: what W owes to h = W phi, and where h is bias, some
        noise."""
        along = self.weights * np.sqrt(power_below) / variance * coherent
        if not self.bias:
            return along
        noise = _correlated(generator.standard_normal(along.shape), cosine)
        return along + noise * np.sqrt(self.bias * self.weights / (self.width * variance))

    def _after_slope(self, state, drawn, power, entries):
        """Means over a layer's units of d_a d_b and of h d_a, with d_a = a * (along_a F / |F| + fresh_a).

        The fresh parts are orthogonal to F, which takes 1 / N of them from each mean, and 1 / units
        where units are few.
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


def units_for(surrogate, variances, width):
    """How many units to draw, by the share of them that carries the gradient, E[g**2]**2 / E[g**4]."""
    power = (
        moments.slope(
            surrogate, moments.pre_activations(variances[[variances.argmin(), variances.argmax()]])
        )
        ** 2
    )
    weight = moments.FINE[1]
    share = ((power @ weight) ** 2 / (power**2 @ weight)).min()
    return int(min(width, np.clip(_CARRYING / share, _UNITS, _MOST_UNITS)))


def draws_for(units):
    return int(np.clip(_BUDGET / units, _LEAST_DRAWS, _DRAWS))


def _reach(variances, fluctuation):
    """The range that the signal may wander through: log-normal, with a variance of some 5 depth / width."""
    margin = np.exp(1 + 2.5 * fluctuation + 6 * np.sqrt(5 * fluctuation))
    return variances.min() / margin, variances.max() * margin


def middle(numbers):
    """The mean of the middle half along the last axis: as robust as the median, and less noisy."""
    quarter = numbers.shape[-1] // 4
    return np.sort(numbers, axis=-1)[..., quarter : numbers.shape[-1] - quarter].mean(axis=-1)


def _pairwise(product, parts):
    """The products artificial * artificial and, if there are two, artificial * true and true * true."""
    if len(parts) == 1:
        return np.stack([product(parts[0], parts[0])])
    return np.stack(
        [product(parts[0], parts[0]), product(parts[0], parts[1]), product(parts[1], parts[1])]
    )


def _products(cosine, count):
    """1, the cosine and 1: the products of two unit vectors with each other."""
    return np.stack([np.ones_like(cosine), cosine, np.ones_like(cosine)])[: 2 * count - 1]


def _mean(left, right):
    """The mean of a product over the last axis."""
    return np.einsum("...n,...n->...", left, right) / left.shape[-1]


def _nonzero(numbers):
    return np.where(numbers > 0, numbers, 1.0)


def _correlated(noise, cosine):
    """One or two independent Gaussian vectors, made so that the second has that cosine with the first."""
    if len(noise) == 2:
        cosine = cosine.reshape(cosine.shape + (1,) * (noise.ndim - 2))
        noise[1] = cosine * noise[0] + np.sqrt(1 - cosine**2) * noise[1]
    return noise


def _norms_and_cosine(squares):
    """From the products of d_a and d_b; a vanished gradient has no direction, and keeps the norm 0."""
    norms = np.sqrt(np.maximum(squares[::2], np.finfo(float).tiny))
    return norms, np.clip(squares[1] / (norms[0] * norms[1]), -1, 1) if len(
        squares
    ) > 1 else np.ones(squares.shape[1])
