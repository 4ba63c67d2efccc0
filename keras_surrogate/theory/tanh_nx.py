"""The tanh(nx) question: can a steeper tanh, of slope up to n > 1, prevent vanishing gradients?

    f(x) = tanh(n x)        f'(x) = n (1 - tanh(n x)**2) = n / cosh(n x)**2,  at most n, at x = 0

**The threshold.** In a product of `depth` slopes one small factor cancels all others, even if each
of these is n. This happens where

    f'(x) < n**-(depth - 1)   <=>   cosh(n x)**2 > n**depth
                              <=>   |x| > t(n) = acosh(n**(depth / 2)) / n
                                               = atanh(sqrt(1 - n**-depth)) / n

At n = 2 this is 0.658 for pairs of slopes (depth 2), 9.01 for depth 50, and 0.441 for depth 1,
inside of which the slope exceeds 1 and gradients can explode. `tanh_threshold` computes it, and
`tanh_optimum` the n that makes it largest: with theta = n t(n), cosh(theta) = n**(depth / 2), and
dt/dn = 0 where

    theta * tanh(theta) = depth / 2,        n = cosh(theta)**(2 / depth)

For pairs n = 1.810 and t = 0.6627, the Laplace limit; as depth grows n tends to e. For any n, at
least half of the pre-activations must be within 0.6627 of 0, or the product of the slopes is
below 1. (The gradient also has the weights as factors, and sums over paths;
`simulation.gradient_sample` computes all of it.)

**No new network.** tanh(n (W h + b)) is tanh(W' h + b') with W' = n W and b' = n b: the same
network with other parameters. Its training is the same as well, if the learning rate is converted.
By the chain rule the gradient for W is n times that for W', so that a step of gradient descent with
learning rate r moves W' = n W by n * r * n times the gradient for W':

    for weights and biases that feed a tanh
        SGD, with or without momentum     r' = n**2 * r
        Adam, RMSprop                     r' = n * r,  and epsilon' = epsilon / n
    for all others                        r' = r

Hence one learning rate for all parameters, be it r, n r or n**2 r, does not give the same training,
since the output layer keeps its own. tanh(nx) changes the initialization, by the factor n, and the
step of the hidden layers, by n**2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class TanhOptimum(NamedTuple):
    """The steepness n at which the threshold of tanh(nx) is largest, and that threshold."""

    n: np.ndarray | float
    threshold: np.ndarray | float


def tanh_threshold(n: ArrayLike, depth: ArrayLike = 2) -> np.ndarray | float:
    """The |x| beyond which the slope of tanh(n x) is below n**-(depth - 1).

    The other depth - 1 slopes, at most n each, cannot compensate for such a slope.

        atanh(sqrt(1 - n**-depth)) / n

    Args:
        n: the steepness, at least 1; a number or an array. At 1 the threshold is 0, where the slope
            is 1.
        depth: the number of slopes multiplied, an integer of at least 1, default 2; a number or an
            array. At 1 it is the |x| within which the slope exceeds 1.

    Returns:
        The threshold, float64, of the shape to which `n` and `depth` broadcast. Exact to rounding
        for any depth.

    Raises:
        ValueError: an n below 1, for which the slope is that small everywhere; a depth that is not
            1, 2, ...

    Source: "Can the vanishing gradient problem be solved by multiplying the input of tanh with a
    coefficient?", Data Science Stack Exchange, question 51545; there the threshold of depth 2 is
    t1(n), and t2(n) = -t1(n).
    """
    n = _steepness(n)
    depth = _depth(depth)
    # log(n**(depth / 2)), since the power itself overflows and its inverse underflows.
    logarithm = depth / 2 * np.log(n)
    # acosh(exp(y)) = y + log(1 + sqrt(1 - exp(-2 y))).
    return (logarithm + np.log1p(np.sqrt(-np.expm1(-2 * logarithm)))) / n


def tanh_optimum(depth: ArrayLike = 2) -> TanhOptimum:
    """The real n that makes `tanh_threshold(n, depth)` largest, with that threshold.

        theta * tanh(theta) = depth / 2      n = cosh(theta)**(2 / depth)      threshold = theta / n

    Args:
        depth: as for `tanh_threshold`; default 2, for which n = 1.810 and the threshold 0.6627.

    Returns:
        `TanhOptimum(n, threshold)`, of the shape of `depth`.
    """
    half = _depth(depth) / 2
    theta = np.maximum(half, 1.0)
    # Newton's iteration; the left side is increasing, with a single inflection, and eight rounds
    # reach the last digit.
    for _ in range(12):
        tanh = np.tanh(theta)
        theta = theta - (theta * tanh - half) / (tanh + theta * (1 - tanh**2))
    # log(cosh(theta)), since cosh itself overflows.
    log_cosh = theta + np.log1p(np.exp(-2 * theta)) - np.log(2)
    n = np.exp(log_cosh / half)
    return TanhOptimum(n, theta / n)


def _steepness(n: ArrayLike) -> np.ndarray:
    numbers = _numbers(n, "n", "a number, or an array of numbers, of at least 1")
    if not (np.isfinite(numbers) & (numbers >= 1)).all():
        raise ValueError(
            f"n must be finite and at least 1, but is {n!r}. Below 1 there is no threshold: the "
            "slope of tanh(n x) is at most n, and thus smaller than n**-(depth - 1) for every x."
        )
    return numbers


def _depth(depth: ArrayLike) -> np.ndarray:
    numbers = _numbers(depth, "depth", "an integer, or an array of integers, of at least 1")
    if not (np.isfinite(numbers) & (numbers >= 1) & (numbers == np.floor(numbers))).all():
        raise ValueError(f"depth must be an integer of at least 1, but is {depth!r}.")
    return numbers


def _numbers(values: ArrayLike, name: str, meaning: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be {meaning}, but is {values!r}.")
    return array.astype(float)
