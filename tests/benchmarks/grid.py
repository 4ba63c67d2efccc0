"""The time of a grid in one process and in several, and whether the results are the same.

python tests/benchmarks/grid.py            every 13th case of examples/evidence/sigmoid.py; four minutes
python tests/benchmarks/grid.py 36 2 4     every 36th case; two and four processes
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_surrogate import comparison

EVIDENCE = Path(__file__).parents[2] / "examples" / "evidence"


def reduced(every):
    """Some cases of the sigmoid grid, each with all its seeds and epochs."""
    grid = comparison.load_grid(EVIDENCE / "sigmoid.py")
    grid.cases = grid.cases[::every]
    return grid


def timed(grid, processes):
    """The seconds of a grid, with the start of the processes, and its runs without their times."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        finished = comparison.run(grid, Path(folder, "results.jsonl"), processes=processes)
        seconds = time.perf_counter() - start
    runs = {key: dataclasses.replace(run, seconds=0.0) for key, run in finished.runs.items()}
    return seconds, runs


def main(every=13, *counts):
    grid = reduced(every)
    table = Table("processes", "seconds", "/ one process", "same results", title=repr(grid))
    serial, expected = timed(grid, 1)
    table.add_row("1", f"{serial:.0f}", "1.00", "")
    for count in counts or (2,):
        seconds, runs = timed(grid, count)
        same = "yes" if runs == expected else "NO"
        table.add_row(str(count), f"{seconds:.0f}", f"{seconds / serial:.2f}", same)
    Console(width=100).print(table)


# The processes import this file.
if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
