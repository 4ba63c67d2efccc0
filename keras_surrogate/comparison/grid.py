"""A grid: all combinations of some values for each field of a case, and the seeds."""

import dataclasses
import itertools
import runpy
from pathlib import Path

from keras_surrogate.comparison.cases import Case
from keras_surrogate.reprs import Shown


class Grid(Shown):
    """All combinations of the values given for each field of `Case`, each trained from every seed.

        Grid(backward=["true", "bsilu"], depth=[5, 20], seeds=5)        four cases, twenty trainings
        Grid(backward="true") + Grid(backward=["bsilu"], balanced=[False, True])        both, each case once

    Args:
        seeds: how many, 0, 1, 2, ...; or the seeds themselves, integers of at least 0. Default 5.
        axes: fields of `Case`, each one value or a list of values.

    Attributes:
        cases: a tuple of `Case`; combinations that mean the same are one.
        seeds: a tuple of integers.

    Raises:
        ValueError: an unknown field, a value that `Case` refuses, an empty list, seeds that are
            none; grids added whose seeds differ.
    """

    def __init__(self, seeds=5, **axes):
        known = [field.name for field in dataclasses.fields(Case)]
        unknown = sorted(set(axes) - set(known))
        if unknown:
            raise ValueError(
                f"A grid has no axis {', '.join(unknown)}; it has {', '.join(known)}, and seeds."
            )
        lists = {name: _listed(name, axes[name]) for name in known if name in axes}
        combinations = itertools.product(*lists.values())
        self.cases = _unique(
            Case(**dict(zip(lists, values, strict=True))) for values in combinations
        )
        self.seeds = _seeds(seeds)

    _more = "grid.cases, grid.seeds, len(grid)"

    def _facts(self):
        return {
            "cases": len(self.cases),
            "seeds": len(self.seeds),
            "trainings": len(self),
            "varied": self.varied,
        }

    def _table(self):
        return self.varied, [[getattr(case, name) for name in self.varied] for case in self.cases]

    def __add__(self, other):
        if self.seeds != other.seeds:
            raise ValueError(
                f"Grids are added whose seeds are the same; these are {self.seeds} and {other.seeds}."
            )
        both = Grid(seeds=self.seeds)
        both.cases = _unique((*self.cases, *other.cases))
        return both

    def __len__(self):
        """The number of trainings."""
        return len(self.cases) * len(self.seeds)

    @property
    def runs(self):
        """All pairs of case and seed, case by case."""
        return list(itertools.product(self.cases, self.seeds))

    @property
    def varied(self):
        """The fields in which its cases differ."""
        fields = [field.name for field in dataclasses.fields(Case)]
        return [name for name in fields if len({getattr(case, name) for case in self.cases}) > 1]


def _unique(cases):
    return tuple(dict.fromkeys(cases))


def _listed(name, values):
    values = list(values) if isinstance(values, list | tuple | range) else [values]
    if not values:
        raise ValueError(f"The grid is empty: {name} has no value.")
    return values


def _seeds(seeds):
    seeds = range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    if not isinstance(seeds, list | tuple | range) or not all(
        type(seed) is int and seed >= 0 for seed in seeds
    ):
        raise ValueError(
            f"seeds must be a number of seeds, or a list of integers of at least 0, but is {seeds!r}."
        )
    if not seeds:
        raise ValueError("The grid is empty: it has no seeds.")
    return tuple(dict.fromkeys(seeds))


def load_grid(path):
    """The grid that a Python file defines: `grid`, a `Grid` or a function that returns one. It runs the file's code.

    Raises:
        ValueError: there is no such file, it fails, or it defines no grid.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        grid = runpy.run_path(str(path)).get("grid")
        grid = grid() if callable(grid) else grid
    except Exception as error:
        raise ValueError(f"{path} fails: {type(error).__name__}: {error}") from error
    if not isinstance(grid, Grid):
        raise ValueError(
            f"{path} must define grid = comparison.Grid(...), or a function grid() that returns one."
        )
    return grid
