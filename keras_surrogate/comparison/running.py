"""The training of a grid: runs that the file lacks are added to it, one line each."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_surrogate import __version__, datasets
from keras_surrogate.comparison import trainer
from keras_surrogate.comparison.results import ResultsFile
from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    from rich.progress import TaskID

    from keras_surrogate._types import PathLike
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.comparison.grid import Grid
    from keras_surrogate.comparison.results import Run
    from keras_surrogate.comparison.trainer import Trainer


@dataclasses.dataclass(frozen=True, repr=False)
class Finished(Shown):
    """The result of `run`.

    Attributes:
        runs: the grid's runs, from (case, seed) to `Run`.
        interrupted: True if Ctrl-C ended it.
    """

    runs: dict[tuple[Case, int], Run]
    interrupted: bool

    _more = "finished.runs, comparison.summarize(grid, finished.runs)"

    def _facts(self) -> dict[str, object]:
        cases = {case for case, _ in self.runs}
        return {"runs": len(self.runs), "cases": len(cases), "interrupted": self.interrupted}

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
        rows = [
            (case, seed, run.accuracy, run.loss, run.diverged)
            for (case, seed), run in self.runs.items()
        ]
        return ["case", "seed", "accuracy", "loss", "diverged"], rows


def run(
    grid: Grid,
    output: PathLike,
    data_dir: PathLike | None = None,
    console: Console | None = None,
) -> Finished:
    """Train the runs of a grid that a file of results lacks, and add them to the file.

    Each case is compiled once for all its seeds.

    Args:
        grid: a `Grid`.
        output: the file, which is created if it does not exist. Runs of other grids in it are kept.
            If the process is killed, only the training in progress is lost; call `run` again to
            continue.
        data_dir: a folder with the data's files; default None: found or downloaded, as by
            `datasets.load`.
        console: a rich `Console` to print to; default the standard error.

    Returns:
        `Finished`. Ctrl-C ends it early and is no error.

    Raises:
        ValueError: the file cannot be written or is no file of results, the data is missing, or a
            case does not fit it. It is raised before the first training.
    """
    with ResultsFile(output) as results:
        _warn_of_other_versions(grid, results)
        interrupted = False
        try:
            _train(grid, results, data_dir, console or Console(stderr=True))
        except KeyboardInterrupt:
            interrupted = True
        return Finished(_known(grid, results), interrupted)


def _known(grid: Grid, results: ResultsFile) -> dict[tuple[Case, int], Run]:
    """The grid's runs that the file has."""
    return {key: results.runs[key] for key in grid.runs if key in results.runs}


def _warn_of_other_versions(grid: Grid, results: ResultsFile) -> None:
    versions = {run.versions["keras_surrogate"] for run in _known(grid, results).values()}
    others = sorted(versions - {__version__})
    if others:
        warnings.warn(
            f"{results.path} holds runs made by version {', '.join(others)} of keras_surrogate, "
            f"which are kept; this is version {__version__}.",
            stacklevel=3,
        )


def _train(grid: Grid, results: ResultsFile, data_dir: PathLike | None, console: Console) -> None:
    missing = [key for key in grid.runs if key not in results.runs]
    cases = list(dict.fromkeys(case for case, _ in missing))
    names = dict.fromkeys(case.data for case in cases)
    data = {name: datasets.load(name, data_dir) for name in names}
    for case in cases:
        trainer.check(case, data[case.data])
    with _bar(console) as bar:
        total = sum(_work(case) for case, _ in missing)
        task = bar.add_task("", total=total, count=f"of {len(grid)}")
        for case, keys in itertools.groupby(missing, key=lambda key: key[0]):
            bar.update(task, description=f"{case.in_words(grid.varied)}: compiling")
            _train_case(trainer.Trainer(case, data[case.data]), keys, grid, results, bar, task)
            # The trainer's model and functions refer to each other.
            gc.collect()


def _train_case(
    trainer: Trainer,
    keys: Iterable[tuple[Case, int]],
    grid: Grid,
    results: ResultsFile,
    bar: Progress,
    task: TaskID,
) -> None:
    case = trainer.case
    for _, seed in keys:
        done = len(_known(grid, results))
        bar.update(
            task,
            description=f"{case.in_words(grid.varied)}, seed {seed}",
            count=f"{done + 1} of {len(grid)}",
        )
        before = bar.tasks[task].completed
        finished = trainer.run(
            seed, lambda steps: bar.advance(task, steps / trainer.steps_per_epoch * case.depth)
        )
        results.append(finished)
        bar.update(task, completed=before + _work(case))
        if not bar.console.is_terminal:
            bar.console.print(
                _line(finished, done + 1, grid), soft_wrap=True, highlight=False, markup=False
            )


def _work(case: Case) -> int:
    """The layers of a case times its epochs, to which its training's time is about proportional."""
    return case.epochs * case.depth


def _line(finished: Run, number: int, grid: Grid) -> str:
    end = "diverged" if finished.diverged else f"{finished.accuracy:.1%}"
    title = finished.case.in_words(grid.varied) or str(finished.case)
    return (
        f"{number} of {len(grid)}: {title}, seed {finished.seed}: {end} ({finished.seconds:.1f} s)"
    )


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
