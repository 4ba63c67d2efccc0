"""`first_order`: what one step really gains, over what the gradient promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_surrogate import functions
from keras_surrogate.diagnosis import passes, preparing
from keras_surrogate.diagnosis.printing import as_html, short

# Norms of a step over the norm of the weights.
_LENGTHS = tuple(float(length) for length in np.geomspace(1e-3, 1, 12))


@dataclasses.dataclass(frozen=True, repr=False)
class OneStep:
    """One step.

    Attributes:
        name: "gradient" for a step along the negative gradient; otherwise the optimizer's class.
        length: the norm of the step over the norm of the weights.
        promised: the decrease of the loss that the gradient promises, -(gradient . step).
        decrease: the decrease of the loss of this batch.
    """

    name: str
    length: float
    promised: float
    decrease: float

    @property
    def kept(self) -> float | None:
        """The decrease over what was promised: 1 is a promise kept; None where it is 0."""
        if self.promised == 0 or not np.isfinite(self.promised):
            return None
        return self.decrease / self.promised

    def __repr__(self) -> str:
        return (
            f"OneStep({self.name}: length {short(self.length)}, promised {short(self.promised)}, "
            f"decrease {short(self.decrease)})"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class FirstOrder:
    """The one-step test of a model on one batch.

    Attributes:
        model: the model's name.
        examples: the number of examples of the batch.
        loss: the loss of the batch.
        optimizer: the `OneStep` that the compiled optimizer would take next.
        steps: the `OneStep`s along the negative gradient, the shortest first.
    """

    model: str
    examples: int
    loss: float
    optimizer: OneStep
    steps: tuple[OneStep, ...]

    @property
    def drop(self) -> float:
        """The largest decrease along the negative gradient over the loss; 0 if all increase it."""
        best = max((step.decrease for step in self.steps), default=0.0)
        return max(0.0, best) / abs(self.loss) if self.loss else 0.0

    def print(self, console: Console | None = None) -> None:
        """Print a table with a row for each step.

        Args:
            console: a `rich.console.Console`; default None, standard output.
        """
        console = console or Console()
        title = f"{self.model}, one batch of {self.examples}, loss {self.loss:.4g}"
        table = Table(title=Text(title), title_justify="left", box=None)
        table.add_column("step")
        for column in ("length", "promised", "decrease", "kept"):
            table.add_column(column, justify="right", no_wrap=True)
        for step in (self.optimizer, *self.steps):
            kept = "" if step.kept is None else f"{step.kept:.2f}"
            numbers = (step.length, step.promised, step.decrease)
            table.add_row(step.name, *map(short, numbers), kept)
        words = (
            "length: norm of the step over norm of the weights. promised: decrease of the loss by "
            "first order. decrease: what the step gains. kept: decrease over promised; short steps "
            "along a true gradient keep 1, below 0 the step is uphill.\n"
            f"drop: along the gradient the loss falls by {self.drop:.1%} at most."
        )
        console.print(table, Text(f"\n{words}", "dim"))

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        kept = "nothing promised" if self.optimizer.kept is None else f"{self.optimizer.kept:.2f}"
        return (
            f"FirstOrder of {self.model}: {self.examples} examples, loss {self.loss:.4g}, "
            f"{self.optimizer.name} keeps {kept}, drop {self.drop:.1%}; print() shows all"
        )

    def _repr_html_(self) -> str:
        """The output of `print` as HTML, for notebooks."""
        return as_html(self.print, 100)

    def to_dict(self) -> dict[str, object]:
        """All contents as dictionaries, lists, strings and numbers."""
        return {**dataclasses.asdict(self), "drop": self.drop}


def first_order(
    model: keras.Model, x: object, y: object = None, lengths: Sequence[float] = _LENGTHS
) -> FirstOrder:
    """The decrease of the loss in one step, over what the gradient promises.

        first_order(model, x_train[:256], y_train[:256]).print()

    With the gradient g of the compiled loss on one batch, with the model's surrogates, and a change
    d of the weights,

        promised = -(g . d)
        decrease = loss(w) - loss(w + d)
        kept = decrease / promised

    for the next step of the compiled optimizer, and for steps d = -length * norm(w) / norm(g) * g.
    It tests the sentence that any slope is good as long as the loss decreases. All losses are those
    of the same batch in training mode, with the same random numbers. The model stays unchanged.

    In float32 a loss has seven digits: `kept` is noise for a step that changes fewer of them.

    Args:
        model, x, y: as in `alignment`. The model may be without surrogates.
        lengths: norms of the step over the norm of the weights, positive numbers; default twelve
            from 0.001 to 1.

    Returns:
        A `FirstOrder`.

    Raises:
        TypeError, ValueError: as in `alignment`; or a length that is not positive; or the compiled
            optimizer cannot be copied.
    """
    lengths = sorted(
        functions.real_number(
            length, "first_order", "lengths", "positive numbers", lambda length: length > 0
        )
        for length in lengths
    )
    x, y = preparing.batch_with_targets("first_order", model, x, y)
    with preparing.speaking_as("first_order"):
        objective = preparing.objective(model, x, y, 0)
        with passes.unchanged(model):
            seen = preparing.reporting(model, x, lambda: passes.run(model, x, objective, ()))
        start = Start(model, seen.gradients, passes.loss_function(model, x, y))
        own = start.of_optimizer()
    steps = [start.along_gradient(length) for length in lengths if start.steepness > 0]
    examples = keras.tree.flatten(x)[0].shape[0]
    return FirstOrder(model.name, examples, start.loss, own, tuple(steps))


class Start:
    """The present weights of a model with one gradient, from which steps are tried.

    Args:
        model: a built and compiled Keras model.
        gradients: from the ids of the trainable variables to their gradients, or None.
        loss: the function of `passes.loss_function`.

    Attributes:
        loss: the loss at the present weights.
        steepness: the norm of the gradient.
    """

    loss: float
    steepness: float

    def __init__(
        self,
        model: keras.Model,
        gradients: Mapping[int, tf.Tensor | None],
        loss: Callable[[], float],
    ) -> None:
        self._model = model
        self._gradients = gradients
        self._loss = loss
        self._variables = [
            one for one in model.trainable_variables if gradients[id(one)] is not None
        ]
        self._gradient = [np.asarray(gradients[id(one)], np.float64) for one in self._variables]
        self._weights = [np.asarray(variable, np.float64) for variable in self._variables]
        self._size = _norm(self._weights)
        self.steepness = _norm(self._gradient)
        self.loss = loss()

    def of_optimizer(self) -> OneStep:
        """The next step of the compiled optimizer."""
        changes = passes.updates(self._model, dict(self._gradients))
        own = [np.asarray(changes[id(variable)], np.float64) for variable in self._variables]
        return self._step(type(self._model.optimizer).__name__, own)

    def along_gradient(self, length: float) -> OneStep:
        """A step along the negative gradient, whose norm is `length` times that of the weights."""
        factor = -length * self._size / self.steepness
        return self._step("gradient", [factor * one for one in self._gradient])

    def _step(self, name: str, change: Sequence[np.ndarray]) -> OneStep:
        products = zip(self._gradient, change, strict=True)
        promised = -sum(float(np.sum(one * other)) for one, other in products)
        after = _loss_after(self._loss, self._variables, self._weights, change)
        length = _norm(change) / self._size if self._size else np.inf
        return OneStep(name, length, promised, self.loss - after)


def _norm(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(one**2) for one in arrays)))


def _loss_after(
    loss: Callable[[], float],
    variables: Sequence[keras.Variable],
    weights: Sequence[np.ndarray],
    change: Sequence[np.ndarray],
) -> float:
    """The loss after a change of the weights, which are restored."""
    held = [tf.identity(variable.value) for variable in variables]
    try:
        for variable, weight, difference in zip(variables, weights, change, strict=True):
            variable.assign(weight + difference)
        return loss()
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)
