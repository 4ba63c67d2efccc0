"""The tanh(nx) question, answered: can a steeper tanh, whose slope reaches n > 1, prevent vanishing gradients?

    f(x) = tanh(n x)        f'(x) = n (1 - tanh(n x)**2) = n / cosh(n x)**2,  at most n, at x = 0

**Too far out.** One factor of a product of `depth` slopes cancels all others, even if each of these
is n, where

    f'(x) < n**-(depth - 1)   <=>   cosh(n x)**2 > n**depth   <=>   |x| > t(n) = acosh(n**(depth / 2)) / n
                                                                          = atanh(sqrt(1 -
                                                                          n**-depth)) / n

At n = 2 this is 0.658 for pairs of slopes (depth 2), 9.01 for depth 50, and 0.441 for depth 1,
inside of which the slope exceeds 1 and gradients can explode. `tanh_threshold` computes it,
`tanh_optimum` the n that makes it largest: with theta = n t(n), cosh(theta) = n**(depth / 2), and
dt/dn = 0 where

    theta * tanh(theta) = depth / 2,        n = cosh(theta)**(2 / depth)

For pairs n = 1.810 and t = 0.6627, the Laplace limit; as depth grows n tends to e. So whatever n
is, at least half of the pre-activations must be within 0.6627 of 0, else the product of the slopes
is below 1. (The gradient also has the weights as factors, and sums over paths;
`simulation.gradient_sample` shows what they make of it.)

**Nothing new.** tanh(n (W h + b)) is tanh(W' h + b') with W' = n W and b' = n b: the same network
under other names. Its training is the same as well, if the step is renamed too. By the chain rule
the gradient for W is n times that for W', so that a step of gradient descent with learning rate r
moves W' = n W by n * r * n times the gradient for W':

    SGD, with or without momentum     r' = n**2 * r  for weights and biases that feed a tanh,  r' = r  for all others
    Adam, RMSprop                     r' = n * r     and epsilon' = epsilon / n  for these,     r' = r  for all others

Hence one learning rate for all parameters, be it r, n r or n**2 r, does not give the same training,
since the output layer keeps its own. What tanh(nx) changes is the initialization, by the factor n,
and the step of the hidden layers, by n**2.
"""

import typing

import numpy as np


class TanhOptimum(typing.NamedTuple):
    """The steepness n at which the threshold of tanh(nx) is largest, and that threshold."""

    n: float
    threshold: float


def tanh_threshold(n, depth=2):
    """The |x| beyond which the slope of tanh(n x) is below n**-(depth - 1): too small for depth - 1 others to make up.

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
    n, depth = _steepness(n), _depth(depth)
    # log(n**(depth / 2)), since the power itself overflows and its inverse underflows.
    logarithm = depth / 2 * np.log(n)
    return (logarithm + np.log1p(np.sqrt(-np.expm1(-2 * logarithm)))) / n


def tanh_optimum(depth=2):
    """The real n that makes `tanh_threshold(n, depth)` largest, with that threshold.

        theta * tanh(theta) = depth / 2        n = cosh(theta)**(2 / depth)        threshold = theta / n

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
    log_cosh = theta + np.log1p(np.exp(-2 * theta)) - np.log(2)
    n = np.exp(log_cosh / half)
    return TanhOptimum(n, theta / n)


def _steepness(n):
    numbers = _numbers(n, "n", "a number, or an array of numbers, of at least 1")
    if not (np.isfinite(numbers) & (numbers >= 1)).all():
        raise ValueError(
            f"n must be finite and at least 1, but is {n!r}. Below 1 there is no threshold: the slope of tanh(n x) is "
            "at most n, and thus smaller than n**-(depth - 1) for every x."
        )
    return numbers


def _depth(depth):
    numbers = _numbers(depth, "depth", "an integer, or an array of integers, of at least 1")
    if not (np.isfinite(numbers) & (numbers >= 1) & (numbers == np.floor(numbers))).all():
        raise ValueError(f"depth must be an integer of at least 1, but is {depth!r}.")
    return numbers


def _numbers(values, name, meaning):
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be {meaning}, but is {values!r}.")
    return array.astype(float)
