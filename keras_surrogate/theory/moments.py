"""Averages over a Gaussian pre-activation h = sqrt(q) z, z ~ N(0, 1), on a fixed grid of z.

The grid is z = 10 sinh(8 t) / sinh(8) for equally spaced t in (-1, 1). It is dense everywhere, and
densest at 0, where surrogate slopes have their spikes. No point is at 0, where functions have their
jumps. Sums over it converge for kinks and jumps. Gauss-Hermite quadrature does not: for a softplus
slope on ReLU it is wrong by decades at depth 50.

Forwards that are constant between jumps, as signs and quantisers, have their averages in closed
form instead: `staircases`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import tensorflow as tf

from keras_surrogate.theory import staircases

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate

# Places z and their weights.
Grid: TypeAlias = tuple[np.ndarray, np.ndarray]

_REACH = 10.0
_STEEPNESS = 8.0


def gaussian_grid(points: int) -> Grid:
    """Places z and weights: sum(weights * f(z)) is the mean of f under N(0, 1)."""
    t = (2 * np.arange(points) + 1) / points - 1
    z = _REACH * np.sinh(_STEEPNESS * t) / np.sinh(_STEEPNESS)
    # The normal density times dz / dt.
    weights = np.exp(-(z**2) / 2) * np.cosh(_STEEPNESS * t)
    return z, weights / weights.sum()


FINE: Grid = gaussian_grid(4096)
COARSE: Grid = gaussian_grid(2048)


def evaluated(function: Callable[[tf.Tensor], tf.Tensor], x: np.ndarray) -> np.ndarray:
    """A TensorFlow function of a NumPy array, eager even inside a `tf.function`."""
    with tf.init_scope():
        return np.asarray(function(tf.constant(x)))


def value(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    """The value f(x) of the forward pass."""
    return evaluated(surrogate.forward.value, x)


def slope(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    """The slope g(x) of the backward pass, with its scale."""
    return surrogate.scale * evaluated(surrogate.backward.slope, x)


def true_slope(surrogate: Surrogate, x: np.ndarray) -> np.ndarray:
    """The slope f'(x) of the forward."""
    return evaluated(surrogate.forward.slope, x)


def pre_activations(variance: float | np.ndarray, grid: Grid = FINE) -> np.ndarray:
    """sqrt(q) z on the grid, of shape (*variance.shape, points)."""
    return np.sqrt(np.asarray(variance, float))[..., np.newaxis] * grid[0]


def is_homogeneous(surrogate: Surrogate) -> bool:
    """True if f(a x) = a f(x) for every a > 0, as of ReLU, so that E[f(h)**2] = q E[f(z)**2].

    The factors tried are powers of 2, which round nothing.
    """
    factors = 2.0 ** np.arange(-240, 241, 40)[:, np.newaxis]
    z = COARSE[0]
    return bool(np.array_equal(value(surrogate, factors * z), factors * value(surrogate, z)))


def mean_and_power(
    surrogate: Surrogate, variance: float | np.ndarray, grid: Grid = FINE
) -> tuple[np.ndarray, np.ndarray]:
    """E[f(h)] and E[f(h)**2] for every variance q."""
    if staircases.is_staircase(surrogate.forward):
        return _of_staircase(surrogate, np.asarray(variance, float), grid)
    output = value(surrogate, pre_activations(variance, grid))
    return output @ grid[1], output**2 @ grid[1]


def _of_staircase(
    surrogate: Surrogate, variance: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """E[f(h)] and E[f(h)**2] of a forward that is constant between jumps."""
    pairs = np.empty((variance.size, 2))
    for place, each in enumerate(variance.ravel()):
        steps = staircases.steps_of(surrogate.forward, each)
        if steps is None:
            # No signal, or too many jumps to sum over: the grid misses next to nothing there.
            output = value(surrogate, pre_activations(each, grid))
            pairs[place] = output @ grid[1], output**2 @ grid[1]
        else:
            pairs[place] = staircases.mean_and_power(steps, each)
    return pairs[:, 0].reshape(variance.shape), pairs[:, 1].reshape(variance.shape)


def signal_power(
    surrogate: Surrogate, variance: float | np.ndarray, grid: Grid = FINE
) -> np.ndarray:
    """E[f(h)**2] for every variance q."""
    return mean_and_power(surrogate, variance, grid)[1]


def slope_power(
    surrogate: Surrogate, variance: float | np.ndarray, grid: Grid = FINE
) -> np.ndarray:
    """E[g(h)**2] for every variance q, with g the slope of the backward pass."""
    return slope(surrogate, pre_activations(variance, grid)) ** 2 @ grid[1]


def overlap_powers(
    surrogate: Surrogate, variance: float | np.ndarray, grid: Grid = FINE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E[g g], E[g f'] and E[f' f'] for every variance q."""
    h = pre_activations(variance, grid)
    artificial = slope(surrogate, h)
    true = true_slope(surrogate, h)
    weight = grid[1]
    return artificial**2 @ weight, artificial * true @ weight, true**2 @ weight


def true_slope_power(
    surrogate: Surrogate, variance: float | np.ndarray, grid: Grid = FINE
) -> np.ndarray:
    """E[f'(h)**2] for every variance q."""
    return true_slope(surrogate, pre_activations(variance, grid)) ** 2 @ grid[1]
