"""The command line, `keras-surrogate`. It calls the package's functions and prints their results.

A mistake of the user ends with one line on standard error and status 2.

Files:
    one file for each command or group of commands, with `add`, which defines its options
    loading.py, arrays.py, batches.py    models and data from files
    outputs.py               checks of the files to write, and pictures
    console.py               printed tables and JSON
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

from keras_surrogate import __version__
from keras_surrogate.cli import (
    collection,
    compare,
    console,
    conversion,
    demo,
    diagnose,
    plot_run,
    predict,
    recommend,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# In the order in which the help lists them.
_COMMANDS = (demo, collection, predict, diagnose, recommend, compare, plot_run, conversion)

_DESCRIPTION = """\
Surrogate derivatives for TensorFlow/Keras.

A surrogate is a pair of functions. The forward pass uses the value of one of
them, the backward pass the slope (derivative) of the other. A preset is a
published surrogate with a name.
"""

_EPILOG = """\
examples:
  keras-surrogate demo
  keras-surrogate list
  keras-surrogate predict --forward relu --backward bsilu --depth 50
  keras-surrogate diagnose model.keras --data digits
  keras-surrogate recommend model.keras --data digits

"keras-surrogate COMMAND --help" describes a command.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, instead of the whole usage that argparse prints.
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the words after `keras-surrogate`; default those of this process.

    Returns:
        The exit status: 0; 2 for a mistake of the user; 130 after Ctrl-C; 1 if the reader of the
        output has stopped reading, or if trainings of `compare` failed in worker processes.
    """
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    console.prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _warn
        try:
            return command(options)
        except BrokenPipeError:
            # As with `| head`. Python flushes standard output at exit, which would fail again: the
            # rest of the buffer goes to the null device.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (ValueError, ImportError, OSError) as error:
            print(f"keras-surrogate: error: {_line(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"keras-surrogate: warning: {_line(message)}", file=sys.stderr)


def _line(message: object) -> str:
    return " ".join(str(message).split())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="keras-surrogate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=__version__, help="print the version and exit"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    return parser
