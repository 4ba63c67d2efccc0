"""Rows, one for each case of some runs, compared with the true derivative seed by seed."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate.comparison import notation, statistics
from keras_surrogate.comparison.cases import Case
from keras_surrogate.comparison.statistics import Interval
from keras_surrogate.reprs import Shown
from keras_surrogate.theory import verdicts

if TYPE_CHECKING:
    from keras_surrogate.comparison.grid import Grid
    from keras_surrogate.comparison.results import Run
    from keras_surrogate.theory.verdicts import Effect

# A smaller difference in accuracy than a hundredth is no reason to choose a derivative.
RELEVANT = 0.01


@dataclasses.dataclass(frozen=True, repr=False)
class CaseSummary(Shown):
    """A summary of the seeds of one case.

    Attributes:
        case: a `Case`.
        runs: its runs, one a seed; at least one.
        difference: `Interval` of the accuracy minus that of the true derivative from the same seed;
            None for the true derivative itself, and where no seed has both.
        pairs: the number of seeds that have both.
        at_edge: True if, of several learning rates, the smallest or largest was chosen; None where
            no rate was chosen.
        measured_effect: the effect by the theory's rule from the ratios and the cosine measured
            before training, also for networks that the theory does not know; None for the true
            derivative itself, and with annealing or rates for each layer.

    Means are None where no run has a finite number.
    """

    case: Case
    runs: tuple[Run, ...]
    difference: Interval | None
    pairs: int
    at_edge: bool | None = None
    measured_effect: Effect | None = None

    _more = "row.runs, comparison.table([row]), comparison.markdown([row])"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.case,
            "seeds": len(self.runs),
            "accuracy": self.accuracy,
            "difference to the true derivative": self.difference,
            "diverged": self.diverged,
            "theory says": self.predicted_effect,
            "measurements say": self.measured_effect,
        }

    @property
    def accuracy(self) -> Interval:
        """`Interval` of the mean on the test images, with the runs that diverged."""
        return statistics.interval(self._known("accuracy"))

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the accuracy over the seeds; None for one seed."""
        return statistics.standard_deviation(self._known("accuracy"))

    @property
    def diverged(self) -> int:
        """The number of runs that diverged."""
        return sum(run.diverged for run in self.runs)

    @property
    def gradient_ratio(self) -> float | None:
        """The geometric mean with the initial weights; 0 if one run has 0."""
        return _geometric_mean(self._known("gradient_ratio"))

    @property
    def cosine(self) -> float | None:
        """The mean with the initial weights."""
        return _mean(self._known("cosine"))

    @property
    def dead_units(self) -> float | None:
        """The mean share at the end."""
        return _mean(self._known("dead_units"))

    @property
    def predicted_gradient_ratio(self) -> float | None:
        """The prediction of the theory, the same for all seeds; None without a prediction."""
        return self.runs[0].predicted_gradient_ratio

    @property
    def predicted_cosine(self) -> float | None:
        """The prediction of the theory, the same for all seeds; None without a prediction."""
        return self.runs[0].predicted_cosine

    @property
    def predicted_effect(self) -> Effect | None:
        """The prediction of the theory, the same for all seeds; None without a prediction."""
        return self.runs[0].predicted_effect

    def _known(self, name: str) -> list[float]:
        numbers = (getattr(run, name) for run in self.runs)
        return [number for number in numbers if number is not None]

    @property
    def effect(self) -> Effect | None:
        """The effect that the seeds show: "helps", "hurts" or "none"; None without an interval.

        The slope helps or hurts if the interval excludes 0 and the mean difference is at least a
        point.
        """
        if self.difference is None or self.difference.low is None:
            return None
        if abs(self.difference.mean) < RELEVANT or self.difference.low <= 0 <= self.difference.high:
            return "none"
        return "helps" if self.difference.mean > 0 else "hurts"

    @property
    def setting(self) -> dict[str, object]:
        """The values that the case shares with its true derivative, by field.

        Where the learning rate was chosen, the optimizer is only its name.
        """
        baseline = self.case.baseline
        if self.at_edge is None:
            return dataclasses.asdict(baseline)
        return dict(baseline.without_rate)


