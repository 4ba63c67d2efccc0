"""References: the gradients that the model's own gradient is compared with.

TrueSlopes()    the gradient with the true slopes
Smooth()        the gradient of the smooth network, `keras_surrogate.smooth_forward`
Noise()         the expected gradient of a network that fires by chance
Difference()    finite differences of the loss

A reference is one frozen dataclass with `check` and `compare`. It is found by being defined.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_surrogate import checks, functions, uses
from keras_surrogate.custom_gradient import (
    Use,
    inlined_functions,
    smooth_forward,
    true_gradients,
)
from keras_surrogate.diagnosis import noise, passes
from keras_surrogate.layers.weights import SurrogateWeights
from keras_surrogate.layers.within import everything_within

# Every reference by name.
COLLECTION: dict[str, type[Reference]] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What a reference is computed from.

    Attributes:
        model: a built and compiled Keras model.
        x, y: inputs and targets, tensors.
        uses: the uses of surrogates in one forward pass.
        gradients: from the ids of the trainable variables to the model's own gradients, or None.
        groups: the trainable variables of each layer, by the layer's name.
    """

    model: keras.Model
    x: object
    y: object
    uses: Sequence[Use]
    gradients: Mapping[int, tf.Tensor | None]
    groups: Mapping[str, Sequence[keras.Variable]]

    def own(self, name: str) -> np.ndarray:
        """The own gradient of a layer as a vector, in float64."""
        return flat(self.gradients, self.groups[name])


@dataclasses.dataclass(frozen=True)
class Products:
    """The inner products from which a cosine is computed, for one layer.

    Attributes:
        own: that of the own gradient with itself.
        other: that of the reference with itself.
        both: that of the own gradient with the reference.
        error: the standard error of the cosine; None for an exact reference.
    """

    own: float
    other: float
    both: float
    error: float | None = None

    @property
    def cosine(self) -> float | None:
        """The cosine; None where a gradient is 0 or not finite."""
        if not np.isfinite([self.own, self.other, self.both]).all():
            return None
        # An estimated square can be below 0.
        if self.own <= 0 or self.other <= 0:
            return None
        return float(np.clip(self.both / np.sqrt(self.own) / np.sqrt(self.other), -1, 1))


class Reference(abc.ABC):
    """The base of the references. A subclass becomes a frozen dataclass of its settings.

    Attributes that a class declares:
        name: the name in `alignment`.
        description: what it is, in a few words.
    """

    name: ClassVar[str]
    description: ClassVar[str]

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True)(cls)
        COLLECTION[cls.name] = cls

    def check(self, case: Case) -> None:  # noqa: B027, most models have most references
        """Raise a ValueError if the model has no such reference."""

    @abc.abstractmethod
    def compare(self, case: Case) -> dict[str, Products]:
        """The products of each layer, by its name."""


def names() -> tuple[str, ...]:
    """The names that `alignment(reference=...)` takes."""
    return tuple(COLLECTION)


def get(reference: str | Reference | None, seen: Sequence[Use]) -> Reference:
    """The reference of a name; None is "smooth" where a true slope is 0 everywhere, else "true"."""
    if isinstance(reference, Reference):
        return reference
    if reference is None:
        return Smooth() if uses.flat_forwards(seen) else TrueSlopes()
    return COLLECTION[checks.one_of(reference, "alignment: reference", names())]()


def flat(
    gradients: Mapping[int, tf.Tensor | None], variables: Sequence[keras.Variable]
) -> np.ndarray:
    """Gradients of some variables in one vector, in float64; 0 where a gradient is None."""
    parts = []
    for variable in variables:
        gradient = gradients[id(variable)]
        if gradient is None:
            parts.append(np.zeros(int(np.prod(variable.shape))))
        else:
            parts.append(np.asarray(gradient, np.float64).ravel())
    return np.concatenate(parts)


