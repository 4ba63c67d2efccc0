"""What the printed results of this room share."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from rich.console import Console


def short(number: float | None) -> str:
    """A number with two digits: "0.034", "1.2e-5"; "" for None."""
    if number is None:
        return ""
    return f"{number:.2g}".replace("e-0", "e-").replace("e+0", "e+")


def as_html(print_to: Callable[[Console], None], width: int) -> str:
    """What a function prints to a console, as HTML for notebooks."""
    # In a notebook a Console would display what is printed to it, besides recording it.
    console = Console(record=True, width=width, file=io.StringIO(), force_jupyter=False)
    print_to(console)
    return console.export_html(
        inline_styles=True, code_format='<pre style="overflow-x: auto">{code}</pre>'
    )


def plain(value: object) -> object:
    """A structure in which NaN and infinity are strings, since JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
