"""The start of the command `keras-surrogate`: TensorFlow's import without its log.

This module needs only the standard library, because it runs before TensorFlow is imported.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Printed on a terminal at once, because the import takes some seconds.
_STATUS = "keras-surrogate: starting TensorFlow ..."
# Moves to the beginning of the line and erases it.
_ERASE = "\r\x1b[K"


def is_running() -> bool:
    """True in a process that was started by `keras-surrogate` or `python -m keras_surrogate`.

    Processes that such a process starts with `multiprocessing` have its arguments, and count too.
    """
    # A Python within another program may have no arguments at all.
    if not getattr(sys, "argv", None):
        return False
    if sys.argv[0] == "-m":
        # Python does not know yet which file it will run. Its own arguments end with the module's
        # name and the arguments of the module.
        # One text for the module and those after it; fewer in an interpreter that was forked.
        given = sys.orig_argv[-len(sys.argv) :][:1]
        return [text.removeprefix("-m") for text in given] == ["keras_surrogate"]
    script = Path(sys.argv[0])
    return script.stem == "keras-surrogate" or script == Path(__file__).with_name("__main__.py")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """A context for the import of TensorFlow, without effect except in the command's process.

    TensorFlow writes lines of its log to file descriptor 2 while it is imported, whatever the log
    level is: "All log messages before absl::InitializeLog() is called are written to STDERR". Here
    they go to a temporary file, which is shown if the import fails. Python's warnings and errors
    are printed as always. `TF_CPP_MIN_LOG_LEVEL=0` shows everything.
    """
    if not is_running() or "tensorflow" in sys.modules or sys.stderr is None:
        yield
        return
    # Later lines of the log obey this variable. Errors reach Python as exceptions too.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    with tempfile.TemporaryFile() as log:
        try:
            with _redirected(log.fileno()), _status():
                yield
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[None]:
    """A context in which file descriptor 2 is that of another file, but not for `sys.stderr`."""
    screen = os.dup(2)
    python = sys.stderr
    # It is never closed, because handlers of `logging` that are created meanwhile keep it.
    sys.stderr = os.fdopen(screen, "w", buffering=1, encoding=python.encoding, errors=python.errors)
    python.flush()
    os.dup2(target, 2)
    try:
        yield
    finally:
        os.dup2(screen, 2)
        sys.stderr = python


@contextlib.contextmanager
def _status() -> Iterator[None]:
    """A context with a line on the terminal, which is erased at its end."""
    shown = sys.stderr.isatty() and multiprocessing.parent_process() is None
    if shown:
        print(_STATUS, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print(_ERASE, end="", file=sys.stderr, flush=True)
