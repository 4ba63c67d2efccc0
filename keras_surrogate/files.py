"""Never a half-written file: what is written goes aside first and takes its place by a rename at the end."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


def nearest_folder(path):
    """The closest folder or file at or above `path` that exists."""
    path = Path(path).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_writable(path):
    """Raises a ValueError if the folder of `path` does not exist or cannot be written to, or `path` is a folder."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: name a file in an existing folder that can be written to."
        )


def check_folder(folder):
    """Raises a ValueError if `folder` is a file, lies below a file, or can be neither written to nor made."""
    nearest = nearest_folder(folder)
    if not nearest.is_dir():
        raise ValueError(
            f"{folder} cannot be a folder, because {nearest} is a file; name another folder."
        )
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"{folder} cannot be written to; name another folder.")


@contextlib.contextmanager
def replacing_file(path):
    """Gives a path to write to, which becomes `path` at the end; on an error nothing does.

    Raises:
        ValueError: the folder of `path` does not exist or cannot be written to, or `path` is a
            folder.
    """
    path = Path(path)
    check_writable(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as temporary:
        unfinished = Path(temporary, path.name)
        yield unfinished
        os.replace(unfinished, path)


@contextlib.contextmanager
def replacing_folder(folder):
    """Gives a folder whose contents move into `folder` at the end, each by one rename; on an error nothing moves.

    Raises:
        ValueError: `folder` is a file, lies below a file, or can be neither written to nor made.
    """
    check_folder(folder)
    folder = Path(folder)
    _make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as temporary:
        yield Path(temporary)
        for path in Path(temporary).iterdir():
            if (folder / path.name).is_dir():
                shutil.rmtree(folder / path.name)
            os.replace(path, folder / path.name)


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The folder {folder} cannot be made ({error.strerror}); name another folder."
        ) from error
