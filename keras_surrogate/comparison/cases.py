"""One training of a grid, as plain values that fit a line of text."""

import dataclasses
import math

from keras_surrogate import datasets
from keras_surrogate.comparison import notation

NETWORKS = ("mlp", "vgg")
NORMALIZATIONS = ("none", "batch", "layer")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained, but for the seed.

    Args:
        data: a name that `datasets.load` takes; default "digits". Pixels are in [0, 1].
        network: "mlp", the default: hidden layers f(W x + b) of one width; or "vgg": convolutions
            of 3 x 3, a max-pool after every second one, the channels doubled after each pool. Then
            one Dense layer, Glorot-uniform.
        depth: hidden layers or convolutions, at least 1; default 5.
        width: units of each hidden layer, or channels of the first convolution, at least 2; default
            64.
        forward: the function that gives the value: a name in the collection, with its first
            parameter if need be ("leaky_relu:0.3"), or a Keras activation; default "relu".
        backward: the function that gives the slope, likewise, or "true", the forward's own; a
            factor may precede ("4*true", "0.5*softplus"). Default "true".
        balanced: whether the slope is scaled by `theory.balance` for these weights; default False.
            What the theory of balancing leaves out, it ignores: a bias, pooling.
        initializer: of the hidden layers' kernels: Keras's name, or "critical", `CriticalNormal`
            for the forward with its true slope; default "he_normal".
        bias: the biases' initial value in hidden layers, any finite number; default 0. -3 kills
            ReLU networks.
        normalization: of the pre-activations: "none", the default, "batch" or "layer".
        residual: whether hidden layers from the second on are x + f(W x + b); default False. For
            "mlp".
        optimizer: Keras's name and the learning rate, "sgd:0.01", the default; its other settings
            are Keras's.
        layer_rate: the learning rate of the hidden layer k layers before the output is multiplied
            by layer_rate ** k; positive, default 1. Under plain SGD 4 does the same as the slope
            "4*true".
        annealing: the share of all steps in which the slope goes over, evenly, to the true one;
            from 0, the default, for not at all, to 1.
        epochs: at least 1; default 10.
        batch_size: at least 1; default 32. What is left of an epoch's images is dropped; each epoch
            leaves others.
        images: so many of the training images, at least 1; default 0, all.
        validation: the share of these held out to choose learning rates by; from 0, the default, to
            below 1.

    Equal cases are spelled equally: "relu" as backward of "relu" becomes "true", "adam:1e-3"
    "adam:0.001".

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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._set(field.name, _of_type(field, getattr(self, field.name)))
        for name, (accepts, meaning) in _RANGES.items():
            if not accepts(getattr(self, name)):
                raise ValueError(f"Case: {name} must be {meaning}, but is {getattr(self, name)!r}.")
        self._set("forward", notation.spelled_function(self.forward))
        self._set("backward", notation.spelled_backward(self.backward, self.forward))
        self._set("optimizer", notation.spelled_optimizer(self.optimizer))
        notation.initializer(
            "zeros" if self.initializer == notation.CRITICAL else self.initializer, self.forward
        )
        if self.residual and (self.network != "mlp" or self.balanced):
            raise ValueError('Case: residual=True goes with network="mlp" and balanced=False only.')
        if self.annealing and self.backward == notation.TRUE and not self.balanced:
            self._set("annealing", 0.0)

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    @property
    def pair(self):
        """The `Surrogate`, not yet balanced."""
        return notation.pair(self.forward, self.backward)

    @property
    def baseline(self):
        """The same case with the true derivative, to which it is compared."""
        return dataclasses.replace(
            self, backward=notation.TRUE, balanced=False, annealing=0.0, layer_rate=1.0
        )

    @property
    def without_rate(self):
        """The case's values but for the learning rate; cases that share them compete for the best rate."""
        return tuple(
            {**dataclasses.asdict(self), "optimizer": self.optimizer.partition(":")[0]}.items()
        )

    def __str__(self):
        return self.in_words([field.name for field in dataclasses.fields(self)])

    def in_words(self, names):
        """These fields in words: "depth 20, slope softplus, balanced"; what is off by default, only where it is on."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in names}
        named = [name for name in names if name in _ALWAYS_NAMED or values[name] != defaults[name]]
        return ", ".join(_in_words(name, values[name]) for name in named)


_ALWAYS_NAMED = {
    "data",
    "network",
    "depth",
    "width",
    "forward",
    "backward",
    "initializer",
    "optimizer",
}
_ALWAYS_NAMED |= {"epochs", "batch_size"}


def _in_words(name, value):
    if isinstance(value, bool):
        return name
    if isinstance(value, str):
        return {"backward": f"slope {value}", "normalization": f"normalization {value}"}.get(
            name, value
        )
    return f"{name.replace('_', ' ')} {value:g}"


_AT_LEAST_1 = (lambda number: number >= 1, "an integer of at least 1")
_RANGES = {
    "data": (lambda name: name in datasets.names(), f"one of {datasets.names()}"),
    "network": (lambda name: name in NETWORKS, f"one of {NETWORKS}"),
    "depth": _AT_LEAST_1,
    "width": (lambda number: number >= 2, "an integer of at least 2"),
    "normalization": (lambda name: name in NORMALIZATIONS, f"one of {NORMALIZATIONS}"),
    "bias": (math.isfinite, "a finite number"),
    "layer_rate": (lambda number: 0 < number < math.inf, "a positive number"),
    "annealing": (lambda number: 0 <= number <= 1, "a number from 0 to 1"),
    "epochs": _AT_LEAST_1,
    "batch_size": _AT_LEAST_1,
    "images": (lambda number: number >= 0, "an integer of at least 1, or 0 for all"),
    "validation": (lambda number: 0 <= number < 1, "a number from 0 to below 1"),
}


def _of_type(field, value):
    """The value, an integer as a float where one is wanted."""
    kind = type(field.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"Case: {field.name} must be {_KINDS[kind]}, but is {value!r}.")
    return value


_KINDS = {str: "text", int: "an integer", float: "a number", bool: "True or False"}
