"""Printed tables, complete on any terminal and in any pipe, and JSON."""

from __future__ import annotations

import codecs
import contextlib
import json
import sys
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    import numpy as np

# The object to which a command's module adds its parser.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

# Replacements on an ASCII terminal: the ellipsis, and the line of Keras's progress bar.
_ASCII = str.maketrans({"\u2026": "~", "\u2501": "="})
# Wider than any table, so that a program that reads the pipe gets each row in one line.
_PIPE = 10_000
_HANDLER = "keras_surrogate.readable"


def prepare() -> None:
    """Replaces or escapes characters that the encoding of standard output does not have."""
    codecs.register_error(_HANDLER, _readable)
    # The standard output of a notebook has no `reconfigure`, and takes all characters.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=_HANDLER)


def _readable(error: UnicodeEncodeError) -> tuple[str, int]:
    """A handler for `codecs`: the replacement, and the place to continue at."""
    lacking = error.object[error.start : error.end]
    text = lacking.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return text, error.end


def status(text: str) -> contextlib.AbstractContextManager[object]:
    """A context with a line on the terminal, for work of some seconds.

    Nothing is printed where standard error is not a terminal. Within the context nothing else is
    printed but warnings.

    Args:
        text: the words, such as "Reading model.keras".
    """
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    # As Text, because rich would interpret brackets in a string as markup.
    return Console(stderr=True).status(Text(text))


def console() -> Console:
    """A rich console on standard output without markup; wide enough for any table in a pipe."""
    width = None if sys.stdout.isatty() else _PIPE
    return Console(width=width, markup=False, emoji=False, highlight=False)


def needed(drawn: Table) -> int:
    """The width at which a rich table is neither folded nor cut."""
    return Console(width=_PIPE).measure(drawn).maximum


def table(title: str, *headings: str, right: Collection[str] = (), lines: bool = False) -> Table:
    """An empty rich table. Cells that are too wide are folded, not cut.

    Args:
        title: the title above the table.
        headings: one for each column. The first column holds names and is folded last.
        right: the headings of the columns of numbers, which are right-aligned.
        lines: True for a line between rows.
    """
    result = Table(title=title, title_justify="left", show_lines=lines)
    for number, heading in enumerate(headings):
        justify = "right" if heading in right else "left"
        result.add_column(heading, justify=justify, overflow="fold", no_wrap=number == 0)
    return result


def add_json(parser: argparse.ArgumentParser, keys: str) -> None:
    """Adds the option --json, whose help describes the keys of the document."""
    parser.add_argument(
        "--json", action="store_true", help=f"print only a JSON document, with the keys {keys}"
    )


def print_json(document: object) -> None:
    """Prints dictionaries, lists, arrays, strings and numbers as JSON.

    JSON has no NaN and no infinity: they become the strings "nan", "inf" and "-inf".
    """
    text = json.dumps(document, default=_listed)
    # Python's json writes NaN and Infinity, and passes them to parse_constant when it reads them.
    readable = json.loads(text, parse_constant=lambda word: str(float(word)))
    print(json.dumps(readable, indent=2))


def _listed(value: np.ndarray) -> list:
    return value.tolist()
