"""Models from files, and explanations of files that hold no model."""

from __future__ import annotations

import importlib
import os
import re
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_surrogate.cli import console

if TYPE_CHECKING:
    import argparse

# First bytes of files that are taken for models by mistake.
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PK": "a zip archive that is cut off or damaged",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
}
_LEGACY = (".h5", ".hdf5")
# Keras's messages about a class or function that it does not find, in .keras and in .h5 files.
_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'|Unknown (\w+): '([^']+)'")
# Keras's messages about Python code in a file.
_CODE = re.compile(r"safe_mode|unsafe deserialization", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `loaded` takes."""
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="also load Python code in the file (Lambda layers). It can do anything that you can "
        "do on this machine: use it only for files from people you trust",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="first import a Python module that defines and registers custom layers of the model, "
        "such as keras_hub, or my_layers for my_layers.py in this folder; may be repeated",
    )


def loaded(path: str, options: dict[str, Any]) -> keras.Model:
    """The model in a file.

    Args:
        path: the file, .keras; or .h5 of earlier versions, if Keras can read it.
        options: the options of the command, with those of `add_options`.

    Raises:
        ValueError: the file is missing or holds no model that can be loaded. The message gives the
            reason and a remedy.
    """
    _check(Path(path))
    for module in options["modules"]:
        _import(module)
    try:
        # Keras warns about a compiled model that was never trained. The optimizer's state is not
        # used here.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        with console.status(f"Reading {path}"):
            return keras.saving.load_model(path, safe_mode=not options["unsafe"])
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {_reason(error, path)}") from error


def _import(module: str) -> None:
    # As for `python -m`, modules in the current folder are found.
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ValueError(f"--import {module} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def _check(path: Path) -> None:
    """Raises a ValueError that describes the file, if it is not an archive written by Keras."""
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    if path.is_dir():
        kind = "a folder"
        if (path / "saved_model.pb").exists():
            kind = "a SavedModel, which is for serving"
        raise ValueError(
            f"{path} is {kind}: name the .keras file that model.save('model.keras') writes."
        )
    kind = _kind(path)
    if kind == "an HDF5 file":
        _check_legacy(path)
    elif kind is not None:
        raise ValueError(
            f"{path} is not a .keras file: it is {kind}. model.save('model.keras') writes one."
        )
    else:
        _check_archive(path)


def _kind(path: Path) -> str | None:
    """The kind of the file, in words; None for a zip archive."""
    if zipfile.is_zipfile(path):
        return None
    with open(path, "rb") as file:
        beginning = file.read(1024)
    if not beginning:
        return "empty"
    if beginning[4:8] == b"TFL3":
        return "a LiteRT model"
    for mark, kind in _BEGINNINGS.items():
        if beginning.startswith(mark):
            return kind
    return "text" if _is_text(beginning) else "something else"


def _is_text(beginning: bytes) -> bool:
    # The last character, of up to four bytes, may be cut.
    text = beginning.decode("utf-8", errors="ignore")
    return len(text.encode()) > len(beginning) - 4 and "\0" not in text


def _check_legacy(path: Path) -> None:
    if path.suffix not in _LEGACY:
        raise ValueError(
            f"{path} is not a .keras file: it is an HDF5 file, the format of earlier versions of "
            "Keras. Rename it to .h5; keras.saving.load_model('model.h5').save('model.keras') "
            "converts it."
        )


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "config.json" not in names:
        held = textwrap.shorten(", ".join(names), 100) or "nothing"
        raise ValueError(
            f"{path} is an archive without config.json, so it is not a model saved by Keras; it "
            f"holds: {held}."
        )
    if path.suffix != ".keras":
        raise ValueError(f"{path} must have the suffix .keras to be loaded: rename it.")


def _reason(error: Exception, path: str) -> str:
    """The reason why Keras does not load a file, and a remedy."""
    messages = _messages(error)
    is_legacy = Path(path).suffix in _LEGACY
    convert = f"In Python try keras.saving.load_model({path!r}, compile=False).save('model.keras')."
    unknown = next(filter(None, map(_UNKNOWN.search, messages)), None)
    if unknown:
        kind, name = (group for group in unknown.groups() if group)
        # Losses and metrics of Keras are such functions in old versions.
        advice = f" {convert}" if is_legacy and kind == "function" else ""
        return (
            f"it has a {kind} {name!r} that Keras does not know. Name the module that defines it, "
            "--import MODULE; it must be registered there: "
            f"@keras.saving.register_keras_serializable().{advice}"
        )
    missing = re.search("No module named '(.+)'", messages[-1])
    if missing:
        # Before Keras asked for registration it imported such modules by itself.
        return (
            f"it has a part of the Python module {missing[1]!r}, which is not found here. Name the "
            "module that defines it, --import MODULE."
        )
    if any(map(_CODE.search, messages)):
        return (
            "it holds Python code, for example in a Lambda layer. If it comes from people you "
            "trust, --unsafe loads it."
        )
    if any("No model config found" in message for message in messages):
        return "it holds only weights. Save the whole model, model.save('model.keras')."
    lines = messages[-1].strip().splitlines() or [type(error).__name__]
    root = textwrap.shorten(lines[0], 300)
    return f"{root.rstrip('.')}. {convert}" if is_legacy else root


def _messages(error: BaseException | None) -> list[str]:
    """The messages of an error and of its causes; the last one is the most specific."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__context__
    return messages
