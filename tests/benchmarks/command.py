"""How long the command line takes to its first word on a terminal, and to its end.

python tests/benchmarks/command.py
"""

import os
import pty
import subprocess
import sys
import time
from statistics import median

from rich.console import Console
from rich.table import Table

COMMANDS = [
    "--version",
    "predict --help",
    "list nonsense",
    "list",
    "predict --forward relu --depth 20",
]


def times(command):
    """Seconds to the first output on a terminal and to the end."""
    controller, terminal = pty.openpty()
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_surrogate", *command.split()],
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
    )
    os.close(terminal)
    os.read(controller, 1)
    first = time.perf_counter() - start
    try:
        while os.read(controller, 10_000):
            pass
    except OSError:  # on Linux, the end of a terminal
        pass
    process.wait()
    os.close(controller)
    return first, time.perf_counter() - start


def main(rounds=3):
    table = Table(
        "keras-surrogate", "first output, s", "end, s", title=f"median of {rounds} rounds"
    )
    for command in COMMANDS:
        measured = [times(command) for _ in range(rounds)]
        table.add_row(command, *(f"{median(column):.2f}" for column in zip(*measured, strict=True)))
    Console().print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
