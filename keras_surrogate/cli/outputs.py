"""The files that commands write: checked before the work, so that a command fails early.

Only here do commands import matplotlib, when they need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_surrogate import files
from keras_surrogate.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from keras_surrogate._types import PathLike


def check(path: PathLike, suffix: str) -> None:
    """Raises a ValueError if `path` has another suffix, or cannot be written."""
    if Path(path).suffix != suffix:
        raise ValueError(f"{path}: the output must be a {suffix} file.")
    files.check_writable(path)


def check_picture(path: PathLike | None) -> None:
    """Raises an error if no picture can be written to `path`. None means no picture.

    Raises:
        ValueError: matplotlib cannot write the suffix, or the folder does not exist or is not
            writable.
        ImportError: matplotlib is missing.
    """
    if path is not None:
        from keras_surrogate.plots import saving

        saving.check(path)


def write_picture(
    draw: Callable[[ModuleType], Any], path: PathLike, dpi: float = 160, quiet: bool = False
) -> None:
    """Draws a picture, saves it, and prints the path unless `quiet`.

    Args:
        draw: a function from the module `plots` to what one of its functions returns.
        path: the file to write.
        dpi: dots per inch.
        quiet: True to print nothing.
    """
    with console.status(f"Drawing {path}"):
        from keras_surrogate import plots

        plots.save(draw(plots), path, dpi)
    if not quiet:
        print(f"Written to {path}.")