def summarize(
    grid: Grid, runs: Mapping[tuple[Case, int], Run], tune: bool = False
) -> list[CaseSummary]:
    """A `CaseSummary` for each case of a grid that has runs.

    The rows are in the grid's order; those with the same true derivative are together.

    Args:
        grid: a `Grid`.
        runs: from (case, seed) to `Run`, as `run` and `read` return them; runs of other grids are
            left out.
        tune: True shows, of cases that differ only in the learning rate, the one with the best mean
            accuracy on the images held out, also for the true derivative. Default False.

    Raises:
        ValueError: `tune` without images held out.
    """
    by_case = collections.defaultdict(dict)
    for case, seed in grid.runs:
        if (case, seed) in runs:
            by_case[case][seed] = runs[case, seed]
    edges = _tuned(by_case) if tune else dict.fromkeys(by_case)
    baselines = {_key(case, tune): case for case in edges}
    rows = collections.defaultdict(list)
    for case, edge in edges.items():
        key = _key(case.baseline, tune)
        rows[key].append(_row(case, by_case[case], by_case.get(baselines.get(key), {}), edge))
    return [row for group in rows.values() for row in group]


def record(
    rows: Iterable[CaseSummary], measured: bool = False
) -> collections.Counter[tuple[Effect, Effect]]:
    """A `Counter` of the pairs (predicted effect, shown effect) over the rows that have both.

    The shown effect is "helps", "hurts" or "none", the predicted one also "cannot tell".

    Args:
        rows: of `summarize`.
        measured: True takes `measured_effect` for the predicted one; default False.
    """
    pairs = (
        (row.measured_effect if measured else row.predicted_effect, row.effect) for row in rows
    )
    return collections.Counter(pair for pair in pairs if all(pair))


def _key(case: Case, tune: bool) -> object:
    return case.without_rate if tune else case


def _tuned(by_case: Mapping[Case, Mapping[int, Run]]) -> dict[Case, bool]:
    """The chosen cases, each with True if its learning rate is the smallest or largest tried."""
    groups = collections.defaultdict(list)
    for case in by_case:
        groups[case.without_rate].append(case)
    return dict(_best(cases, by_case) for cases in groups.values())


def _best(cases: Sequence[Case], by_case: Mapping[Case, Mapping[int, Run]]) -> tuple[Case, bool]:
    if not all(case.validation for case in cases):
        raise ValueError(
            "Learning rates are chosen on images held out: give validation, for example 0.1."
        )

    def accuracy(case: Case) -> float:
        return np.mean([run.validation_accuracy for run in by_case[case].values()])

    best = max(cases, key=accuracy)
    rates = [notation.optimizer(case.optimizer)[1] for case in cases]
    rate = notation.optimizer(best.optimizer)[1]
    return best, len(cases) > 1 and rate in (min(rates), max(rates))


def _row(
    case: Case, runs: Mapping[int, Run], baseline: Mapping[int, Run], at_edge: bool | None
) -> CaseSummary:
    shared = []
    if case != case.baseline:
        shared = [seed for seed in runs if seed in baseline]
    differences = [runs[seed].accuracy - baseline[seed].accuracy for seed in shared]
    difference = statistics.interval(differences) if shared else None
    row = CaseSummary(case, tuple(runs.values()), difference, len(shared), at_edge)
    if not shared or case.annealing or case.layer_rate != 1:
        return row
    true = CaseSummary(case.baseline, tuple(baseline.values()), None, 0)
    return dataclasses.replace(row, measured_effect=_measured_effect(row, true))


def _measured_effect(row: CaseSummary, true: CaseSummary) -> Effect | None:
    """The effect from what was measured before training."""
    return verdicts.measured_effect(
        row.gradient_ratio, true.gradient_ratio, row.cosine, row.case.rescales, row.case.rate
    )


def _mean(numbers: Sequence[float]) -> float | None:
    return float(np.mean(numbers)) if numbers else None


def _geometric_mean(numbers: Sequence[float]) -> float | None:
    if not numbers:
        return None
    if min(numbers) <= 0:
        return 0.0
    return math.exp(np.mean(np.log(numbers)))
