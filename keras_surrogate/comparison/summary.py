"""From runs to the rows of a table: one for each case, compared to the true derivative seed by seed."""

import collections
import dataclasses
import math

import numpy as np

from keras_surrogate.comparison import notation, statistics
from keras_surrogate.comparison.cases import Case
from keras_surrogate.comparison.statistics import Interval
from keras_surrogate.reprs import Shown

# A smaller difference in accuracy, a hundredth, is none that one would choose a derivative for.
RELEVANT = 0.01


@dataclasses.dataclass(frozen=True, repr=False)
class Row(Shown):
    """What the seeds of one case say.

    Attributes:
        case: a `Case`.
        runs: its runs, one a seed; at least one.
        difference: `Interval` of the accuracy less that of the true derivative from the same seed;
            None for that itself, and where no seed has both.
        pairs: the number of such seeds.
        at_edge: whether, of several learning rates, the smallest or largest tried was chosen; None
            where none was.

    What it says of them is None where no run has a finite number.
    """

    case: Case
    runs: tuple
    difference: Interval | None
    pairs: int
    at_edge: bool | None = None

    _more = "row.runs, comparison.table([row]), comparison.markdown([row])"

    def _facts(self):
        return {
            "": self.case,
            "seeds": len(self.runs),
            "accuracy": self.accuracy,
            "difference to the true derivative": self.difference,
            "diverged": self.diverged,
            "theory says": self.predicted_effect,
        }

    @property
    def accuracy(self):
        """`Interval` of the mean on the test images; a run that diverged counts with what it scored."""
        return statistics.interval(self._known("accuracy"))

    @property
    def deviation(self):
        """The standard deviation of the accuracy over the seeds; None of one."""
        return statistics.standard_deviation(self._known("accuracy"))

    @property
    def diverged(self):
        """The number of runs that did."""
        return sum(run.diverged for run in self.runs)

    @property
    def gradient_ratio(self):
        """The geometric mean with the initial weights, of which 0 makes 0."""
        return _geometric_mean(self._known("gradient_ratio"))

    @property
    def cosine(self):
        """The mean with the initial weights."""
        return _mean(self._known("cosine"))

    @property
    def dead_units(self):
        """The mean share at the end."""
        return _mean(self._known("dead_units"))

    @property
    def predicted_gradient_ratio(self):
        """The theory's, which is the same for all seeds; None without."""
        return self.runs[0].predicted_gradient_ratio

    @property
    def predicted_cosine(self):
        """Likewise."""
        return self.runs[0].predicted_cosine

    @property
    def predicted_effect(self):
        """Likewise."""
        return self.runs[0].predicted_effect

    def _known(self, name):
        numbers = (getattr(run, name) for run in self.runs)
        return [number for number in numbers if number is not None]

    @property
    def effect(self):
        """What the seeds show of the difference: "helps", "hurts" or "none"; None where there is no interval.

        It helps or hurts if the interval leaves out 0 and the mean difference is at least a point.
        """
        if self.difference is None or self.difference.low is None:
            return None
        if abs(self.difference.mean) < RELEVANT or self.difference.low <= 0 <= self.difference.high:
            return "none"
        return "helps" if self.difference.mean > 0 else "hurts"

    @property
    def setting(self):
        """What the case shares with the true derivative it is compared to: a dictionary from field to value.

        Of an optimizer whose learning rate was chosen, only the name.
        """
        values = dataclasses.asdict(self.case.baseline)
        return (
            values if self.at_edge is None else {**values, **dict(self.case.baseline.without_rate)}
        )


def summarize(grid, runs, tune=False):
    """A `Row` for each case of a grid that has runs, in the grid's order, those with the same true derivative together.

    Args:
        grid: a `Grid`.
        runs: from (case, seed) to `Run`, as `run` and `read` give them; what is not of the grid is
            left out.
        tune: whether of cases that differ only in the learning rate the one with the best mean
            accuracy on the images held out is shown, and none else; that goes for the true
            derivative as well. Default False.

    Raises:
        ValueError: `tune` without images held out.
    """
    by_case = collections.defaultdict(dict)
    for case, seed in grid.runs:
        if (case, seed) in runs:
            by_case[case][seed] = runs[case, seed]
    edges = dict.fromkeys(by_case)
    if tune:
        edges = _tuned(by_case)
    baselines = {_key(case, tune): case for case in edges}
    rows = collections.defaultdict(list)
    for case, edge in edges.items():
        key = _key(case.baseline, tune)
        rows[key].append(_row(case, by_case[case], by_case.get(baselines.get(key), {}), edge))
    return [row for group in rows.values() for row in group]


def record(rows):
    """How often the theory was right: a `Counter` of (predicted, shown) over the rows that have both.

    Each is "helps", "hurts" or "none".
    """
    return collections.Counter(
        (row.predicted_effect, row.effect) for row in rows if row.predicted_effect and row.effect
    )


def _key(case, tune):
    return case.without_rate if tune else case


def _tuned(by_case):
    """The chosen cases, each with whether its learning rate is the smallest or largest of those tried."""
    groups = collections.defaultdict(list)
    for case in by_case:
        groups[case.without_rate].append(case)
    return dict(_best(cases, by_case) for cases in groups.values())


def _best(cases, by_case):
    if not all(case.validation for case in cases):
        raise ValueError(
            "Learning rates are chosen on images held out: give validation, such as 0.1."
        )
    best = max(
        cases, key=lambda case: np.mean([run.validation_accuracy for run in by_case[case].values()])
    )
    rates = [notation.optimizer(case.optimizer)[1] for case in cases]
    rate = notation.optimizer(best.optimizer)[1]
    return best, len(cases) > 1 and rate in (min(rates), max(rates))


def _row(case, runs, baseline, at_edge):
    shared = [] if case == case.baseline else [seed for seed in runs if seed in baseline]
    differences = [runs[seed].accuracy - baseline[seed].accuracy for seed in shared]
    difference = statistics.interval(differences) if shared else None
    return Row(case, tuple(runs.values()), difference, len(shared), at_edge)


def _mean(numbers):
    return float(np.mean(numbers)) if numbers else None


def _geometric_mean(numbers):
    if not numbers:
        return None
    return math.exp(np.mean(np.log(numbers))) if min(numbers) > 0 else 0.0
