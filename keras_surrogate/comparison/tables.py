"""The rows of a summary as text: a rich table for the terminal, and Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from keras_surrogate.comparison.cases import Case
from keras_surrogate.comparison.summary import record

if TYPE_CHECKING:
    from keras_surrogate.comparison.statistics import Interval
    from keras_surrogate.comparison.summary import CaseSummary

_NUMBERS = (
    "accuracy %",
    "sd",
    "difference",
    "theory says",
    "seeds",
    "diverged",
    "gradient ratio",
    "cosine",
    "dead %",
)
_NOTES = (
    "Accuracy: on the test images, mean and standard deviation over seeds. Difference: to the true "
    "derivative, all else equal, seed by seed, in points, with Student's 95 % interval for each "
    "row by itself: of twenty rows that differ in nothing one is expected to show a difference. "
    "Gradient ratio: first over last hidden layer, and cosine: with the true gradient at the "
    "first, both at initialisation; in brackets the theory's prediction. Theory says: what the "
    "slope does to training; a difference is shown if it is a point or more and its interval "
    "leaves out 0. Dead: hidden units of constant output after training."
)
_DIVERGED = (
    "A run that diverged counts with the accuracy that it ended with, which is about that of "
    "guessing."
)
_EDGE = "* Chosen on images held out; no smaller, or no larger, learning rate was tried."


def table(rows: Sequence[CaseSummary]) -> Table:
    """A rich table: the fields in which the cases differ, and the numbers of each `CaseSummary`."""
    varied = _varied(rows)
    notes = {"caption": " ".join(_notes(rows)), "caption_justify": "left"}
    style = {"box": box.SIMPLE_HEAD, "collapse_padding": True, "title_justify": "left"}
    result = Table(title=_common(varied, rows), **style, **notes)
    for name in varied:
        result.add_column(_heading(name), no_wrap=True)
    for name in _NUMBERS:
        result.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    before = None
    for row in rows:
        if before is not None and row.setting != before:
            result.add_section()
        before = row.setting
        result.add_row(*_cells(row, varied))
    return result


def markdown(rows: Sequence[CaseSummary]) -> str:
    """The same as Markdown: the common fields, the table, and notes."""
    varied = _varied(rows)
    rule = ["---"] * len(varied) + ["---:"] * len(_NUMBERS)
    lines = [[*map(_heading, varied), *_NUMBERS], rule, *(_cells(row, varied) for row in rows)]
    body = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
    return "\n\n".join([f"{_common(varied, rows)}.", body, *map(_escaped, _notes(rows))]) + "\n"


def _record(rows: Sequence[CaseSummary]) -> str:
    """The number of right predictions of the theory, and the kinds of its errors."""
    counts = record(rows)
    right = sum(count for (predicted, shown), count in counts.items() if predicted == shown)
    wrong = [
        f'it says "{predicted}" where {_SHOWN[shown]}: {count}'
        for (predicted, shown), count in counts.most_common()
        if predicted != shown
    ]
    said = f"The theory is right about {right} of {counts.total()} slopes"
    return "; ".join([said, *wrong]) + "."


_SHOWN = {"helps": "the slope helps", "hurts": "it hurts", "none": "no difference is shown"}


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("|", r"\|")


def _heading(name: str) -> str:
    return name.replace("_", " ")


def _varied(rows: Sequence[CaseSummary]) -> list[str]:
    """The fields in which the rows' cases differ; at least the slope."""
    fields = [field.name for field in dataclasses.fields(Case)]
    return [
        name
        for name in fields
        if name == "backward" or len({getattr(row.case, name) for row in rows}) > 1
    ]


def _common(varied: Sequence[str], rows: Sequence[CaseSummary]) -> str:
    """The fields that all cases share, in words."""
    shared = [field.name for field in dataclasses.fields(Case) if field.name not in varied]
    return rows[0].case.in_words(shared)


def _notes(rows: Sequence[CaseSummary]) -> list[str]:
    notes = [_NOTES]
    if any(row.diverged for row in rows):
        notes.append(_DIVERGED)
    if any(row.at_edge for row in rows):
        notes.append(_EDGE)
    if record(rows):
        notes.append(_record(rows))
    return notes


def _cells(row: CaseSummary, varied: Sequence[str]) -> list[str]:
    return [
        *(_value(row, name) for name in varied),
        *_accuracies(row),
        *_counts(row),
        *_theory(row),
        _dead(row),
    ]


def _value(row: CaseSummary, name: str) -> str:
    value = getattr(row.case, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if name == "optimizer" and row.at_edge:
        return f"{value} *"
    return str(value)


def _accuracies(row: CaseSummary) -> list[str]:
    cells = [_percent(row.accuracy.mean), _percent(row.deviation), _difference(row.difference)]
    return [*cells, row.predicted_effect or ""]


def _difference(difference: Interval | None) -> str:
    if difference is None:
        return ""
    mean = _points(difference.mean)
    if difference.low is None:
        return mean
    return f"{mean} ({_points(difference.low)} to {_points(difference.high)})"


def _points(share: float) -> str:
    return _percent(share, "+.1f")


def _percent(share: float | None, style: str = ".1f") -> str:
    return "" if share is None else format(100 * share, style)


def _counts(row: CaseSummary) -> list[str]:
    return [str(len(row.runs)), str(row.diverged)]


def _theory(row: CaseSummary) -> list[str]:
    ratio = _beside(row.gradient_ratio, row.predicted_gradient_ratio, ".2g")
    return [ratio, _beside(row.cosine, row.predicted_cosine, ".2f")]


def _beside(measured: float | None, predicted: float | None, style: str) -> str:
    """The measured number, followed by the predicted one in brackets."""
    text = "-" if measured is None else format(measured, style)
    if predicted is not None:
        text = f"{text} ({predicted:{style}})"
    return text


def _dead(row: CaseSummary) -> str:
    return _percent(row.dead_units, ".0f")
