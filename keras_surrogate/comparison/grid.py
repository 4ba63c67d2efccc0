"""A grid: all combinations of some values for each field of a case, and the seeds."""

from __future__ import annotations

import dataclasses
import itertools
import runpy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_surrogate import checks
from keras_surrogate.comparison.cases import Case
from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike


class Grid(Shown):
    """All combinations of the values given for each field of `Case`, each trained from every seed.

        Grid(backward=["true", "bsilu"], depth=[5, 20], seeds=5)    four cases, twenty trainings
        Grid(backward="true") + Grid(backward="bsilu", balanced=[False, True])    three cases

    Args:
        seeds: their number, for 0, 1, 2, ...; or the seeds themselves, integers of at least 0.
            Default 5.
        axes: fields of `Case`, each one value or a list of values.

    Attributes:
        cases: a tuple of `Case`; equivalent combinations are one case.
        seeds: a tuple of integers.
        path: the Python file that `load_grid` read it from, or None.

    Raises:
        ValueError: an unknown field, a value that `Case` refuses, an empty list, or invalid seeds;
            a sum of grids with different seeds.
    """

    def __init__(self, seeds: int | Sequence[int] = 5, **axes: Any) -> None:
        known = [field.name for field in dataclasses.fields(Case)]
        unknown = sorted(set(axes) - set(known))
        if unknown:
            raise ValueError(
                f"A grid has no axis {', '.join(unknown)}; it has {', '.join(known)}, and seeds."
            )
        lists = {name: _listed(name, axes[name]) for name in known if name in axes}
        combinations = itertools.product(*lists.values())
        self.cases: tuple[Case, ...] = _unique(
            Case(**dict(zip(lists, values, strict=True))) for values in combinations
        )
        self.seeds: tuple[int, ...] = _seeds(seeds)
        self.path: Path | None = None

    _more = "grid.cases, grid.seeds, len(grid)"

    def _facts(self) -> dict[str, object]:
        return {
            "cases": len(self.cases),
            "seeds": len(self.seeds),
            "trainings": len(self),
            "varied": self.varied,
        }

    def _table(self) -> tuple[list[str], Iterable[Iterable[object]]]:
        return self.varied, [[getattr(case, name) for name in self.varied] for case in self.cases]

    def __add__(self, other: Grid) -> Grid:
        if self.seeds != other.seeds:
            raise ValueError(
                "Grids can be added if their seeds are the same, but these are "
                f"{self.seeds} and {other.seeds}."
            )
        both = Grid(seeds=self.seeds)
        both.cases = _unique((*self.cases, *other.cases))
        return both

    def __len__(self) -> int:
        """The number of trainings."""
        return len(self.cases) * len(self.seeds)

    @property
    def runs(self) -> list[tuple[Case, int]]:
        """All pairs of case and seed, case by case."""
        return list(itertools.product(self.cases, self.seeds))

    @property
    def varied(self) -> list[str]:
        """The fields in which the cases differ."""
        fields = [field.name for field in dataclasses.fields(Case)]
        return [name for name in fields if len({getattr(case, name) for case in self.cases}) > 1]


def _unique(cases: Iterable[Case]) -> tuple[Case, ...]:
    return tuple(dict.fromkeys(cases))


def _listed(name: str, values: object) -> list[object]:
    if not isinstance(values, list | tuple | range):
        return [values]
    values = list(values)
    if not values:
        raise ValueError(f"The grid is empty: {name} has no value.")
    return values


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        seeds = range(seeds)
    if not isinstance(seeds, list | tuple | range):
        raise ValueError(
            "Grid: seeds must be a number of seeds, or a list of integers of at least 0, but is "
            f"{seeds!r}."
        )
    seeds = [checks.integer(seed, "Grid: each of the seeds", least=0) for seed in seeds]
    if not seeds:
        raise ValueError("The grid is empty: it has no seeds.")
    return tuple(dict.fromkeys(seeds))


def load_grid(path: PathLike) -> Grid:
    """The grid of a Python file, which is run.

    Args:
        path: a file that defines `grid`, a `Grid` or a function that returns one.

    Raises:
        ValueError: there is no such file, it fails, or it defines no grid.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        grid = runpy.run_path(str(path)).get("grid")
        if callable(grid):
            grid = grid()
    except Exception as error:
        raise ValueError(f"{path} fails: {type(error).__name__}: {error}") from error
    if not isinstance(grid, Grid):
        raise ValueError(
            f"{path} must define grid = comparison.Grid(...), or a function grid() that returns "
            "one."
        )
    grid.path = Path(path).absolute()
    return grid
