"""Stacks: how layers are put together. One class each, found by the name given as `stack=`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from keras_surrogate import checks
from keras_surrogate.theory import interpolation, moments

if TYPE_CHECKING:
    import numpy as np

    from keras_surrogate.surrogate import Surrogate

_STACKS: dict[str, Stack] = {}


class Stack:
    """Layers in the limit of infinite width. The defaults are those of layers f(W x + b).

    A subclass with a `name` is a new stack; defining it is enough.

    Attributes:
        name: its name in `stack=`.
        bypass: the factor of the gradient's mean square that goes around a layer.
        has_finite_width: whether `finite_width` samples networks of this stack.
        has_correlations: whether the correlation of two inputs is known.
    """

    name: ClassVar[str]
    bypass: ClassVar[float] = 0.0
    has_finite_width: ClassVar[bool] = False
    has_correlations: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        _STACKS[cls.name] = cls()

    def variance(self, weights: float, bias: float, power: float) -> float:
        """The variance q of the pre-activations of a layer whose input has mean square `power`."""
        return weights * power + bias

    def output(
        self, mean: float, product: float, own_mean: float, own_product: float
    ) -> tuple[float, float]:
        """The mean, and the mean square or product of two inputs, of a layer's output.

        Args:
            mean, product: those of the layer's input.
            own_mean, own_product: E[f(u)] and E[f(u) f(v)] at the layer's pre-activations.
        """
        return own_mean, own_product

    def backward_weights(
        self, weights: float, surrogate: Surrogate, variances: np.ndarray
    ) -> float | np.ndarray:
        """The factor of E[g**2] in chi: sigma_w**2, for every layer or one for all."""
        return weights


class Plain(Stack):
    """Layers f(W x + b)."""

    name = "plain"
    has_finite_width = True


class Residual(Stack):
    """Layers x + f(W x + b).

    Source: Yang and Schoenholz 2017, arXiv:1712.08969.
    """

    name = "residual"
    bypass = 1.0

    def output(
        self, mean: float, product: float, own_mean: float, own_product: float
    ) -> tuple[float, float]:
        # E[(x + f(u)) (y + f(v))] with f independent of the layer's inputs x and y.
        return mean + own_mean, product + own_product + 2 * mean * own_mean


class BatchNorm(Stack):
    """Layers f(BatchNorm(W x)) for large batches of unlike inputs, which are uncorrelated.

    Source: Yang et al. 2019, arXiv:1902.08129.
    """

    name = "batch_norm"
    has_correlations = False

    def variance(self, weights: float, bias: float, power: float) -> float:
        return 1.0

    def backward_weights(
        self, weights: float, surrogate: Surrogate, variances: np.ndarray
    ) -> float | np.ndarray:
        # The normalisation divides W x by its standard deviation, whatever the size of W.
        mean, power = interpolation.at(
            functools.partial(moments.mean_and_power, surrogate), variances
        )
        return 1 / (power - mean**2)


def names() -> tuple[str, ...]:
    """The names of all stacks."""
    return tuple(_STACKS)


def get(name: str, argument: str = "stack") -> Stack:
    """The stack of that name.

    Args:
        name: one of `names()`.
        argument: its name in the error's message, default "stack".

    Raises:
        ValueError: there is no such stack.
    """
    return _STACKS[checks.one_of(name, argument, names())]
