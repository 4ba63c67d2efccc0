"""Files and folders that are written completely or not at all.

New contents are written to a temporary place beside the target. A rename at the end moves them to
the target.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike


def nearest_folder(path: PathLike) -> Path:
    """The existing folder or file that is `path` itself or its closest parent."""
    path = Path(path).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_writable(path: PathLike) -> None:
    """Check that a file can be written.

    Raises:
        ValueError: `path` is a folder; its folder does not exist or is not writable.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: name a file in an existing folder that is writable."
        )


def check_folder(folder: PathLike) -> None:
    """Check that a folder can be written to. It need not exist yet.

    Raises:
        ValueError: `folder` is a file, is below a file, or is not writable.
    """
    nearest = nearest_folder(folder)
    if not nearest.is_dir():
        raise ValueError(
            f"{folder} cannot be a folder, because {nearest} is a file; name another folder."
        )
    # A new entry in a folder needs the permissions to write and to enter.
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(
            f"{folder} cannot be written to, because {nearest} is not writable; name another "
            "folder."
        )


@contextlib.contextmanager
def replacing_file(path: PathLike) -> Iterator[Path]:
    """A context that gives a temporary path, which is renamed to `path` at the end.

    After an error `path` is unchanged.

    Raises:
        ValueError: `path` is a folder; its folder does not exist or is not writable.
    """
    path = Path(path)
    check_writable(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as temporary:
        unfinished = Path(temporary, path.name)
        yield unfinished
        os.replace(unfinished, path)


@contextlib.contextmanager
def replacing_folder(folder: PathLike) -> Iterator[Path]:
    """A context that gives a temporary folder, whose contents move into `folder` at the end.

    Each entry moves by one rename. After an error `folder` is unchanged.

    Raises:
        ValueError: `folder` is a file, is below a file, is not writable, or cannot be created.
    """
    check_folder(folder)
    folder = Path(folder)
    _make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as temporary:
        yield Path(temporary)
        for path in Path(temporary).iterdir():
            # os.replace cannot replace a folder that has contents.
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            os.replace(path, folder / path.name)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The folder {folder} cannot be created ({error.strerror}); name another folder."
        ) from error
