"""What `diagnose` returns: the table and the findings, to be read, printed or written to a file."""

import dataclasses

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from keras_surrogate.diagnosis.cases import SEVERITIES
from keras_surrogate.records import shortened

# What is printed, in two tables where one is too wide.
COLUMNS = {
    "signal_mean": "mean",
    "signal_variance": "variance",
    "zero_centredness": "mean / rms",
    "dead_units": "dead",
    "saturated": "saturated",
    "effective_rank": "rank",
    "sign_agreement": "same sign",
    "gradient_norm": "gradient",
    "gradient_ratio": "to last",
    "cosine": "cosine",
    "update_ratio": "update",
}
_SIGNAL = 6  # so many of them are about the signal
_WIDE = 120
_SHARES = {"dead_units", "saturated", "sign_agreement"}
_NOTHING = "Nothing was found that is known to hinder training."
_ONE = (
    "Of one example it cannot be said whether units are dead or the signal has collapsed: that needs several, 64 or "
    "more."
)
_COLORS = {3: "bold red", 2: "yellow", 1: "cyan"}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """One batch's diagnosis of a model.

    model: its name.
    batch: a `Batch`, the inputs' numbers.
    rows: a tuple of `Row`, in the order in which the layers are called.
    findings: a tuple of `Finding`, the gravest first; empty where nothing was found.
    """

    model: str
    batch: object
    rows: tuple
    findings: tuple

    def print(self, console=None, rows=40):
        """Prints the table, in two parts where the terminal is narrow, and the findings.

        Args:
            console: a `rich.console.Console`; default None, standard output.
            rows: of more layers than this the table has the first and the last, and those that a finding names; an
                integer of at least 2, default 40.
        """
        console = console or Console()
        names = list(COLUMNS)
        parts = [names] if console.width >= _WIDE else [names[:_SIGNAL], names[_SIGNAL:]]
        console.print(*[self._table(part, rows) for part in parts], self._words(), sep="\n")

    def _table(self, columns, most):
        table = Table(title=Text(f"{self.model}, one batch of {self.batch.size}"), title_justify="left", box=None)
        table.add_column("layer", no_wrap=True)
        for name in columns:
            table.add_column(COLUMNS[name], justify="right", no_wrap=True)
        chosen = self._chosen(most)
        for row in chosen:
            table.add_row(Text(shortened(row.layer)), *(_cell(name, getattr(row, name)) for name in columns))
        if len(chosen) < len(self.rows):
            table.caption = f"{len(chosen)} of {len(self.rows)} layers; print(rows=...) shows more."
        return table

    def _chosen(self, most):
        if len(self.rows) <= most:
            return self.rows
        named = {finding.layer for finding in self.findings}
        half = max(1, most // 2)
        places = {*range(half), *range(len(self.rows) - half, len(self.rows))}
        return [row for number, row in enumerate(self.rows) if number in places or row.layer in named]

    def _words(self):
        found = [_in_words(number, finding) for number, finding in enumerate(self.findings, 1)]
        return Group(*(found or [Text(f"\n{_NOTHING}")]), *([Text(f"\n{_ONE}")] if self.batch.size < 2 else []))

    def __str__(self):
        return "\n".join(map(str, self.findings)) or _NOTHING

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
    text = Text(f"\n{number}. ").append(f"{SEVERITIES[finding.severity]}: ", _COLORS[finding.severity])
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