def exact(case: Case, gradients: Mapping[int, tf.Tensor | None]) -> dict[str, Products]:
    """The products of each layer with gradients that are known without an error."""
    found = {}
    for name, variables in case.groups.items():
        own = case.own(name)
        other = flat(gradients, variables)
        found[name] = Products(own @ own, other @ other, own @ other)
    return found


def gradients_of(case: Case) -> dict[int, tf.Tensor | None]:
    """The gradients of the compiled loss, by the ids of the variables; the model is unchanged."""

    def objective(outputs):
        return passes.compiled_loss(case.model, case.x, case.y, outputs)

    with passes.unchanged(case.model), inlined_functions():
        return passes.run(case.model, case.x, objective, ()).gradients


class TrueSlopes(Reference):
    """The gradient with the true slopes of all surrogates."""

    name = "true"
    description = "the gradient with the true slopes"

    def check(self, case: Case) -> None:
        titles = uses.flat_forwards(case.uses)
        if titles:
            raise ValueError(
                f"alignment: the reference 'true' does not exist for {case.model.name}, because "
                f"the true slope of {', '.join(titles)} is 0 everywhere. Use reference='smooth'."
            )

    def compare(self, case: Case) -> dict[str, Products]:
        with true_gradients(case.model):
            return exact(case, gradients_of(case))


class Smooth(Reference):
    """The gradient of the smooth network with the same weights, `keras_surrogate.smooth_forward`.

    It is exact, for a network whose signals differ from those of the model.
    """

    name = "smooth"
    description = "the gradient of the smooth network, whose forward is the backward's function"

    def compare(self, case: Case) -> dict[str, Products]:
        with smooth_forward(case.model):
            return exact(case, gradients_of(case))


class Noise(Reference):
    """The gradient of the expected loss of a network that fires by chance.

    Each surrogate of two values takes the upper one with the probability p(x) that its backward's
    function gives: the value within `smooth_forward`, with 0 and 1 for the two values. The gradient
    of the expected loss is estimated without bias, by

        mean over draws of sum over units of (loss - baseline) * d log P(value) / dx

    with the loss of the example that the unit belongs to, and for a baseline the mean loss of the
    other draws of the same example. What follows the last unit has its ordinary gradient. With
    batch normalisation, which joins the examples of a batch, it is an approximation.

    The error of a cosine is estimated from independent parts of the draws. It grows with the depth:
    deep networks need more draws than one has time for.

    Args:
        samples: the draws for each example, an integer of at least 8, default 1024.
        seed: the seed of the draws, an integer of at least 0, default 0.

    Source: Gygax and Zenke 2025, arXiv:2404.14964, for the network; Williams 1992,
    doi:10.1007/BF00992696, for the estimate; Mnih and Rezende 2016, arXiv:1602.06725, for the
    baseline.
    """

    name = "noise"
    description = "the gradient of the expected loss of the network that fires by chance"

    samples: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer(self.samples, "Noise: samples", 8)
        checks.integer(self.seed, "Noise: seed", 0)

    def check(self, case: Case) -> None:
        held = (case.model, *everything_within(case.model))
        wrapped = [layer.name for layer in held if isinstance(layer, SurrogateWeights)]
        if wrapped:
            raise _no_noise(case, f"{wrapped[0]} has surrogates on weights, which are not drawn")
        for use in filter(uses.replaces_slope, case.uses):
            title = "a rounding" if use.pair is None else use.pair.title
            if use.blended:
                raise _no_noise(case, f"{title} is blended with its true slope")
            if use.pair is None or not noise.has_probability(use.pair):
                raise _no_noise(case, f"{title} does not choose between two values")

    def compare(self, case: Case) -> dict[str, Products]:
        with passes.unchanged(case.model), inlined_functions():
            estimates = noise.estimates(case.model, case.x, case.y, self.samples, self.seed)
        return {
            name: _estimated(case.own(name), np.stack([flat(one, variables) for one in estimates]))
            for name, variables in case.groups.items()
        }


def _no_noise(case: Case, reason: str) -> ValueError:
    return ValueError(
        f"alignment: the reference 'noise' does not exist for {case.model.name}: {reason}. Use "
        "reference='smooth' or 'difference'."
    )


