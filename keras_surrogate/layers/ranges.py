"""Ranges of a neuron's parameters, and the weights that stay inside them when learned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Range:
    """A range of numbers with a map onto its inside from all numbers.

    Attributes:
        meaning: the valid numbers in words.
        accepts: true for valid numbers.
        inside: true for valid numbers that the map reaches, where learning can start.
        value: the map from weights to numbers of the range.
        weight: its inverse, for one number.
    """

    meaning: str
    accepts: Callable[[float], bool]
    inside: Callable[[float], bool]
    value: Callable[[tf.Tensor], tf.Tensor]
    weight: Callable[[float], float]


FRACTION = Range(
    "a number from 0 to 1, such as exp(-dt / tau)",
    accepts=lambda number: 0 <= number <= 1,
    inside=lambda number: 0 < number < 1,
    value=tf.sigmoid,
    weight=lambda number: math.log(number) - math.log1p(-number),
)

POSITIVE = Range(
    "a positive number",
    accepts=lambda number: number > 0,
    inside=lambda number: number > 0,
    value=tf.nn.softplus,
    # The inverse of log(1 + exp(w)), without overflow for large numbers.
    weight=lambda number: number + math.log(-math.expm1(-number)),
)
