"""One training of a grid, as plain values that fit a line of text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import checks, datasets
from keras_surrogate.comparison import notation
from keras_surrogate.comparison.families import FAMILIES

if TYPE_CHECKING:
    from keras_surrogate.surrogate import Surrogate


@dataclasses.dataclass(frozen=True)
class Case:
    """A training without its seed.

    Args:
        data: a name of `datasets.names()`; default "digits". Pixels are in [0, 1].
        network: "mlp", the default: hidden layers f(W x + b) of one width; or "vgg": convolutions
            of 3 x 3, a max-pool after every second one, the channels doubled after each pool; or
            "resnet": convolutions of one width, x + f(W x + b) from the second on (residual=True),
            with two max-pools and the mean over places; or "spiking": Dense layers and
            `layers.LIF`, 12 steps of constant input, the mean over time of the last spikes. Then
            one Dense layer, Glorot-uniform.
        depth: hidden layers or convolutions, at least 1; default 5.
        width: units of each hidden layer, or channels of the first convolution, at least 2; default
            64.
        forward: the function that gives the value: a name in the collection, which may be followed
            by its first parameter ("leaky_relu:0.3"), or a Keras activation; default "relu".
        backward: the function that gives the slope, in the same notation, or "true", the forward's
            own slope; a factor may precede it ("4*true", "0.5*softplus"), or "calibrated": in
            "calibrated*softplus" each layer has the scale of `diagnosis.calibrate` at the start of
            each training. Default "true".
        balanced: True scales the slope by `theory.balance` for these weights, which ignores biases
            and pooling; default False.
        initializer: the initializer of the hidden layers' kernels: Keras's name; or "critical",
            `CriticalNormal` for the forward with its true slope; or "variance:3", normal weights of
            variance 3 / fan_in. Default "he_normal".
        bias: the biases' initial value in hidden layers, any finite number; default 0. With -3 ReLU
            networks die.
        normalization: that of the pre-activations: "none", the default, "batch" or "layer";
            "batch:0.9" has moving averages of this momentum, instead of Keras's 0.99. In trainings
            of a few hundred steps at large learning rates those of Keras lag behind, and the
            accuracy is that of the lag.
        residual: True makes hidden layers from the second on x + f(W x + b); default False. For
            "mlp" and "resnet".
        optimizer: Keras's name and the learning rate, default "sgd:0.01"; its other settings are
            Keras's. "momentum:0.01" is SGD with a momentum of 0.9.
        layer_rate: the learning rate of the hidden layer k layers before the output is multiplied
            by layer_rate ** k; positive, default 1. Under plain SGD 4 is equivalent to the slope
            "4*true".
        annealing: the share of all steps during which the slope changes linearly to the true one;
            from 0, the default, without annealing, to 1.
        epochs: at least 1; default 10.
        batch_size: at least 1; default 32. The images of an incomplete last batch are dropped;
            they differ in each epoch.
        images: the number of training images, at least 1; default 0, all.
        validation: the share of these that is held out to choose learning rates; from 0, the
            default, to below 1.

    Equal cases are spelled equally: "relu" as the backward of "relu" becomes "true", and
    "adam:1e-3" becomes "adam:0.001".

    Raises:
        ValueError: an unknown name, a number out of range, or a combination that has no meaning.
    """

    data: str = "digits"
    network: str = "mlp"
    depth: int = 5
    width: int = 64
    forward: str = "relu"
    backward: str = "true"
    balanced: bool = False
    initializer: str = "he_normal"
    bias: float = 0.0
    normalization: str = "none"
    residual: bool = False
    optimizer: str = "sgd:0.01"
    layer_rate: float = 1.0
    annealing: float = 0.0
    epochs: int = 10
    batch_size: int = 32
    images: int = 0
    validation: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._set(field.name, _of_type(field, getattr(self, field.name)))
        for name, valid in _CHOICES.items():
            checks.one_of(getattr(self, name), f"Case: {name}", valid)
        for name, (accepts, meaning) in _RANGES.items():
            if not accepts(getattr(self, name)):
                raise ValueError(f"Case: {name} must be {meaning}, but is {getattr(self, name)!r}.")
        self._set("normalization", notation.spelled_normalization(self.normalization))
        self._set("forward", notation.spelled_function(self.forward))
        self._set("backward", notation.spelled_backward(self.backward, self.forward))
        self._set("optimizer", notation.spelled_optimizer(self.optimizer))
        self._set("initializer", notation.spelled_initializer(self.initializer, self.forward))
        for name, only in FAMILIES[self.network].settings.items():
            if getattr(self, name) != only:
                raise ValueError(
                    f"Case: network={self.network!r} goes with {name}={only!r} only, but it is "
                    f"{getattr(self, name)!r}."
                )
        if self.residual and self.balanced:
            raise ValueError("Case: residual=True goes with balanced=False only, but it is True.")
        for name, off in {"balanced": False, "annealing": 0.0}.items():
            if self.calibrated and getattr(self, name) != off:
                raise ValueError(
                    f"Case: backward={self.backward!r} goes with {name}={off!r} only, but it is "
                    f"{getattr(self, name)!r}."
                )
        # Annealing from the true slope to the true slope changes nothing.
        if self.annealing and self.backward == notation.TRUE and not self.balanced:
            self._set("annealing", 0.0)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def pair(self) -> Surrogate:
        """The `Surrogate`, not yet balanced."""
        return notation.pair(self.forward, self.backward)

    @property
    def calibrated(self) -> bool:
        """True if the scales are those of `diagnosis.calibrate`."""
        return notation.is_calibrated(self.backward)

    @property
    def normalization_kind(self) -> str:
        """The name of the normalization, without a momentum."""
        return notation.normalization(self.normalization)[0]

    @property
    def rate(self) -> float:
        """The learning rate."""
        return notation.optimizer(self.optimizer)[1]

    @property
    def rescales(self) -> bool:
        """True if the optimizer rescales each parameter's step: all but SGD."""
        return self.optimizer.partition(":")[0] not in ("sgd", notation.MOMENTUM)

    @property
    def baseline(self) -> Case:
        """The same case with the true derivative, with which it is compared."""
        return dataclasses.replace(
            self, backward=notation.TRUE, balanced=False, annealing=0.0, layer_rate=1.0
        )

    @property
    def without_rate(self) -> tuple[tuple[str, object], ...]:
        """The fields and values without the learning rate, which is chosen among such cases."""
        values = dataclasses.asdict(self)
        values["optimizer"] = self.optimizer.partition(":")[0]
        return tuple(values.items())

    def __str__(self) -> str:
        return self.in_words([field.name for field in dataclasses.fields(self)])

    def in_words(self, names: Iterable[str]) -> str:
        """These fields in words, as in "depth 20, slope softplus, balanced".

        Fields that are off by default appear only where they are on.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in names}
        return ", ".join(
            _in_words(name, value)
            for name, value in values.items()
            if name in _ALWAYS_NAMED or value != defaults[name]
        )


_ALWAYS_NAMED = {
    "data",
    "network",
    "depth",
    "width",
    "forward",
    "backward",
    "initializer",
    "optimizer",
    "epochs",
    "batch_size",
}


def _in_words(name: str, value: str | float) -> str:
    if isinstance(value, bool):
        return name
    if name == "backward":
        return f"slope {value}"
    if name == "normalization":
        return f"normalization {value}"
    if isinstance(value, str):
        return value
    return f"{name.replace('_', ' ')} {value:g}"


_AT_LEAST_1 = (lambda number: number >= 1, "an integer of at least 1")
_CHOICES = {"data": datasets.names(), "network": list(FAMILIES)}
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "depth": _AT_LEAST_1,
    "width": (lambda number: number >= 2, "an integer of at least 2"),
    "bias": (math.isfinite, "a finite number"),
    "layer_rate": (lambda number: 0 < number < math.inf, "a positive number"),
    "annealing": (lambda number: 0 <= number <= 1, "a number from 0 to 1"),
    "epochs": _AT_LEAST_1,
    "batch_size": _AT_LEAST_1,
    "images": (lambda number: number >= 0, "an integer of at least 1, or 0 for all"),
    "validation": (lambda number: 0 <= number < 1, "a number from 0 to below 1"),
}


def _of_type(field: dataclasses.Field, value: object) -> object:
    """The value in the field's type; integers are valid numbers, and NumPy's numbers are valid."""
    kind = type(field.default)
    if kind is float and isinstance(value, int | np.integer | np.floating):
        value = value if isinstance(value, bool) else float(value)
    if kind is int and isinstance(value, np.integer):
        value = int(value)
    if type(value) is not kind:
        raise ValueError(f"Case: {field.name} must be {_KINDS[kind]}, but is {value!r}.")
    return value


_KINDS = {str: "text", int: "an integer", float: "a number", bool: "True or False"}
