"""What the rules look at, and what they give."""

import dataclasses

SEVERITIES = {3: "cannot learn", 2: "learns badly", 1: "could be better"}


@dataclasses.dataclass(frozen=True)
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
    prediction: what the theory says of such a network; None where it says nothing.
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

    def __str__(self):
        theory = [] if self.prediction is None else [f"Theory: {self.prediction}"]
        return "\n".join(
            [f"{self.message} [{SEVERITIES[self.severity]}]", *(f"  - {line}" for line in [*theory, *self.advice])]
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
        return any(normalises(row) for row in self.rows)

    @property
    def ratios(self):
        """First over last layer with a kernel: of the weights' gradients, and of the outputs'."""
        kernels = self.kernels
        if len(kernels) < 2:
            return []
        first, last = kernels[0], kernels[-1]
        pairs = [(first.gradient_norm, last.gradient_norm), (first.delta_norm, last.delta_norm)]
        return [one / other for one, other in pairs if one is not None and other]

    @property
    def first_over_last(self):
        """The smaller of the two; None where there is none."""
        return min(self.ratios, default=None)

    @property
    def predicted_gradient(self):
        """What the theory says of the gradient; None where it says nothing."""
        prediction = self.stack and self.stack.prediction
        return (
            prediction
            and f"{prediction.gradient_ratio:.2g} times, over {self.stack.depth} such layers of infinite width."
        )

    @property
    def predicted_signal(self):
        """What it says of the signal."""
        prediction = self.stack and self.stack.prediction
        return prediction and f"{self.stack.depth} such layers: {prediction.verdict.split(' The gradient ')[0]}"


def normalises(row):
    """Whether a layer normalises, to judge by its class's name."""
    return row.type.endswith("Normalization")


def finding(kind, severity, rows, value, threshold, message, remedies, prediction=None):
    layers = tuple(row.layer for row in rows)
    return Finding(kind, severity, layers[0], layers, value, threshold, message, remedies, prediction)


def names(rows, most=3):
    names = [row.layer for row in rows]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def among(rows, one, what="so are"):
    others = [row for row in rows if row is not one]
    return f"; {what} {names(others)}" if others else ""
