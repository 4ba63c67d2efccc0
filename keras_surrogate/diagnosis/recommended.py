"""The result of `recommend`: measured options, best first, and the verdict in words."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Literal, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_surrogate.diagnosis.printing import as_html, plain, short
from keras_surrogate.records import shortened
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.theory.verdicts import Effect

Kind: TypeAlias = Literal[
    "true", "present", "slope", "weights", "normalisation", "calibrated", "rates"
]

# The printed columns of numbers: for each attribute of `Option` its title and its explanation.
_COLUMNS = {
    "ratio": ("ratio", "gradient norm at the first activation over that at the last one"),
    "cosine": ("cosine", "of the first layer's gradient with the reference; 1 is its direction"),
    "least_cosine": ("least", "the smallest such cosine of all layers"),
    "kept": ("kept", "decrease of the loss by the optimizer's next step, over first order's"),
    "decrease": ("decrease", "the same decrease over the loss"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Option:
    """A slope or a rival of slopes, with what was measured.

    Attributes:
        name: its name in the table.
        kind: "true", the true slope; "present", the slopes that the model has; "slope", a
            candidate; or a rival: "weights", other initial weights; "normalisation"; "calibrated",
            scales from `calibrate`; "rates", a learning rate for each layer.
        surrogate: the pair of a candidate; None for the others.
        ratio: the gradient's norm at the first activation over that at the last one. With "rates"
            of the rate times the gradient.
        cosine: that of the first layer's gradient with the reference; None where it is 0.
        least_cosine: the smallest one of all layers.
        kept: the decrease of the loss by the optimizer's next step, over what the gradient promises
            to first order, as in `first_order`.
        decrease: that decrease over the loss.
        effect: the effect on training by the rule of `theory.effect`, beside the true slope;
            None for the true slope.
        score: from 0 to 1, by which options of the same effect are ranked.
        change: what to write in Python to get it.
        now: True if the model has it at present.
        reason: why it was not measured; None where it was.

    Numbers are None where they were not measured.
    """

    name: str
    kind: Kind
    surrogate: Surrogate | None = None
    ratio: float | None = None
    cosine: float | None = None
    least_cosine: float | None = None
    kept: float | None = None
    decrease: float | None = None
    effect: Effect | None = None
    score: float | None = None
    change: str = ""
    now: bool = False
    reason: str | None = None

    def __repr__(self) -> str:
        if self.reason is not None:
            return f"Option({self.name}: not measured, {self.reason})"
        effect = "" if self.effect is None else f", {self.effect}"
        return f"Option({self.name}: ratio {short(self.ratio)}, cosine {_two(self.cosine)}{effect})"

    def to_dict(self) -> dict[str, object]:
        """All contents as dictionaries, strings and numbers."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.surrogate is not None:
            fields["surrogate"] = self.surrogate.get_config()
        return fields


@dataclasses.dataclass(frozen=True, repr=False)
class Recommended:
    """The slopes for a model, measured on one batch, and their rivals.

    Attributes:
        model: the model's name.
        examples: the number of examples of the batch.
        places: the places whose slope was changed, in words: "sign of 8 activations".
        others: the forwards of the activations that stayed as they are.
        optimizer: the class of the optimizer and its learning rate, in words.
        reference: the name of the reference of the cosines, as in `alignment`.
        dead: the largest share of dead units of one activation with the true slope.
        options: every `Option`, the best first; at the end those that were not measured.
        verdict: what to do, in words.
    """

    model: str
    examples: int
    places: str
    others: tuple[str, ...]
    optimizer: str
    reference: str
    dead: float
    options: tuple[Option, ...]
    verdict: str

    @property
    def best(self) -> Option:
        """The first option."""
        return self.options[0]

    @property
    def slopes(self) -> tuple[Option, ...]:
        """The candidates, best first."""
        return tuple(one for one in self.options if one.kind == "slope")

    def __getitem__(self, name: str) -> Option:
        """The option of a name.

        Raises:
            KeyError: there is none of this name.
        """
        for one in self.options:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.options)
        raise KeyError(f"There is no option {name!r}, but {names}.")

    def print(self, console: Console | None = None) -> None:
        """Print the verdict, a table with a row for each option, and what was not measured.

        Args:
            console: a `rich.console.Console`; default None, standard output.
        """
        console = console or Console()
        title = f"{self.model}, {self.places}, one batch of {self.examples}, {self.optimizer}"
        table = Table(title=Text(title), title_justify="left", box=None)
        table.add_column("option", no_wrap=True)
        for heading, _ in _COLUMNS.values():
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("effect", no_wrap=True)
        for one in self.options:
            if one.reason is None:
                name = one.name + " (now)" * one.now
                table.add_row(Text(name), *_cells(one), one.effect or "")
        legend = [f"{heading}: {words}." for heading, words in _COLUMNS.values()]
        legend.append(
            f"reference of the cosines: {self.reference!r}. effect: on training, by the rule of "
            "theory.effect, beside the true slope."
        )
        left = [
            Text(f"Not measured: {one.name}: {one.reason}.")
            for one in self.options
            if one.reason is not None
        ]
        console.print(table, Text("\n" + "\n".join(legend), "dim"), *left, sep="\n")
        console.print(Text(f"\n{self.verdict}"))
        if self.best.change:
            console.print(Text(f"  {self.best.change}"))

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        headline = (
            f"Recommended for {shortened(self.model)}: {self.places}, {len(self.options)} options, "
            f"best {self.best.name}; print() shows all. "
        )
        verdict = textwrap.shorten(self.verdict, 350, placeholder=" ...")
        return textwrap.fill(headline + verdict, 100, subsequent_indent="  ")

    def _repr_html_(self) -> str:
        """The output of `print` as HTML, for notebooks."""
        return as_html(self.print, 120)

    def to_dict(self) -> dict[str, object]:
        """All contents as dictionaries, lists, strings and numbers.

        NaN and infinity are strings, since JSON has no such numbers.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["options"] = [one.to_dict() for one in self.options]
        fields["best"] = self.best.name
        return plain(fields)


def _cells(one: Option) -> list[str]:
    return [
        short(one.ratio),
        _two(one.cosine),
        _two(one.least_cosine),
        _two(one.kept),
        _percent(one.decrease),
    ]


def _two(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _percent(number: float | None) -> str:
    return "" if number is None else f"{number:.1%}"
