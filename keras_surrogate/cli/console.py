"""What commands print: tables that lose nothing, on any terminal and in any pipe, and JSON."""

import codecs
import json
import sys

from rich.console import Console
from rich.table import Table

# Characters that an ASCII terminal is shown instead of those of rich, this package and Keras's
# progress bar.
_ASCII = str.maketrans({"\u2026": "~", "\u2501": "="})
# Wider than any table, so that each row of one is a line for whatever reads the pipe.
_PIPE = 10_000
_HANDLER = "keras_surrogate.readable"


def prepare():
    """Lets standard output take every character: those that its encoding lacks are replaced or escaped."""
    codecs.register_error(_HANDLER, _readable)
    # Not in notebooks, whose standard output takes everything.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=_HANDLER)


def _readable(error):
    """A handler for `codecs`: what to write for the characters that cannot be encoded, and where to go on."""
    lacking = error.object[error.start : error.end]
    return lacking.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii"), error.end


def console():
    """A rich console on standard output, which prints text as it is, and of any width in a pipe."""
    width = None if sys.stdout.isatty() else _PIPE
    return Console(width=width, markup=False, emoji=False, highlight=False)


def needed(drawn):
    """The width at which a rich table is neither folded nor cut."""
    return Console(width=_PIPE).measure(drawn).maximum


def table(title, *headings, right=(), lines=False):
    """An empty rich table whose cells are folded, never cut, where they are too wide.

    Args:
        title: stands above it.
        headings: one a column. The first column, of names, is folded last.
        right: the headings of columns of numbers.
        lines: whether a line is between rows.
    """
    result = Table(title=title, title_justify="left", show_lines=lines)
    for number, heading in enumerate(headings):
        justify = "right" if heading in right else "left"
        result.add_column(heading, justify=justify, overflow="fold", no_wrap=number == 0)
    return result


def add_json(parser, keys):
    """The option --json, with a description of the document's keys in the help."""
    parser.add_argument(
        "--json", action="store_true", help=f"print one JSON document and nothing else: {keys}"
    )


def print_json(document):
    """Prints dictionaries, lists, arrays, strings and numbers; NaN and infinity as the strings "nan", "inf", "-inf"."""
    text = json.dumps(document, default=_listed)
    # JSON has neither NaN nor Infinity, which Python's json writes: they become strings.
    readable = json.loads(text, parse_constant=lambda word: str(float(word)))
    print(json.dumps(readable, indent=2))


def _listed(value):
    return value.tolist()