def _estimated(own: np.ndarray, estimates: np.ndarray) -> Products:
    """The products with the mean of independent estimates, shape (estimates, size)."""
    count = len(estimates)
    total = estimates.sum(axis=0)
    # Without the products of an estimate with itself, which the noise makes too large.
    other = (total @ total - np.sum(estimates**2)) / (count * (count - 1))
    projections = estimates @ own
    error = None
    if other > 0 and own.any():
        deviation = projections.std(ddof=1) / np.sqrt(count)
        error = float(deviation / np.sqrt(own @ own) / np.sqrt(other))
    return Products(own @ own, other, projections.mean(), error)


class Difference(Reference):
    """Finite differences of the loss: what a small change of the weights really does.

    With h = step * root mean square of the layer's weights, and v a unit vector of a coordinate or
    a vector of random normal numbers,

        (loss(w + h v) - loss(w - h v)) / (2 h)

    is compared with v . gradient. A layer with no more weights than `directions` has all of its
    coordinates; the others have random directions, and their cosines have an error. The loss is
    computed twice for each direction of each layer: for small models.

    Args:
        directions: the most directions of a layer, an integer of at least 8, default 256.
        step: the length h, in (0, inf), default 0.05. It must be so large that several units
            change: with few examples the differences of a step are 0 or large.
        seed: the seed of the directions, an integer of at least 0, default 0.

    Source: Kim et al. 2020, BinaryDuo, arXiv:2002.06517, for coordinates.
    """

    name = "difference"
    description = "finite differences of the loss"

    directions: int = 256
    step: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer(self.directions, "Difference: directions", 8)
        checks.integer(self.seed, "Difference: seed", 0)
        functions.real_number(
            self.step, "Difference", "step", "a positive number", lambda step: step > 0
        )

    def compare(self, case: Case) -> dict[str, Products]:
        loss = passes.loss_function(case.model, case.x, case.y)
        generator = np.random.default_rng(self.seed)
        return {
            name: self._of_layer(case, name, variables, loss, generator)
            for name, variables in case.groups.items()
        }

    def _of_layer(
        self,
        case: Case,
        name: str,
        variables: Sequence[keras.Variable],
        loss: Callable[[], float],
        generator: np.random.Generator,
    ) -> Products:
        own = case.own(name)
        before = [variable.numpy() for variable in variables]
        weights = np.concatenate([value.ravel() for value in before]).astype(np.float64)
        size = np.sqrt(np.mean(weights**2))
        # Weights that are all 0 have no size.
        length = self.step * (size if size > 0 else 1.0)
        measured = []
        predicted = []
        try:
            for direction in self._directions(len(weights), generator):
                ends = []
                for side in (length, -length):
                    _assign(variables, weights + side * direction)
                    ends.append(loss())
                measured.append((ends[0] - ends[1]) / (2 * length))
                predicted.append(own @ direction)
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
        measured = np.array(measured)
        predicted = np.array(predicted)
        if len(weights) <= self.directions:
            return Products(own @ own, measured @ measured, own @ measured)
        # For normal vectors the mean of (v . a) (v . b) is a . b, so that the cosine is a
        # correlation, whose standard error is (1 - cosine**2) / sqrt(directions).
        means = (predicted @ predicted, measured @ measured, predicted @ measured)
        products = Products(*(mean / self.directions for mean in means))
        if products.cosine is None:
            return products
        error = (1 - products.cosine**2) / np.sqrt(self.directions)
        return dataclasses.replace(products, error=float(error))

    def _directions(self, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
        if size <= self.directions:
            yield from np.eye(size)
            return
        for _ in range(self.directions):
            yield generator.standard_normal(size)


def _assign(variables: Sequence[keras.Variable], values: np.ndarray) -> None:
    """Assign the parts of one vector to variables."""
    start = 0
    for variable in variables:
        end = start + int(np.prod(variable.shape))
        variable.assign(values[start:end].reshape(variable.shape))
        start = end
