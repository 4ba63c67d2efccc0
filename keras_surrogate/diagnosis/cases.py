"""The input of the rules, `RuleInput`, and their result, `Finding`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_surrogate.diagnosis import endings
from keras_surrogate.theory import verdicts

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.batches import Batch
    from keras_surrogate.diagnosis.layer_table import Row
    from keras_surrogate.diagnosis.objectives import Objective
    from keras_surrogate.diagnosis.plain_stack import Stack

SEVERITIES = {3: "cannot learn", 2: "learns badly", 1: "could be better"}

# Activations that are nearly flat on both sides, with their bounds.
BOUNDED = {
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softsign": (-1, 1),
    "hard_tanh": (-1, 1),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Finding:
    """One fault.

    Attributes:
        kind: its name, one of those in `findings.RULES`.
        severity: 3, the model or a part of it cannot learn; 2, it learns badly; 1, it could be
            better.
        layer: the layer that has the fault; None if it is in the data.
        layers: all layers that have it.
        value: the number that was measured.
        threshold: the bound that it was compared with.
        message: the fault in words, with both numbers.
        advice: changes that help, in the order in which to try them.
        prediction: the theory's prediction for such a network; None where it has none, or where it
            differs from the measurement.
    """

    kind: str
    severity: int
    layer: str | None
    layers: tuple[str, ...]
    value: float
    threshold: float
    message: str
    advice: tuple[str, ...]
    prediction: str | None = None

    def __repr__(self) -> str:
        where = "" if self.layer is None else f" at {self.layer}"
        return (
            f"Finding({self.kind}{where}: {self.value:.2g}, bound {self.threshold:.2g}; "
            f"{SEVERITIES[self.severity]})"
        )

    def __str__(self) -> str:
        theory = [] if self.prediction is None else [f"Theory: {self.prediction}"]
        lines = [f"  - {line}" for line in [*theory, *self.advice]]
        return "\n".join([f"{self.message} [{SEVERITIES[self.severity]}]", *lines])


@dataclasses.dataclass(frozen=True)
class RuleInput:
    """The input of every rule.

    Attributes:
        batch: the `Batch`.
        rows: the table.
        stack: the plain stack that the model is, or None.
        adaptive: True if the compiled optimizer rescales gradients; None without an optimizer.
        has_loss: True if the gradients are those of the compiled loss.
        objectives: the losses with their outputs and targets, where these are clear.
    """

    batch: Batch
    rows: tuple[Row, ...]
    stack: Stack | None
    adaptive: bool | None
    has_loss: bool
    objectives: tuple[Objective, ...] = ()

    @property
    def kernels(self) -> list[Row]:
        return [row for row in self.rows if row.has_kernel]

    @property
    def weighted(self) -> list[Row]:
        return [row for row in self.rows if row.gradient_norm is not None]

    @property
    def has_surrogates(self) -> bool:
        return any(row.is_surrogate for row in self.rows)

    @property
    def is_normalised(self) -> bool:
        """True if any layer normalises."""
        return any(row.normalises for row in self.rows)

    @property
    def is_normalised_throughout(self) -> bool:
        """True if most layers that compute have normalised inputs, as far as known."""
        counted = [
            row for row in self.rows if row.has_kernel or row.activation not in (None, "linear")
        ]
        known = [row.is_normalised for row in counted if row.is_normalised is not None]
        return sum(known) > len(known) / 2

    @property
    def may_have_residuals(self) -> bool:
        """True if there are residual connections, or parts that the table does not show."""
        return any(row.joins_skip or row.is_opaque or None in row.reads for row in self.rows)

    @property
    def has_squashing(self) -> bool:
        """True if a hidden activation has two flat ends, so that a rectifier can replace it."""
        return any(row.activation in BOUNDED and not row.is_output for row in self.rows)

    @property
    def compared(self) -> list[Row]:
        """The layers with a kernel whose gradients are compared.

        Without those whose kernel gets a gradient only after the first step.
        """
        return [
            row for row in self.kernels if not row.ending or row.ending.cause != endings.OPENS_LATER
        ]

    @property
    def ratios(self) -> list[float]:
        """Gradient norms, first over last layer with a kernel: of weights, and of outputs."""
        compared = self.compared
        if len(compared) < 2:
            return []
        first = compared[0]
        last = compared[-1]
        pairs = [(first.gradient_norm, last.gradient_norm), (first.delta_norm, last.delta_norm)]
        return [one / other for one, other in pairs if one is not None and other]

    @property
    def first_over_last(self) -> float | None:
        """The smaller of the two ratios; None where there is none."""
        return min(self.ratios, default=None)

    @property
    def predicted_gradient(self) -> str | None:
        """The predicted gradient ratio; None where it differs from the measured one by a decade.

        Both are about the gradients of the pre-activations of the hidden layers.
        """
        prediction = self.stack and self.stack.prediction
        hidden = self.kernels[:-1]
        if not prediction or not hidden or not hidden[-1].delta_norm or not hidden[0].delta_norm:
            return None
        measured = hidden[0].delta_norm / hidden[-1].delta_norm
        if not 0.1 < prediction.gradient_ratio / measured < 10:
            return None
        return (
            f"in {self.stack.depth} such layers of infinite width, the gradient at the output of "
            f"the first layer is {prediction.gradient_ratio:.2g} times that of the last hidden "
            f"one. Measured: {measured:.2g} times."
        )

    @property
    def predicted_signal(self) -> str | None:
        """The prediction for the signal; None where there is none, or where it sees no fault."""
        prediction = self.stack and self.stack.prediction
        if not prediction or not verdicts.signal_is_lost(prediction):
            return None
        said = prediction.verdict.split(" The gradient ")[0]
        # The variance is beside the point where the inputs are indistinguishable.
        start = said.find("From layer") if "The signal survives" in said else 0
        return f"in {self.stack.depth} such layers of infinite width: {said[max(start, 0) :]}"

    @property
    def predicted_growth(self) -> str | None:
        """The predicted growth of the signal."""
        prediction = self.stack and self.stack.prediction
        if not prediction:
            return None
        first, last = prediction.signal_variance[[0, -1]]
        return (
            f"in {self.stack.depth} such layers of infinite width, the variance before the "
            f"activation goes from {first:.2g} to {last:.2g}."
        )

    @property
    def predicted_direction(self) -> str | None:
        """The predicted cosine at the first layer; None where it is far from the measured one."""
        prediction = self.stack and self.stack.prediction
        measured = self.kernels[0].cosine
        if not prediction or prediction.alignment is None or measured is None:
            return None
        cosine = float(prediction.alignment[0])
        if abs(cosine - measured) > 0.25:
            return None
        return (
            f"in {self.stack.depth} such layers of infinite width, the cosine with the true "
            f"gradient is {cosine:.2f} at the first layer. Measured: {measured:.2f}."
        )


def finding(
    kind: str,
    severity: int,
    rows: Sequence[Row],
    value: float,
    threshold: float,
    message: str,
    advice: tuple[str, ...],
    prediction: str | None = None,
) -> Finding:
    """A finding about the layers of some rows, the first of which is named."""
    layers = tuple(row.layer for row in rows)
    return Finding(kind, severity, layers[0], layers, value, threshold, message, advice, prediction)


def about_data(
    kind: str,
    severity: int,
    value: float,
    threshold: float,
    message: str,
    advice: tuple[str, ...],
) -> Finding:
    """A finding about no layer."""
    return Finding(kind, severity, None, (), value, threshold, message, advice)


def names(rows: Sequence[Row], most: int = 3) -> str:
    """The names of the first layers, and the number of the others."""
    layers = [row.layer for row in rows]
    more = f" and {len(layers) - most} more" if len(layers) > most else ""
    return ", ".join(layers[:most]) + more


def also(rows: Sequence[Row], one: Row) -> str:
    """The other layers with the same fault in brackets, or nothing."""
    others = [row for row in rows if row is not one]
    return f" (also {names(others)})" if others else ""
