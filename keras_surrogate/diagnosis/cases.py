"""What the rules look at, and what they give."""

import dataclasses

from keras_surrogate.diagnosis import endings
from keras_surrogate.theory import verdicts

SEVERITIES = {3: "cannot learn", 2: "learns badly", 1: "could be better"}


@dataclasses.dataclass(frozen=True, repr=False)
class Finding:
    """One fault.

    kind: its name, one of those in `findings.RULES`.
    severity: 3, the model or a part of it cannot learn; 2, it learns badly; 1, it could be better.
    layer: the layer it is about; None where it is the data.
    layers: all of them, where several have it.
    value: the number that triggered it.
    threshold: what it was compared with.
    message: a sentence with both.
    advice: the changes that would help, the first one first.
    prediction: what the theory says of such a network; None where it says nothing, or is wrong
        here.
    """

    kind: str
    severity: int
    layer: str | None
    layers: tuple
    value: float
    threshold: float
    message: str
    advice: tuple
    prediction: str | None = None

    def __repr__(self):
        where = "" if self.layer is None else f" at {self.layer}"
        return f"Finding({self.kind}{where}: {self.value:.2g}, bound {self.threshold:.2g}; {SEVERITIES[self.severity]})"

    def __str__(self):
        theory = [] if self.prediction is None else [f"Theory: {self.prediction}"]
        return "\n".join(
            [
                f"{self.message} [{SEVERITIES[self.severity]}]",
                *(f"  - {line}" for line in [*theory, *self.advice]),
            ]
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """What the rules look at: the table, and what is known besides.

    adaptive: whether the compiled optimizer rescales gradients; None where there is none.
    has_loss: whether the gradients are those of the compiled loss.
    """

    batch: object
    rows: tuple
    stack: object
    adaptive: bool | None
    has_loss: bool

    @property
    def kernels(self):
        return [row for row in self.rows if row.has_kernel]

    @property
    def weighted(self):
        return [row for row in self.rows if row.gradient_norm is not None]

    @property
    def has_surrogates(self):
        """Whether some activation has a slope that is not its own."""
        return any(row.is_surrogate for row in self.rows)

    @property
    def is_normalised(self):
        """Whether anything in it is."""
        return any(row.normalises for row in self.rows)

    @property
    def is_normalised_throughout(self):
        """Whether most layers with a kernel or an activation, where it is known, get what has been normalised."""
        counted = [
            row for row in self.rows if row.has_kernel or row.activation not in (None, "linear")
        ]
        known = [row.is_normalised for row in counted if row.is_normalised is not None]
        return sum(known) > len(known) / 2

    @property
    def may_have_residuals(self):
        """Whether it has residual connections, or parts of which the table does not show whether they do."""
        return any(row.joins_skip or row.is_opaque or None in row.reads for row in self.rows)

    @property
    def has_squashing(self):
        """Whether it has activations with two flat ends, in whose place a rectifier can be tried."""
        return any(row.activation in BOUNDED and not row.is_output for row in self.rows)

    @property
    def compared(self):
        """The layers with a kernel whose gradients are compared: not those that open with the first step."""
        return [
            row for row in self.kernels if not row.ending or row.ending.cause != endings.OPENS_LATER
        ]

    @property
    def ratios(self):
        """First over last layer with a kernel: of the weights' gradients, and of the outputs'."""
        if len(self.compared) < 2:
            return []
        first, last = self.compared[0], self.compared[-1]
        pairs = [(first.gradient_norm, last.gradient_norm), (first.delta_norm, last.delta_norm)]
        return [one / other for one, other in pairs if one is not None and other]

    @property
    def first_over_last(self):
        """The smaller of the two; None where there is none."""
        return min(self.ratios, default=None)

    @property
    def predicted_gradient(self):
        """What the theory says of the gradient; None where it says nothing, or the measurement differs by a decade.

        It is about the gradients of the pre-activations of the hidden layers alone.
        """
        prediction, hidden = self.stack and self.stack.prediction, self.kernels[:-1]
        if not prediction or not hidden or not hidden[-1].delta_norm or not hidden[0].delta_norm:
            return None
        measured = hidden[0].delta_norm / hidden[-1].delta_norm
        if not 0.1 < prediction.gradient_ratio / measured < 10:
            return None
        return (
            f"in {self.stack.depth} such layers of infinite width, the gradient that comes to the output of the first "
            f"is {prediction.gradient_ratio:.2g} times that of the last hidden one; here it is {measured:.2g} times."
        )

    @property
    def predicted_signal(self):
        """What it says of the signal; None where it says nothing, or that all is well."""
        prediction = self.stack and self.stack.prediction
        if not prediction or not verdicts.signal_is_lost(prediction):
            return None
        said = prediction.verdict.split(" The gradient ")[0]
        # That the variance survives is no news where the inputs can no longer be told apart.
        said = said[said.index("From layer") :] if "The signal survives" in said else said
        return f"in {self.stack.depth} such layers of infinite width: {said}"

    @property
    def predicted_growth(self):
        """How much it says that the signal grows."""
        prediction = self.stack and self.stack.prediction
        if not prediction:
            return None
        first, last = prediction.signal_variance[[0, -1]]
        return (
            f"in {self.stack.depth} such layers of infinite width, the variance before the activation goes from "
            f"{first:.2g} to {last:.2g}."
        )

    @property
    def predicted_direction(self):
        """What it says of the direction at the first layer; None where it says nothing, or is far off."""
        prediction, measured = self.stack and self.stack.prediction, self.kernels[0].cosine
        if not prediction or prediction.alignment is None or measured is None:
            return None
        cosine = float(prediction.alignment[0])
        if abs(cosine - measured) > 0.25:
            return None
        return (
            f"in {self.stack.depth} such layers of infinite width, the cosine with the true gradient at the first is "
            f"{cosine:.2f}; here it is {measured:.2f}."
        )


# Activations that are nearly flat on both sides, with their bounds.
BOUNDED = {
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softsign": (-1, 1),
    "hard_tanh": (-1, 1),
}


def finding(kind, severity, rows, value, threshold, message, remedies, prediction=None):
    layers = tuple(row.layer for row in rows)
    return Finding(
        kind, severity, layers[0], layers, value, threshold, message, remedies, prediction
    )


def about_data(kind, severity, value, threshold, message, remedies):
    """A finding about no layer."""
    return Finding(kind, severity, None, (), value, threshold, message, remedies)


def names(rows, most=3):
    names = [row.layer for row in rows]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def among(rows, one, what="so are"):
    others = [row for row in rows if row is not one]
    return f"; {what} {names(others)}" if others else ""
