"""`alignment`: does the gradient point where a reference points, layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import keras
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_surrogate import checks, uses
from keras_surrogate.custom_gradient import Use, inlined_functions
from keras_surrogate.diagnosis import passes, preparing, references
from keras_surrogate.diagnosis.printing import as_html, short
from keras_surrogate.recording import names
from keras_surrogate.records import shortened


@dataclasses.dataclass(frozen=True, repr=False)
class AlignedLayer:
    """The alignment of one layer.

    Attributes:
        layer: its name; "global" for all layers together.
        cosine: the cosine of its gradient with the reference; None where one of them is 0 or not
            finite, or where the estimate of the reference is only noise.
        error: the standard error of the cosine; None for an exact reference.
        gradient_norm: the norm of its gradient.
        reference_norm: the norm of the reference; None where the estimate is only noise.
    """

    layer: str
    cosine: float | None
    error: float | None
    gradient_norm: float
    reference_norm: float | None

    def __repr__(self) -> str:
        cosine = "None" if self.cosine is None else f"{self.cosine:.3f}"
        error = "" if self.error is None else f" +- {short(self.error)}"
        return f"AlignedLayer({shortened(self.layer)}: cosine {cosine}{error})"


@dataclasses.dataclass(frozen=True, repr=False)
class Alignment:
    """The alignment of a model's gradient with a reference, on one batch.

    Attributes:
        model: the model's name.
        examples: the number of examples of the batch.
        reference: the name of the reference.
        rows: one `AlignedLayer` for each layer with weights, in the order of the calls.
        total: the `AlignedLayer` of all layers together.
    """

    model: str
    examples: int
    reference: str
    rows: tuple[AlignedLayer, ...]
    total: AlignedLayer

    @property
    def cosines(self) -> dict[str, float | None]:
        """The cosine of each layer, by its name."""
        return {row.layer: row.cosine for row in self.rows}

    def print(self, console: Console | None = None) -> None:
        """Print a table with a row for each layer.

        Args:
            console: a `rich.console.Console`; default None, standard output.
        """
        console = console or Console()
        table = Table(
            title=Text(f"{self.model}, one batch of {self.examples}"),
            title_justify="left",
            box=None,
        )
        table.add_column("layer", no_wrap=True)
        has_error = any(row.error is not None for row in (*self.rows, self.total))
        for title in ("cosine", *(["error"] if has_error else []), "gradient", "reference"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in (*self.rows, self.total):
            error = [short(row.error)] if has_error else []
            cosine = "" if row.cosine is None else f"{row.cosine:.3f}"
            numbers = [cosine, *error, short(row.gradient_norm), short(row.reference_norm)]
            table.add_row(Text(shortened(row.layer)), *numbers)
        console.print(table, Text(f"\n{self._legend()}", "dim"))

    def _legend(self) -> str:
        described = references.COLLECTION[self.reference].description
        return (
            f"cosine: of the layer's gradient with the reference {self.reference!r}, {described}. "
            "1 is the same direction, 0 is chance, below 0 is uphill."
        )

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        known = [row.cosine for row in self.rows if row.cosine is not None]
        cosines = f"cosines from {min(known):.2f} to {max(known):.2f}" if known else "no cosine"
        return (
            f"Alignment of {self.model} with {self.reference!r}: {self.examples} examples, "
            f"{len(self.rows)} layers, {cosines}; print() shows all"
        )

    def _repr_html_(self) -> str:
        """The output of `print` as HTML, for notebooks."""
        return as_html(self.print, 100)

    def to_dict(self) -> dict[str, object]:
        """All contents as dictionaries, lists, strings and numbers."""
        return dataclasses.asdict(self)


def alignment(
    model: keras.Model,
    x: object,
    y: object = None,
    reference: str | references.Reference | None = None,
    depth: int = 1,
) -> Alignment:
    """The cosine of each layer's gradient with a reference, on one batch.

        alignment(model, x_train[:256], y_train[:256]).print()

    The gradient is that of the compiled loss in training mode, with the model's surrogates. The
    weights, moving averages, seeds, metrics and the optimizer's state stay unchanged.

    Args:
        model: a Keras model of any kind, compiled with a loss, built or not, with surrogates on
            activations, weights or spiking neurons. This call builds it.
        x, y: one batch with its targets, or a source of batches (x, y), as in `diagnose`.
        reference: the gradient to compare with.
            "true": that with the true slopes. The default where no true slope is 0 everywhere.
            "smooth": that of the smooth network, `keras_surrogate.smooth_forward`. The default
            where a true slope is 0 everywhere, as of signs, roundings and spikes.
            "noise": that of the expected loss of the network that fires by chance; for surrogates
            of two values.
            "difference": finite differences of the loss; for small models.
            Or an object with settings, such as `references.Noise(samples=4096)`.
        depth: how far to look into layers that hold layers, as in `diagnose`; default 1.

    Returns:
        An `Alignment`.

    Raises:
        TypeError: `model` is not a Keras model; `x` is neither arrays nor a source of batches.
        ValueError: the model is not compiled with a loss, there are no targets, or the batch does
            not fit or is empty; the model has no surrogate; an unknown reference, or one that the
            model does not have.

    Source: the direction of surrogate gradients, as in Yin et al. 2019, arXiv:1903.05662.
    """
    depth = checks.integer(depth, "alignment: depth")
    if not isinstance(reference, references.Reference):
        checks.one_of(reference, "alignment: reference", (None, *references.names()))
    x, y = preparing.batch_with_targets("alignment", model, x, y)
    with preparing.speaking_as("alignment"):
        seen, noted, calls = _own_pass(model, x, y)
        if not any(map(uses.replaces_slope, noted)):
            raise ValueError(
                f"alignment: {model.name} has no surrogate on the way of this batch. Its gradient "
                "is the true one, so every cosine is 1. conversion.swap puts surrogates into a "
                "model."
            )
        case = references.Case(
            model, x, y, noted, seen.gradients, names.layer_variables(model, depth, calls)
        )
        chosen = references.get(reference, noted)
        chosen.check(case)
        found = chosen.compare(case)
    rows = tuple(_row(name, products) for name, products in found.items())
    examples = keras.tree.flatten(x)[0].shape[0]
    return Alignment(model.name, examples, chosen.name, rows, _total(found))


def _own_pass(model: keras.Model, x: object, y: object) -> tuple[passes.Pass, list[Use], list[int]]:
    """The pass with the surrogates; their uses; the ids of the layers in the order of the calls."""
    layers = names.layers_within(model, names.EVERY_DEPTH)
    objective = preparing.objective(model, x, y, 0)
    with passes.unchanged(model), uses.noted() as noted, inlined_functions():
        seen = preparing.reporting(model, x, lambda: passes.run(model, x, objective, layers))
    return seen, noted, list(seen.calls)


def _row(name: str, products: references.Products) -> AlignedLayer:
    return AlignedLayer(
        name,
        products.cosine,
        products.error,
        math.sqrt(products.own),
        math.sqrt(products.other) if products.other >= 0 else None,
    )


def _total(found: Mapping[str, references.Products]) -> AlignedLayer:
    """All layers together; the error is left out."""
    parts = found.values()
    joined = references.Products(
        sum(one.own for one in parts),
        sum(one.other for one in parts),
        sum(one.both for one in parts),
    )
    return _row("global", joined)
