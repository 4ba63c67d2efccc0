"""What a conversion changed and what it could not reach."""

import collections
import dataclasses
import warnings
import weakref

from keras_surrogate.reprs import Shown

# The last report on each model, as long as the model lives.
_REPORTS = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Change:
    """One activation that was changed: where, and the names of what was there and of what is there now."""

    path: str
    before: str
    after: str

    def __str__(self):
        return f"{self.path}: {self.before} -> {self.after}"


@dataclasses.dataclass(frozen=True)
class Unreached:
    """A place that was left as it was, or could only be changed in part, and why."""

    path: str
    reason: str

    def __str__(self):
        return f"{self.path}: {self.reason}"


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Shown):
    """What a conversion did to a model.

    Attributes:
        changes: a `Change` for each activation that was changed, first layer first.
        unreached: an `Unreached` for each place that the conversion could not change or look into.
    """

    changes: tuple
    unreached: tuple = ()

    _more = "print(report), report.changes, report.unreached"

    def _facts(self):
        counts = collections.Counter(
            f"{change.before} -> {change.after}" for change in self.changes
        )
        kinds = [f"{kind} ({count})" for kind, count in counts.most_common(3)]
        facts = {"changed": len(self.changes), "not reached": len(self.unreached)}
        return {**facts, "mostly:" if len(counts) > 3 else "namely:": kinds} if kinds else facts

    def _table(self):
        changed = [(change.path, change.before, change.after) for change in self.changes]
        left = [(place.path, "not reached", place.reason) for place in self.unreached]
        return ["place", "before", "after"], [*changed, *left]

    def __str__(self):
        lines = [
            f"{len(self.changes)} activation(s) changed",
            *(f"  {change}" for change in self.changes),
        ]
        if self.unreached:
            lines.append(f"{len(self.unreached)} place(s) not reached")
            lines += [f"  {place}" for place in _grouped(self.unreached)]
        return "\n".join(lines)


def report(model):
    """The `Report` on a model that `swap` or `strip` returned; printed, it is a list.

    Raises:
        ValueError: neither of them returned this model.
    """
    if model not in _REPORTS:
        raise ValueError(f"There is no report on {model!r}: neither swap nor strip returned it.")
    return _REPORTS[model]


def keep(model, found):
    """Keeps a report for `report`, and warns of what was not reached."""
    _REPORTS[model] = found
    if found.unreached:
        places = "; ".join(_grouped(found.unreached, most=3))
        warnings.warn(
            f"{len(found.unreached)} place(s) of {model.name} were not reached: {places}",
            stacklevel=3,
        )


def _grouped(unreached, most=None):
    """Each reason once, behind the paths that it goes for, or the first few of them."""
    paths = collections.defaultdict(list)
    for place in unreached:
        paths[place.reason].append(place.path)
    return [f"{_listed(found, most)}: {reason}" for reason, found in paths.items()]


def _listed(paths, most):
    left_out = 0 if most is None else max(0, len(paths) - most)
    return ", ".join(paths[:most]) + (f" and {left_out} more" if left_out else "")
