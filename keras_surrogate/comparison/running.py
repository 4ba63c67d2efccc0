"""The training of a grid: runs that the file lacks are added to it, one line each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import TYPE_CHECKING

from rich.console import Console

from keras_surrogate import __version__, checks, datasets
from keras_surrogate.comparison import tasks, trainer, worker
from keras_surrogate.comparison.processes import borrowed, own
from keras_surrogate.comparison.progress import GridProgress
from keras_surrogate.comparison.results import ResultsFile, Run
from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike
    from keras_surrogate.comparison.cases import Case
    from keras_surrogate.comparison.grid import Grid
    from keras_surrogate.datasets import Dataset

# More failed trainings than these are counted only in the warning.
_NAMED = 10


@dataclasses.dataclass(frozen=True, repr=False)
class Finished(Shown):
    """The result of `run`.

    Attributes:
        runs: the grid's runs, from (case, seed) to `Run`.
        interrupted: True if Ctrl-C ended it.
        failed: the trainings that failed in other processes, from (case, seed) to the reason in
            words. They are not in the file; call `run` again to repeat them.
    """

    runs: dict[tuple[Case, int], Run]
    interrupted: bool
    failed: dict[tuple[Case, int], str] = dataclasses.field(default_factory=dict)

    _more = "finished.runs, comparison.summarize(grid, finished.runs)"

    def _facts(self) -> dict[str, object]:
        cases = {case for case, _ in self.runs}
        facts = {"runs": len(self.runs), "cases": len(cases), "interrupted": self.interrupted}
        if self.failed:
            facts["failed"] = len(self.failed)
        return facts

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
    *,
    processes: int = 1,
    executor: futures.Executor | None = None,
    seeds_per_task: int | None = None,
) -> Finished:
    """Train the runs of a grid that a file of results lacks, and add them to the file.

    Each case is compiled once for all its seeds.

        comparison.run(grid, "results.jsonl", processes=4)
        comparison.run(grid, "results.jsonl", executor=dask.distributed.Client().get_executor())

    In other processes trainings give the same numbers to the last bit, on processors of one type.
    For this TensorFlow uses as many threads there as here. Where an executor has a worker for each
    core, set the environment variable TF_NUM_INTRAOP_THREADS=1 before the start, here too.

    The file has the runs in the order in which they ended, but `Finished`, `summarize` and tables
    have the grid's order. A training that fails in another process, or whose process dies, does not
    end the others: it is named in a warning and in `Finished.failed`.

    Args:
        grid: a `Grid`.
        output: the file, which is created if it does not exist. Runs of other grids in it are kept.
            If the process is killed, only the trainings in progress are lost; call `run` again to
            continue. Only this process writes to it.
        data_dir: a folder with the data's files; default None: found or downloaded, as by
            `datasets.load`. Each process loads the data by itself.
        console: a rich `Console` to print to; default the standard error.
        processes: the number of processes that train, at least 1. With 1, the default, this
            process does. Others are started and ended for it, and share the processor cores. A
            script must call `run` below `if __name__ == "__main__":`.
        executor: an executor in whose workers to train, instead of `processes`: a
            `ProcessPoolExecutor` with `mp_context=multiprocessing.get_context("spawn")`, dask's
            `Client(...).get_executor()`, mpi4py's `MPIPoolExecutor`. The package must be
            installed where they run. It is not shut down. Trainings in threads of one process take
            turns.
        seeds_per_task: the number of seeds that one task of the executor trains, at least 1.
            Default None: all seeds of a case, because each task compiles its case. Give 1 where a
            grid has fewer cases than the executor has workers, or where trainings are long: a
            task's results arrive together.

    Returns:
        `Finished`. Ctrl-C ends it early and is no error.

    Raises:
        ValueError: the file cannot be written or is no file of results, the data is missing, a
            case does not fit it, an argument is out of range, or the workers cannot train. It is
            raised before the first training.
        TypeError: the executor is none.
    """
    _check_workers(processes, executor, seeds_per_task)
    console = console or Console(stderr=True)
    with ResultsFile(output) as results:
        _warn_of_other_versions(grid, results)
        missing = [key for key in grid.runs if key not in results.runs]
        # On a terminal only, until the bar appears.
        with console.status("Loading the data"):
            data = _checked_data(missing, data_dir)
        display = GridProgress(grid, missing, console)
        if executor is None and processes == 1:
            outcomes = _here(missing, data, display)
        else:
            settings = worker.Settings.of(data_dir, grid.path)
            outcomes = _elsewhere(missing, settings, display, processes, executor, seeds_per_task)
        failed: dict[tuple[Case, int], str] = {}
        interrupted = False
        try:
            with display, contextlib.closing(outcomes):
                _keep(outcomes, results, display, failed)
        except KeyboardInterrupt:
            interrupted = True
        _warn_of_failures(failed, display)
        return Finished(_known(grid, results), interrupted, failed)


def _check_workers(
    processes: int, executor: futures.Executor | None, seeds_per_task: int | None
) -> None:
    checks.integer(processes, "run: processes")
    if seeds_per_task is not None:
        checks.integer(seeds_per_task, "run: seeds_per_task")
    if executor is None:
        if seeds_per_task is not None:
            raise ValueError("run: seeds_per_task goes with an executor; leave it out.")
        return
    if not isinstance(executor, futures.Executor):
        raise TypeError(
            "run: executor must be a concurrent.futures.Executor, such as a ProcessPoolExecutor or "
            f"dask's Client(...).get_executor(), but is {executor!r}."
        )
    if processes != 1:
        raise ValueError(
            f"run: give an executor or processes={processes}, not both; the executor has its own "
            "processes."
        )


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


def _checked_data(
    missing: Sequence[tuple[Case, int]], data_dir: PathLike | None
) -> dict[str, Dataset]:
    """The data of these cases, by name, which all cases fit."""
    cases = list(dict.fromkeys(case for case, _ in missing))
    names = dict.fromkeys(case.data for case in cases)
    data = {name: datasets.load(name, data_dir) for name in names}
    for case in cases:
        trainer.check(case, data[case.data])
    return data


def _keep(
    outcomes: Iterable[tuple[Case, int, Run | str]],
    results: ResultsFile,
    display: GridProgress,
    failed: dict[tuple[Case, int], str],
) -> None:
    """Write each run to the file, and remember each failure."""
    for case, seed, outcome in outcomes:
        if isinstance(outcome, Run):
            results.append(outcome)
            display.finished(outcome)
        else:
            failed[case, seed] = outcome
            display.failed(case, seed, outcome)


def _here(
    missing: Sequence[tuple[Case, int]], data: Mapping[str, Dataset], display: GridProgress
) -> Iterator[tuple[Case, int, Run]]:
    """Train in this process."""
    for case, keys in itertools.groupby(missing, key=lambda key: key[0]):
        display.describe(f"{display.title(case)}: compiling")
        ready = trainer.Trainer(case, data[case.data])
        for _, seed in keys:
            display.describe(display.title(case, seed))
            yield case, seed, ready.run(seed, functools.partial(_advance, ready, display))
        # The trainer's model and functions refer to each other.
        del ready
        gc.collect()


def _advance(ready: trainer.Trainer, display: GridProgress, steps: int) -> None:
    display.advance(ready.case, steps / ready.steps_per_epoch)


def _elsewhere(
    missing: Sequence[tuple[Case, int]],
    settings: worker.Settings,
    display: GridProgress,
    processes: int,
    executor: futures.Executor | None,
    seeds_per_task: int | None,
) -> Iterator[tuple[Case, int, Run | str]]:
    """Train in processes of our own, or in those of the executor."""
    if not missing:
        return
    if executor is not None:
        display.describe("waiting for the executor's workers")
        jobs = tasks.jobs(missing, seeds_per_task)
        slots = borrowed(executor, len(jobs))
        display.describe(f"{len(jobs)} tasks")
        yield from tasks.Schedule(jobs, slots, settings, seeds_per_task).results()
        return
    number = min(processes, len(missing))
    display.describe(f"starting {number} processes")
    with own(number) as slots:
        display.describe(f"{number} processes")
        schedule = tasks.Schedule(tasks.jobs(missing), slots, settings, seeds_per_task=1)
        yield from schedule.results()


def _warn_of_failures(failed: Mapping[tuple[Case, int], str], display: GridProgress) -> None:
    if not failed:
        return
    named = [f"{display.title(*key)} ({reason})" for key, reason in failed.items()]
    if len(named) > _NAMED:
        named[_NAMED:] = [f"and {len(named) - _NAMED} more"]
    warnings.warn(
        "Failed trainings, which are not in the file; run the grid again to repeat them: "
        f"{'; '.join(named)}.",
        stacklevel=3,
    )
