"""The report of a conversion: what it changed and what it could not reach."""

from __future__ import annotations

import collections
import dataclasses
import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keras_surrogate.reprs import Shown

if TYPE_CHECKING:
    import keras

# The last report on each model, kept as long as the model exists.
_REPORTS = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Change:
    """One activation that was changed.

    Attributes:
        path: its place.
        before: the name of the old activation.
        after: the name of the new one.
    """

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


@dataclasses.dataclass(frozen=True)
class Unreached:
    """A place that was not changed, or only in part.

    Attributes:
        path: the place.
        reason: the reason, in words.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Shown):
    """The changes of a conversion, and the places that it did not reach.

    Attributes:
        changes: a `Change` for each activation that was changed, first layer first.
        unreached: an `Unreached` for each place that the conversion could not change or look into.
    """

    changes: tuple[Change, ...]
    unreached: tuple[Unreached, ...] = ()

    _more = "print(report), report.changes, report.unreached"

    def _facts(self) -> dict[str, object]:
        counts = collections.Counter(
            f"{change.before} -> {change.after}" for change in self.changes
        )
        kinds = [f"{kind} ({count})" for kind, count in counts.most_common(3)]
        facts = {"changed": len(self.changes), "not reached": len(self.unreached)}
        if kinds:
            title = "mostly:" if len(counts) > 3 else "namely:"
            facts[title] = kinds
        return facts

    def _table(self) -> tuple[list[str], list[tuple[str, str, str]]]:
        changed = [(change.path, change.before, change.after) for change in self.changes]
        left = [(place.path, "not reached", place.reason) for place in self.unreached]
        return ["place", "before", "after"], [*changed, *left]

    def __str__(self) -> str:
        lines = [
            f"{len(self.changes)} activation(s) changed",
            *(f"  {change}" for change in self.changes),
        ]
        if self.unreached:
            lines.append(f"{len(self.unreached)} place(s) not reached")
            lines += [f"  {place}" for place in _grouped(self.unreached)]
        return "\n".join(lines)


def report(model: keras.Model) -> Report:
    """The report on a model from `swap`, `strip` or `quantize`. `print` shows it as a list.

    Raises:
        ValueError: none of them returned this model.
    """
    if model not in _REPORTS:
        raise ValueError(
            f"There is no report on {model!r}: neither swap, strip nor quantize returned it."
        )
    return _REPORTS[model]


def keep(model: keras.Model, found: Report) -> None:
    """Keep a report for `report`, and warn about places that were not reached."""
    _REPORTS[model] = found
    if found.unreached:
        places = "; ".join(_grouped(found.unreached, most=3))
        warnings.warn(
            f"{len(found.unreached)} place(s) of {model.name} were not reached: {places}",
            stacklevel=3,
        )


def _grouped(unreached: Iterable[Unreached], most: int | None = None) -> list[str]:
    """Each reason once, after the paths that it is about, or the first few of them."""
    paths = collections.defaultdict(list)
    for place in unreached:
        paths[place.reason].append(place.path)
    return [f"{_listed(found, most)}: {reason}" for reason, found in paths.items()]


def _listed(paths: Sequence[str], most: int | None) -> str:
    left_out = 0 if most is None else max(0, len(paths) - most)
    return ", ".join(paths[:most]) + (f" and {left_out} more" if left_out else "")
