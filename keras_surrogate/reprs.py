"""How results show themselves at the prompt and in a notebook: what they are and their main numbers, in a few lines."""

import html
import textwrap

import numpy as np

# Columns of the prompt, names in a list, rows of a table in a notebook.
_WIDTH, _NAMES, _ROWS = 100, 5, 30


class Shown:
    """A mix-in for results that are too large to be shown whole. Their dataclass needs `repr=False`.

    A class defines `_facts`, and it may define `_more` and `_table`:
        _facts(): a dictionary from the name of a main number to that number; after the name of the
            class they make the `repr`. "" as a name leaves the name out.
        _more: how to see the rest, as one types it. _table(): headings and rows; a notebook shows
        them. Default: none, and a notebook shows the `repr`.
    """

    _more = ""

    def __repr__(self):
        more = f"\n  more: {self._more}" if self._more else ""
        return textwrap.fill(self._headline(), _WIDTH, subsequent_indent="  ") + more

    def _repr_html_(self):
        table = self._table()
        return None if table is None else html_table(self._headline(), *table)

    def _headline(self):
        facts = [f"{name} {in_words(value)}".strip() for name, value in self._facts().items()]
        return f"{type(self).__name__}: {'; '.join(facts)}"

    def _table(self):
        return None


def in_words(value):
    """A number, an array, a name or several names, in at most a few words."""
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return _array_in_words(value)
    if isinstance(value, list | tuple):
        left_out = f" and {len(value) - _NAMES} more" if len(value) > _NAMES else ""
        return ", ".join(map(in_words, value[:_NAMES])) + left_out
    return str(value)


def _array_in_words(array):
    known = array[np.isfinite(array)]
    span = f"{known.min():.4g} to {known.max():.4g}" if known.size else "no finite number"
    return f"{span}, shape {array.shape}"


def html_table(caption, headings, rows):
    """A small table in HTML, its first rows where it has many. Whatever is in it is escaped."""
    rows = list(rows)
    lines = [_line("td", row) for row in rows[:_ROWS]]
    if len(rows) > _ROWS:
        lines.append(f'<tr><td colspan="{len(headings)}">and {len(rows) - _ROWS} more</td></tr>')
    head = f"<caption>{html.escape(caption)}</caption><thead>{_line('th', headings)}</thead>"
    return f"<table>{head}<tbody>{''.join(lines)}</tbody></table>"


def _line(tag, cells):
    return f"<tr>{''.join(f'<{tag}>{html.escape(in_words(cell))}</{tag}>' for cell in cells)}</tr>"
