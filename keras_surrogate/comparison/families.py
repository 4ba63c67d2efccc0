"""The kinds of networks that a case can have: one class each, found by being defined."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

import keras
import numpy as np

from keras_surrogate.layers import LIF, ConstantCurrent, SurrogateActivation

if TYPE_CHECKING:
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.surrogate import Surrogate

# From name to family.
FAMILIES: dict[str, Family] = {}


class Family(abc.ABC):
    """A kind of network: what enters it, its hidden layers, and what leaves it.

    Attributes:
        name: the value of `Case.network`.
        area: the places of a kernel, by which its fan exceeds its channels.
        settings: from the name of another field of a case to the only value that fits.
        predicted: True if `theory.predict` applies to it.
        width_matters: True if the prediction takes the width into account.
    """

    name: ClassVar[str]
    area: ClassVar[int] = 1
    settings: ClassVar[dict[str, object]] = {}
    predicted: ClassVar[bool] = True
    width_matters: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        FAMILIES[cls.name] = cls()

    def check(self, case: Case, shape: tuple[int, ...]) -> None:  # noqa: B027, most fit any image
        """Raise a ValueError if a case does not fit images of that shape."""

    @abc.abstractmethod
    def channels(self, shape: tuple[int, ...]) -> int:
        """The numbers that enter a unit of the first layer, for each place of the kernel."""

    @abc.abstractmethod
    def enter(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """The input of the first hidden layer."""

    @abc.abstractmethod
    def layer(self, case: Case, number: int, **options: object) -> keras.layers.Layer:
        """The hidden layer of that number, from 0 on, without its activation."""

    def before_activation(self, number: int, x: keras.KerasTensor) -> keras.KerasTensor:
        """The input of an activation, from the output of its layer."""
        return x

    def activation(self, surrogate: Surrogate) -> keras.layers.Layer:
        """The activation of a hidden layer."""
        return SurrogateActivation(surrogate)

    def after(self, number: int, x: keras.KerasTensor) -> keras.KerasTensor:
        """The input of the next hidden layer, from the output of the layer of that number."""
        return x

    def leave(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The input of the last layer, which gives the logits: one vector for each image."""
        return keras.layers.Flatten()(x)


class Mlp(Family):
    """Dense layers of one width."""

    name = "mlp"
    width_matters = True

    def channels(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape))

    def enter(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Flatten()(inputs)

    def layer(self, case: Case, number: int, **options: object) -> keras.layers.Layer:
        return keras.layers.Dense(case.width, **options)


class Vgg(Family):
    """Convolutions of 3 x 3, with a max-pool after every second one and then twice the channels."""

    name = "vgg"
    area = 9
    settings: ClassVar = {"residual": False}

    def check(self, case: Case, shape: tuple[int, ...]) -> None:
        side = min(shape[:2])
        if side < 2 ** (case.depth // 2):
            most = 2 * int(np.log2(side)) + 1
            raise ValueError(
                f"Case: a vgg for {case.data}, of {side} x {side} pixels, has at most depth "
                f"{most}, but depth is {case.depth}."
            )

    def channels(self, shape: tuple[int, ...]) -> int:
        # Images without channels have one.
        return (*shape, 1)[2]

    def enter(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        if len(inputs.shape) == 4:
            return inputs
        return keras.layers.Reshape((*inputs.shape[1:], 1))(inputs)

    def layer(self, case: Case, number: int, **options: object) -> keras.layers.Layer:
        return keras.layers.Conv2D(case.width * 2 ** (number // 2), 3, padding="same", **options)

    def after(self, number: int, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.MaxPooling2D()(x) if number % 2 else x


class Resnet(Vgg):
    """Convolutions of one width with bypasses, and a max-pool after the first and the fourth."""

    name = "resnet"
    settings: ClassVar = {"residual": True}
    predicted = False

    def check(self, case: Case, shape: tuple[int, ...]) -> None:
        if min(shape[:2]) < 4:
            raise ValueError(
                f"Case: a resnet needs images of at least 4 x 4 pixels, but those of {case.data} "
                f"have {shape[0]} x {shape[1]}."
            )

    def layer(self, case: Case, number: int, **options: object) -> keras.layers.Layer:
        return keras.layers.Conv2D(case.width, 3, padding="same", **options)

    def after(self, number: int, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.MaxPooling2D()(x) if number in (0, 3) else x

    def leave(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.GlobalAveragePooling2D()(x)


class Spiking(Mlp):
    """Dense layers and leaky integrate-and-fire neurons; the logits see their firing rates."""

    name = "spiking"
    settings: ClassVar = {"forward": "step", "balanced": False, "residual": False, "annealing": 0.0}
    predicted = False
    steps: ClassVar[int] = 12

    def before_activation(self, number: int, x: keras.KerasTensor) -> keras.KerasTensor:
        # The image is the same in every step, and so is the first layer's output.
        return x if number else ConstantCurrent(self.steps)(x)

    def activation(self, surrogate: Surrogate) -> keras.layers.Layer:
        return LIF(surrogate=surrogate)

    def leave(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.GlobalAveragePooling1D()(x)
