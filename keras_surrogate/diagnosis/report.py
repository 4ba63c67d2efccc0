"""What `diagnose` returns: the table and the findings, to be read, printed or written to a file."""

import dataclasses
import io

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from keras_surrogate.diagnosis.cases import SEVERITIES
from keras_surrogate.records import shortened

# What is printed, in two tables where one is too wide: of each field of `Row` the title, and what
# it is.
COLUMNS = {
    "signal_mean": ("mean", "of all that comes out of the layer for this batch"),
    "signal_variance": (
        "variance",
        "of the same; it should neither die out nor explode from layer to layer",
    ),
    "zero_centredness": (
        "mean / rms",
        "abs(mean) over root mean square: 0 is centred, 1 all equal",
    ),
    "dead_units": ("dead", "share of units that are 0 for every example"),
    "saturated": ("saturated", "share of outputs in the flat ends of the activation"),
    "effective_rank": (
        "rank",
        "in how many directions the examples (the first 64) still differ; 1 is one line",
    ),
    "sign_agreement": (
        "same sign",
        "share of a unit's weight gradients with the same sign: 50% is chance",
    ),
    "gradient_norm": ("gradient", "norm of the gradient of the layer's weights"),
    "gradient_ratio": ("to last", "the same, over that of the last layer with weights"),
    "cosine": (
        "cosine",
        "between this gradient and the true one; 1 where no derivative is replaced",
    ),
    "update_ratio": (
        "update",
        "norm of the optimizer's next step over that of the weights; 1e-3 is usual",
    ),
}
_SIGNAL = list(COLUMNS)[:6]  # those about the signal
_WIDE = 120
_SHARES = {"dead_units", "saturated", "sign_agreement"}
_NOTHING = "Nothing was found that is known to hinder training."
_ONE = (
    "Of one example it cannot be said whether units are dead or the signal has collapsed: that needs several, 64 or "
    "more."
)
_RANDOM = (
    "Without targets and a compiled loss the gradients are those of random errors at the outputs. Their ratios from "
    "layer to layer and their directions can be trusted; their absolute sizes cannot, nor the update of an optimizer "
    "that does not rescale them (SGD)."
)
_COLORS = {3: "bold red", 2: "yellow", 1: "cyan"}


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """One batch's diagnosis of a model.

    model: its name.
    batch: a `Batch`, the inputs' numbers.
    rows: a tuple of `Row`, in the order in which the layers are called.
    findings: a tuple of `Finding`, the gravest first; empty where nothing was found.
    has_loss: whether the gradients are those of the compiled loss, and not of random errors at the
        outputs.
    """

    model: str
    batch: object
    rows: tuple
    findings: tuple
    has_loss: bool = True

    @property
    def legend(self):
        """What the columns of the printed table are: a dictionary from title to a few words."""
        return dict(COLUMNS[name] for name in self._columns)

    @property
    def _columns(self):
        """The fields that any layer has a number for."""
        return [
            name for name in COLUMNS if any(getattr(row, name) is not None for row in self.rows)
        ]

    def print(self, console=None, rows=40):
        """Prints the table, in two parts where the terminal is narrow, and the findings.

        Args:
            console: a `rich.console.Console`; default None, standard output.
            rows: of more layers than this the table has the first and the last, and those that a
                finding names; an integer of at least 2, default 40.
        """
        console = console or Console()
        parts = [self._columns]
        if console.width < _WIDE:
            parts = [
                [name for name in self._columns if (name in _SIGNAL) is half]
                for half in (True, False)
            ]
        console.print(*[self._table(part, rows) for part in parts if part], self._words(), sep="\n")

    def _table(self, columns, most):
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

    def _chosen(self, most):
        if len(self.rows) <= most:
            return self.rows
        named = {finding.layer for finding in self.findings}
        half = max(1, most // 2)
        places = {*range(half), *range(len(self.rows) - half, len(self.rows))}
        return [
            row for number, row in enumerate(self.rows) if number in places or row.layer in named
        ]

    def _words(self):
        legend = [Text(f"{title}: {words}", "dim") for title, words in self.legend.items()]
        notes = [*([] if self.has_loss else [_RANDOM]), *([_ONE] if self.batch.size < 2 else [])]
        found = [_in_words(number, finding) for number, finding in enumerate(self.findings, 1)]
        return Group(
            Text(),
            *legend,
            *(Text(f"\n{note}") for note in notes),
            *(found or [Text(f"\n{_NOTHING}")]),
        )

    def __str__(self):
        return "\n".join(map(str, self.findings)) or _NOTHING

    def __repr__(self):
        lines = [
            f"Diagnosis of {self.model}: {self.batch.size} examples, {len(self.rows)} layers; print() shows all"
        ]
        for severity, words in SEVERITIES.items():
            found = [finding for finding in self.findings if finding.severity == severity]
            told = [
                finding.kind + (f" at {finding.layer}" if finding.layer else "")
                for finding in found
            ]
            lines += [f"  {words}: {', '.join(told)}"] if told else []
        return "\n".join(lines if self.findings else [*lines, "  nothing found"])

    def _repr_html_(self):
        """What `print` shows, for notebooks."""
        console = Console(record=True, width=_WIDE, file=io.StringIO())
        self.print(console)
        return console.export_html(
            inline_styles=True, code_format='<pre style="overflow-x: auto">{code}</pre>'
        )

    def to_dict(self):
        """Everything as dictionaries, lists, strings and numbers; NaN and infinity are strings, for JSON's sake."""
        return _plain(
            {
                "model": self.model,
                "batch": dataclasses.asdict(self.batch),
                "rows": [dataclasses.asdict(row) for row in self.rows],
                "findings": [dataclasses.asdict(finding) for finding in self.findings],
            }
        )


def _cell(name, number):
    if number is None:
        return ""
    if name in _SHARES and np.isfinite(number):
        return f"{number:.0%}"
    return f"{number:.2g}".replace("e-0", "e-").replace("e+0", "e+")


def _in_words(number, finding):
    text = Text(f"\n{number}. ").append(
        f"{SEVERITIES[finding.severity]}: ", _COLORS[finding.severity]
    )
    text.append(finding.message)
    if finding.prediction:
        text.append(f"\n   Theory: {finding.prediction}")
    for line in finding.advice:
        text.append(f"\n   - {line}")
    return text


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
