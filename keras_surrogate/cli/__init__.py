"""The command line: `keras-surrogate demo` and its kin. A thin face; mistakes end with one line and status 2."""

import argparse
import sys

from keras_surrogate import __version__
from keras_surrogate.cli import comparison, demo, diagnosis, models, pairs, theory, training


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments=None):
    """Runs the command line and returns its exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        return command(options)
    except (ValueError, ImportError) as error:
        print(f"keras-surrogate: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = _Parser(
        prog="keras-surrogate", description="Artificial derivatives for TensorFlow/Keras, with their gradients."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (demo, comparison, diagnosis, models, pairs, theory, training):
        module.add(commands)
    return parser
