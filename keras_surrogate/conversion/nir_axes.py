"""The order of a step's axes: Keras has the channels last, NIR has them first."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Axes:
    """Maps between the two orders, for shapes and arrays of one time step.

    Of three axes the last one in Keras is that of the channels. Two axes are (length, channels) in
    a model with a convolution over the length. In other models they are the rows and columns of an
    image without channels, which both order alike.

    Args:
        has_signals: True if there is a convolution over a length.
    """

    has_signals: bool

    def to_nir(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape with the channels first."""
        return (shape[-1], *shape[:-1]) if self._moves(len(shape)) else tuple(shape)

    def to_keras(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape with the channels last."""
        return (*shape[1:], shape[0]) if self._moves(len(shape)) else tuple(shape)

    def array_to_nir(self, array: np.ndarray) -> np.ndarray:
        """An array with the channels first."""
        return np.moveaxis(array, -1, 0) if self._moves(array.ndim) else array

    def array_to_keras(self, array: np.ndarray) -> np.ndarray:
        """An array with the channels last."""
        return np.moveaxis(array, 0, -1) if self._moves(array.ndim) else array

    def _moves(self, rank: int) -> bool:
        return rank > 2 or (rank == 2 and self.has_signals)
