"""Short displays of results at the prompt and in a notebook: their kind and main numbers."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np

# The width of the prompt in columns, the names in a list, and the rows of a table in a notebook.
_WIDTH = 100
_NAMES = 5
_ROWS = 30


class Shown:
    """A mix-in for results that are too large to print completely.

    A dataclass that uses it needs `repr=False`. A class defines `_facts`, and may define `_more`
    and `_table`:
        _facts(): a dictionary from the name of a main number to that number. The `repr` is the
            name of the class and these facts. An empty name is left out.
        _more: an expression that shows the rest; default none.
        _table(): headings and rows, which a notebook shows; default None, and a notebook shows the
            `repr`.
    """

    _more: ClassVar[str] = ""

    def __repr__(self) -> str:
        more = f"\n  more: {self._more}" if self._more else ""
        return textwrap.fill(self._headline(), _WIDTH, subsequent_indent="  ") + more

    def _repr_html_(self) -> str | None:
        table = self._table()
        if table is None:
            return None
        headings, rows = table
        return html_table(self._headline(), headings, rows)

    def _headline(self) -> str:
        facts = [f"{name} {in_words(value)}".strip() for name, value in self._facts().items()]
        return f"{type(self).__name__}: {'; '.join(facts)}"

    def _facts(self) -> dict[str, object]:
        raise TypeError(f"{type(self).__name__} defines no _facts().")

    def _table(self) -> tuple[Sequence[object], Iterable[Sequence[object]]] | None:
        return None


def in_words(value: object) -> str:
    """A number, an array, a name or several names, as a short text."""
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return _array_in_words(value)
    if isinstance(value, list | tuple):
        left_out = len(value) - _NAMES
        listed = ", ".join(map(in_words, value[:_NAMES]))
        return f"{listed} and {left_out} more" if left_out > 0 else listed
    return str(value)


def _array_in_words(array: np.ndarray) -> str:
    known = array[np.isfinite(array)]
    span = f"{known.min():.4g} to {known.max():.4g}" if known.size else "no finite number"
    return f"{span}, shape {array.shape}"


def html_table(caption: str, headings: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A small table in HTML, with at most the first 30 rows. All contents are escaped."""
    rows = list(rows)
    lines = [_line("td", row) for row in rows[:_ROWS]]
    if len(rows) > _ROWS:
        lines.append(f'<tr><td colspan="{len(headings)}">and {len(rows) - _ROWS} more</td></tr>')
    head = f"<caption>{html.escape(caption)}</caption><thead>{_line('th', headings)}</thead>"
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"


def _line(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(in_words(cell))}</{tag}>' for cell in cells)}</tr>"
