"""Comparison of derivatives in training: grids of trainings from paired starts, kept in a file.

    grid = comparison.Grid(backward=["true", "softplus"], depth=[5, 20], seeds=5)
    finished = comparison.run(grid, "results.jsonl")
    print(comparison.markdown(comparison.summarize(grid, finished.runs)))

For a seed, all cases of the same layers start from the same weights and see the same images in the
same order, so that differences are taken seed by seed. Each finished training is one line of the
file; called again, `run` continues where it was stopped.

The files, in the order in which a case passes through them: `cases` (with `notation`, its spelling)
and `grid`; `running`, which calls `trainer` for each case; there `outlook` has the theory's
prediction, `networks` the model and `probe` the measurements; `results` is the file; `summary`
(with `statistics`) makes rows of the runs, and `tables` text of the rows. `progress` is the
display.

With several processes `running` hands cases to `tasks`, which gives them to the workers of
`processes`; `worker` has the functions that run there, and calls `trainer`.
"""

from keras_surrogate.comparison.cases import Case
from keras_surrogate.comparison.grid import Grid, load_grid
from keras_surrogate.comparison.results import ResultsFile, Run, read
from keras_surrogate.comparison.running import Finished, run
from keras_surrogate.comparison.statistics import interval, t_quantile
from keras_surrogate.comparison.summary import CaseSummary, record, summarize
from keras_surrogate.comparison.tables import markdown, table
from keras_surrogate.comparison.trainer import Trainer

__all__ = [
    "Case",
    "CaseSummary",
    "Finished",
    "Grid",
    "ResultsFile",
    "Run",
    "Trainer",
    "interval",
    "load_grid",
    "markdown",
    "read",
    "record",
    "run",
    "summarize",
    "t_quantile",
    "table",
]
