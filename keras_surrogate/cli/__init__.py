"""The command line: `keras-surrogate demo` and others. A thin face; mistakes end with one line and status 2."""

import argparse
import os
import sys
import warnings

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
)

_COMMANDS = (demo, compare, diagnose, conversion, collection, predict, plot_run)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs the command line.

    Returns:
        The exit status: 0; 2 for a mistake of the user; 130 after Ctrl-C; 1 if nobody reads the
        output any more.
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
            # As with `| head`. What is still in the buffer goes nowhere, or Python would complain
            # at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (ValueError, ImportError, OSError) as error:
            print(f"keras-surrogate: error: {_line(error)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130


def _warn(message, *_, **__):
    print(f"keras-surrogate: warning: {_line(message)}", file=sys.stderr)


def _line(message):
    return " ".join(str(message).split())


def _parser():
    parser = _Parser(
        prog="keras-surrogate",
        description="Artificial derivatives for TensorFlow/Keras, with their gradients.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in _COMMANDS:
        module.add(commands)
    return parser
