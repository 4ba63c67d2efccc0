"""The result of `diagnose`: the table and the findings, to read, print or write to a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from keras_surrogate import checks
from keras_surrogate.diagnosis.cases import SEVERITIES
from keras_surrogate.diagnosis.printing import as_html, plain, short
from keras_surrogate.records import shortened

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.batches import Batch
    from keras_surrogate.diagnosis.cases import Finding
    from keras_surrogate.diagnosis.layer_table import Row

# The printed columns: for each field of `Row` its title and its explanation.
COLUMNS = {
    "signal_mean": ("mean", "mean of the layer's outputs for this batch"),
    "signal_variance": (
        "variance",
        "variance of the same; it should neither vanish nor explode from layer to layer",
    ),
    "zero_centredness": (
        "mean / rms",
        "abs(mean) over root mean square: 0 is centred, 1 is all equal",
    ),
    "firing_rate": ("firing", "share of neurons and time steps with a spike"),
    "dead_units": ("dead", "share of units that are 0 for every example, or never fire"),
    "dormant_units": (
        "dormant",
        "share of units whose mean abs(output) is at most 2.5% of that of the layer",
    ),
    "saturated": (
        "saturated",
        "share of outputs in the flat ends of the activation, or of units that always fire",
    ),
    "effective_rank": (
        "rank",
        "number of directions in which the first 64 examples differ; 1 is one line",
    ),
    "sign_agreement": (
        "same sign",
        "share of a unit's weight gradients with the same sign; 50% is chance",
    ),
    "gradient_norm": ("gradient", "norm of the gradient of the layer's weights"),
    "gradient_ratio": ("to last", "this norm over that of the last layer with weights"),
    "cosine": (
        "cosine",
        "cosine with the true gradient; 1 where no derivative is replaced",
    ),
    "update_ratio": (
        "update",
        "norm of the optimizer's next step over norm of the weights; 1e-3 is usual",
    ),
}
# The columns about the signal, printed as a table of their own where one table is too wide.
_SIGNAL = list(COLUMNS)[:7]
_WIDE = 120
_SHARES = {"firing_rate", "dead_units", "dormant_units", "saturated", "sign_agreement"}
_NOTHING = "No known fault was found."
_ONE = (
    "Dead units and a collapsed signal cannot be detected with one example. Give several, 64 or "
    "more."
)
_RANDOM = (
    "Without targets and a compiled loss, the gradients are those of random errors at the outputs. "
    "Their directions and their ratios between layers are valid. Their absolute sizes are not, nor "
    "is the update of an optimizer that does not rescale them (SGD)."
)
_COLORS = {3: "bold red", 2: "yellow", 1: "cyan"}


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """The diagnosis of a model on one batch.

    Attributes:
        model: the model's name.
        batch: the numbers of the inputs and targets.
        rows: one `Row` a layer, in the order of their calls.
        findings: the faults, the gravest first; empty where none was found.
        has_loss: True if the gradients are those of the compiled loss; False if they are those of
            random errors at the outputs.
    """

    model: str
    batch: Batch
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    has_loss: bool = True

    @property
    def legend(self) -> dict[str, str]:
        """The explanation of each printed column, by its title."""
        return dict(COLUMNS[name] for name in self._columns)

    @property
    def _columns(self) -> list[str]:
        """The fields for which some layer has a number."""
        return [
            name for name in COLUMNS if any(getattr(row, name) is not None for row in self.rows)
        ]

    def print(self, console: Console | None = None, rows: int = 40) -> None:
        """Print the table, in two parts where the terminal is narrow, and the findings.

        Args:
            console: a `rich.console.Console`; default None, standard output.
            rows: the largest number of rows, an integer of at least 2, default 40. With more
                layers, the table has the first and the last ones, and those that a finding names.
        """
        rows = checks.integer(rows, "Diagnosis.print: rows", least=2)
        console = console or Console()
        parts = [self._columns]
        if console.width < _WIDE:
            parts = [
                [name for name in self._columns if (name in _SIGNAL) is half]
                for half in (True, False)
            ]
        console.print(*[self._table(part, rows) for part in parts if part], self._words(), sep="\n")

    def _table(self, columns: list[str], most: int) -> Table:
        table = Table(
            title=Text(f"{self.model}, one batch of {self.batch.size}"),
            title_justify="left",
            box=None,
        )
        table.add_column("layer", no_wrap=True)
        for name in columns:
            table.add_column(COLUMNS[name][0], justify="right", no_wrap=True)
        chosen = self._chosen(most)
        for row in chosen:
            table.add_row(
                Text(shortened(row.layer)), *(_cell(name, getattr(row, name)) for name in columns)
            )
        if len(chosen) < len(self.rows):
            table.caption = f"{len(chosen)} of {len(self.rows)} layers; print(rows=...) shows more."
        return table

    def _chosen(self, most: int) -> Sequence[Row]:
        if len(self.rows) <= most:
            return self.rows
        named = {finding.layer for finding in self.findings}
        half = max(1, most // 2)
        places = {*range(half), *range(len(self.rows) - half, len(self.rows))}
        return [
            row for number, row in enumerate(self.rows) if number in places or row.layer in named
        ]

    def _words(self) -> Group:
        legend = [Text(f"{title}: {words}", "dim") for title, words in self.legend.items()]
        notes = [*([] if self.has_loss else [_RANDOM]), *([_ONE] if self.batch.size < 2 else [])]
        found = [_in_words(number, finding) for number, finding in enumerate(self.findings, 1)]
        return Group(
            Text(),
            *legend,
            *(Text(f"\n{note}") for note in notes),
            *(found or [Text(f"\n{_NOTHING}")]),
        )

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or _NOTHING

    def __repr__(self) -> str:
        lines = [
            f"Diagnosis of {self.model}: {self.batch.size} examples, {len(self.rows)} layers; "
            "print() shows all"
        ]
        for severity, words in SEVERITIES.items():
            found = [finding for finding in self.findings if finding.severity == severity]
            told = [
                finding.kind + (f" at {finding.layer}" if finding.layer else "")
                for finding in found
            ]
            lines += [f"  {words}: {', '.join(told)}"] if told else []
        return "\n".join(lines if self.findings else [*lines, "  nothing found"])

    def _repr_html_(self) -> str:
        """The output of `print` as HTML, for notebooks."""
        return as_html(self.print, _WIDE)

    def to_dict(self) -> dict[str, object]:
        """All contents as dictionaries, lists, strings and numbers.

        NaN and infinity are strings, since JSON has no such numbers.
        """
        return plain(
            {
                "model": self.model,
                "batch": dataclasses.asdict(self.batch),
                "rows": [dataclasses.asdict(row) for row in self.rows],
                "findings": [dataclasses.asdict(finding) for finding in self.findings],
            }
        )


def _cell(name: str, number: float | None) -> str:
    if number is None:
        return ""
    if name in _SHARES and np.isfinite(number):
        return f"{number:.0%}"
    return short(number)


def _in_words(number: int, finding: Finding) -> Text:
    text = Text(f"\n{number}. ").append(
        f"{SEVERITIES[finding.severity]}: ", _COLORS[finding.severity]
    )
    text.append(finding.message)
    if finding.prediction:
        text.append(f"\n   Theory: {finding.prediction}")
    for line in finding.advice:
        text.append(f"\n   - {line}")
    return text
