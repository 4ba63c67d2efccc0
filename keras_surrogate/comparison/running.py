"""A grid, trained: what is in the file already is left as it is, what is missing is added line by line."""

import dataclasses
import gc
import itertools
import warnings

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_surrogate import __version__, datasets
from keras_surrogate.comparison import trainer
from keras_surrogate.comparison.results import ResultsFile
from keras_surrogate.reprs import Shown


@dataclasses.dataclass(frozen=True, repr=False)
class Finished(Shown):
    """What `run` returns: `runs`, the grid's, from (case, seed) to `Run`; `interrupted`, whether Ctrl-C ended it."""

    runs: dict
    interrupted: bool

    _more = "finished.runs, comparison.summarize(grid, finished.runs)"

    def _facts(self):
        cases = {case for case, _ in self.runs}
        return {"runs": len(self.runs), "cases": len(cases), "interrupted": self.interrupted}

    def _table(self):
        rows = [
            (case, seed, run.accuracy, run.loss, run.diverged)
            for (case, seed), run in self.runs.items()
        ]
        return ["case", "seed", "accuracy", "loss", "diverged"], rows


def run(grid, output, data_dir=None, console=None):
    """Trains what a file of results lacks of a grid; each case is compiled once for all its seeds.

    Args:
        grid: a `Grid`.
        output: the file, which is made if need be. Runs of other grids in it are kept. Killed at
            any moment, it lacks the training in progress only; call `run` again to go on.
        data_dir: a folder with the data's files; default: found or downloaded, as by
            `datasets.load`.
        console: where to print, a rich `Console`; default the standard error.

    Returns:
        `Finished`. Ctrl-C ends it early and is no error.

    Raises:
        ValueError: the file cannot be written or is no file of results, the data is missing, or a
            case does not fit it; all before anything is trained.
    """
    with ResultsFile(output) as results:
        _warn_of_other_versions(grid, results)
        interrupted = False
        try:
            _train(grid, results, data_dir, console or Console(stderr=True))
        except KeyboardInterrupt:
            interrupted = True
        return Finished(
            {key: results.runs[key] for key in grid.runs if key in results.runs}, interrupted
        )


def _warn_of_other_versions(grid, results):
    versions = {
        results.runs[key].versions["keras_surrogate"] for key in grid.runs if key in results.runs
    }
    if versions - {__version__}:
        warnings.warn(
            f"{results.path} holds runs made by version {', '.join(sorted(versions - {__version__}))} of "
            f"keras_surrogate, which are kept; this is version {__version__}.",
            stacklevel=3,
        )


def _train(grid, results, data_dir, console):
    missing = [key for key in grid.runs if key not in results.runs]
    data = {
        name: datasets.load(name, data_dir)
        for name in dict.fromkeys(case.data for case, _ in missing)
    }
    for case in dict.fromkeys(case for case, _ in missing):
        trainer.check(case, data[case.data])
    with _bar(console) as bar:
        task = bar.add_task(
            "", total=sum(_work(case) for case, _ in missing), count=f"of {len(grid)}"
        )
        for case, keys in itertools.groupby(missing, key=lambda key: key[0]):
            bar.update(task, description=f"{case.in_words(grid.varied)}: compiling")
            _train_case(trainer.Trainer(case, data[case.data]), keys, grid, results, bar, task)
            gc.collect()


def _train_case(trainer, keys, grid, results, bar, task):
    case = trainer.case
    for _, seed in keys:
        done = sum(key in results.runs for key in grid.runs)
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


def _work(case):
    """What takes about as long for each case: layers trained for an epoch."""
    return case.epochs * case.depth


def _line(finished, number, grid):
    end = "diverged" if finished.diverged else f"{finished.accuracy:.1%}"
    title = finished.case.in_words(grid.varied) or str(finished.case)
    return (
        f"{number} of {len(grid)}: {title}, seed {finished.seed}: {end} ({finished.seconds:.1f} s)"
    )


def _bar(console):
    columns = (
        TextColumn("{task.fields[count]}"),
        BarColumn(),
        TimeElapsedColumn(),
        "left:",
        TimeRemainingColumn(),
    )
    description = TextColumn("{task.description}", markup=False)
    return Progress(*columns, description, console=console, disable=not console.is_terminal)
