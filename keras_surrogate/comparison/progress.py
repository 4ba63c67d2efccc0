"""The progress of a grid: a bar on a terminal, and elsewhere one line for each training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.console import Console

    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.comparison.grid import Grid
    from keras_surrogate.comparison.results import Run


class GridProgress:
    """The display of a grid's trainings, as a context.

    Args:
        grid: a `Grid`.
        missing: the cases and seeds to train.
        console: a rich `Console`.
    """

    def __init__(self, grid: Grid, missing: Iterable[tuple[Case, int]], console: Console) -> None:
        work = [_work(case) for case, _ in missing]
        self._grid = grid
        self._number = len(grid) - len(work)
        self._completed = 0.0
        self._bar = _bar(console)
        self._task: TaskID = self._bar.add_task("", total=sum(work), count=self._count())

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def title(self, case: Case, seed: int | None = None) -> str:
        """The fields in which the case differs from others of the grid, and the seed."""
        words = case.in_words(self._grid.varied) or str(case)
        return words if seed is None else f"{words}, seed {seed}"

    def describe(self, text: str) -> None:
        """Show what is being done, on a terminal."""
        self._bar.update(self._task, description=text)

    def advance(self, case: Case, epochs: float) -> None:
        """Move the bar by a part of a training."""
        self._bar.advance(self._task, epochs * case.depth)

    def finished(self, run: Run) -> None:
        """Count a training, and show its result."""
        end = "diverged" if run.diverged else f"{run.accuracy:.1%}"
        self._count_one(run.case, run.seed, f"{end} ({run.seconds:.1f} s)")

    def failed(self, case: Case, seed: int, reason: str) -> None:
        """Count a training that has no result."""
        self._count_one(case, seed, f"failed: {reason}")

    def _count_one(self, case: Case, seed: int, end: str) -> None:
        self._number += 1
        # Not the sum of the parts: a training that diverges makes fewer steps.
        self._completed += _work(case)
        self._bar.update(self._task, completed=self._completed, count=self._count())
        if not self._bar.console.is_terminal:
            line = f"{self._number} of {len(self._grid)}: {self.title(case, seed)}: {end}"
            self._bar.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _count(self) -> str:
        return f"{self._number} of {len(self._grid)}"


def _work(case: Case) -> int:
    """The layers of a case times its epochs, to which its training's time is about proportional."""
    return case.epochs * case.depth


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.fields[count]}"),
        BarColumn(),
        TimeElapsedColumn(),
        "left:",
        TimeRemainingColumn(),
    )
    description = TextColumn("{task.description}", markup=False)
    return Progress(*columns, description, console=console, disable=not console.is_terminal)
