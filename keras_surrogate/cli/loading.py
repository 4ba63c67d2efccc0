"""Models from files; and what is wrong with a file, where there is no model in it."""

import importlib
import os
import re
import sys
import textwrap
import warnings
import zipfile
from pathlib import Path

import keras

# How files begin that are taken for models.
_BEGINNINGS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PK": "a zip archive that is cut off or damaged",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
}
_LEGACY = (".h5", ".hdf5")
# What Keras says of a class or function that it does not find, in .keras and in .h5 files.
_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'|Unknown (\w+): '([^']+)'")
# What Keras says of Python code in a file.
_CODE = re.compile(r"safe_mode|unsafe deserialization", re.IGNORECASE)


def add_options(parser):
    """The options that `loaded` takes."""
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="load Python code that the file holds (Lambda layers) as well: it can do anything that you can do on this "
        "machine, so only for files from people you trust",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="import a Python module first, which defines and registers the model's own layers, such as keras_hub or "
        "my_layers for my_layers.py in this folder; may be repeated",
    )


def loaded(path, options):
    """The model in a file.

    Args:
        path: the file, .keras; or .h5 of former versions, which Keras still reads.
        options: the command's, with those of `add_options`.

    Raises:
        ValueError: the file is missing or holds no model that can be loaded; it says which of
            these, and what to do.
    """
    _check(Path(path))
    for module in options["modules"]:
        _import(module)
    try:
        # Of a compiled model that was never trained; the optimizer's state is not used.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        return keras.saving.load_model(path, safe_mode=not options["unsafe"])
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded: {_reason(error, path)}") from error


def _import(module):
    # As Python itself does for `python -m`, so that modules in this folder are found.
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except Exception as error:
        raise ValueError(f"--import {module} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())


def _check(path):
    """Raises a ValueError that says what the file is, if it is no archive that Keras has written."""
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    if path.is_dir():
        kind = (
            "a SavedModel, which is for serving"
            if (path / "saved_model.pb").exists()
            else "a folder"
        )
        raise ValueError(
            f"{path} is {kind}: name the .keras file that model.save('model.keras') writes."
        )
    kind = _kind(path)
    if kind == "an HDF5 file":
        _check_legacy(path)
    elif kind is not None:
        raise ValueError(
            f"{path} is no .keras file: it is {kind}. model.save('model.keras') writes one."
        )
    else:
        _check_archive(path)


def _kind(path):
    """What the file is, in words; None for a zip archive."""
    if zipfile.is_zipfile(path):
        return None
    with open(path, "rb") as file:
        beginning = file.read(1024)
    if not beginning:
        return "empty"
    if beginning[4:8] == b"TFL3":
        return "a LiteRT model"
    known = next((kind for mark, kind in _BEGINNINGS.items() if beginning.startswith(mark)), None)
    if known:
        return known
    return "text" if _is_text(beginning) else "something else"


def _is_text(beginning):
    # The last character may be cut in two.
    text = beginning.decode("utf-8", errors="ignore")
    return len(text.encode()) > len(beginning) - 4 and "\0" not in text


def _check_legacy(path):
    if path.suffix not in _LEGACY:
        raise ValueError(
            f"{path} is no .keras file: it is an HDF5 file, as former versions of Keras wrote. Rename it to .h5; "
            "keras.saving.load_model('model.h5').save('model.keras') converts it."
        )


def _check_archive(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "config.json" not in names:
        held = textwrap.shorten(", ".join(names), 100) or "nothing"
        raise ValueError(
            f"{path} is an archive without config.json, so no model that Keras saved; it holds: {held}."
        )
    if path.suffix != ".keras":
        raise ValueError(f"{path} must be called .keras to be loaded: rename it.")


def _reason(error, path):
    """Why Keras does not load a file, and what to do about it."""
    said = _said(error)
    unknown = next(filter(None, map(_UNKNOWN.search, said)), None)
    if unknown:
        kind, name = (group for group in unknown.groups() if group)
        return (
            f"it has a {kind} {name!r} that Keras does not know. Name the module that defines it, --import MODULE; it "
            "must be registered there: @keras.saving.register_keras_serializable()."
        )
    if any(map(_CODE.search, said)):
        return (
            "it holds Python code, in a Lambda layer or the like. If it comes from people you "
            "trust, --unsafe loads it."
        )
    if any("No model config found" in message for message in said):
        return "it holds weights alone. Save the whole model, model.save('model.keras')."
    root = textwrap.shorten((said[-1].strip().splitlines() or [type(error).__name__])[0], 300)
    if Path(path).suffix in _LEGACY:
        convert = f"keras.saving.load_model({path!r}, compile=False).save('model.keras')"
        return f"{root.rstrip('.')}. In Python try {convert}."
    return root


def _said(error):
    """The messages of an error and of those it came from; the last, about which Keras wraps others, says most."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__context__
    return messages
