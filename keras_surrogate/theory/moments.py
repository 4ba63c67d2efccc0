"""Averages over a Gaussian pre-activation: E[...] with h = sqrt(q) z and z ~ N(0, 1), on a fixed grid of z.

The grid is z = 10 sinh(8 t) / sinh(8) for equally spaced t in (-1, 1): dense everywhere, and
densest at 0, where surrogate slopes have their spikes; no point is at 0, where functions have their
jumps. Sums over it converge for kinks and jumps, which Gauss-Hermite quadrature misses (a softplus
slope on ReLU by decades at depth 50).
"""

import numpy as np
import tensorflow as tf

_REACH, _STEEPNESS = 10.0, 8.0


def gaussian_grid(points):
    """Places z and weights, both of shape (points,), with which sum(weights * f(z)) is the mean of f under N(0, 1)."""
    t = (2 * np.arange(points) + 1) / points - 1
    z = _REACH * np.sinh(_STEEPNESS * t) / np.sinh(_STEEPNESS)
    weights = np.exp(-(z**2) / 2) * np.cosh(_STEEPNESS * t)
    return z, weights / weights.sum()


FINE, COARSE = gaussian_grid(4096), gaussian_grid(2048)


def evaluated(function, x):
    """A TensorFlow function on a NumPy array, as a NumPy array; eagerly even where a graph is being built."""
    with tf.init_scope():
        return np.asarray(function(tf.constant(x)))


def value(surrogate, x):
    return evaluated(surrogate.forward.value, x)


def slope(surrogate, x):
    """The slope of the backward pass, with its scale."""
    return surrogate.scale * evaluated(surrogate.backward.slope, x)


def true_slope(surrogate, x):
    return evaluated(surrogate.forward.slope, x)


def pre_activations(variance, grid=FINE):
    """sqrt(q) z on the grid, of shape (*variance.shape, points)."""
    return np.sqrt(variance)[..., np.newaxis] * grid[0]


def signal_power(surrogate, variance, grid=FINE):
    """E[f(h)**2] for every variance q."""
    return value(surrogate, pre_activations(np.asarray(variance, float), grid)) ** 2 @ grid[1]


def slope_power(surrogate, variance, grid=FINE):
    """E[g(h)**2] for every variance q, g being the slope of the backward pass."""
    return slope(surrogate, pre_activations(np.asarray(variance, float), grid)) ** 2 @ grid[1]


def overlap_powers(surrogate, variance, grid=FINE):
    """E[g g], E[g f'] and E[f' f'] for every variance q."""
    h = pre_activations(np.asarray(variance, float), grid)
    artificial, true = slope(surrogate, h), true_slope(surrogate, h)
    return tuple((product @ grid[1]) for product in (artificial**2, artificial * true, true**2))


def true_slope_power(surrogate, variance, grid=FINE):
    """E[f'(h)**2] for every variance q."""
    return true_slope(surrogate, pre_activations(np.asarray(variance, float), grid)) ** 2 @ grid[1]
