"""Runs of a study: dictionaries of settings, each with its results, one line of a file each.

    runs = study.run("results/name.jsonl", settings, train)

A run that the file has is not trained again, so that a study can be interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_surrogate import files
from keras_surrogate.comparison.statistics import interval

RESULTS = Path(__file__).parent / "results"

Settings = Mapping[str, Any]


def read(name: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """The finished runs of a study: their settings, results and seconds."""
    return [json.loads(line) for line in _complete_lines((folder or RESULTS) / f"{name}.jsonl")]


def _complete_lines(path: Path) -> list[str]:
    """The lines of a file but a last one that was cut off."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def run(
    name: str,
    settings: Iterable[Settings],
    train: Callable[..., dict[str, Any]],
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Train what the results of a study lack.

    Args:
        name: the file, without ".jsonl".
        settings: dictionaries of arguments of `train`, which identify a run.
        train: a function from settings to results, numbers or lists of numbers.
        folder: that of the file; default `results`, beside this file.

    Returns:
        The runs with these settings, in their order.
    """
    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    found = []
    for wanted in settings:
        known = [one for one in read(name, folder) if wanted.items() <= one.items()]
        if not known:
            start = time.perf_counter()
            results = train(**wanted)
            seconds = round(time.perf_counter() - start, 1)
            known = [{**wanted, **results, "seconds": seconds}]
            _append(folder / f"{name}.jsonl", json.dumps(known[0]))
            print(", ".join(f"{key} {_shown(value)}" for key, value in known[0].items()))
        found.append(known[0])
    return found


def _append(path: Path, line: str) -> None:
    """Add a line in the place of one that was cut off."""
    lines = [*_complete_lines(path), line]
    with files.replacing_file(path) as unfinished:
        unfinished.write_text("".join(f"{one}\n" for one in lines))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best(runs: Sequence[Settings], over: str, by: str) -> dict[Any, Any]:
    """The value of the setting `over` with the largest result `by`, for each of the others.

    Args:
        runs: finished runs of one seed.
        over: the name of a setting, such as "rate".
        by: the name of a result, such as "validation".

    Returns:
        From the first setting of the runs, such as "slope", to the value.
    """
    first = next(iter(runs[0]))
    winners: dict[Any, Settings] = {}
    for one in runs:
        leader = winners.get(one[first])
        if leader is None or one[by] > leader[by]:
            winners[one[first]] = one
    return {key: one[over] for key, one in winners.items()}


def percent(numbers: Sequence[float], digits: int = 2) -> str:
    """The mean of some shares in percent, with its 95 % interval by Student's t."""
    found = interval([100 * number for number in numbers])
    if found.low is None:
        return f"{found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f} ± {found.high - found.mean:.{digits}f}"


def markdown(heading: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(heading) - 1)]
    rows = [heading, rule, *lines]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def write(name: str, text: str, folder: Path | None = None) -> None:
    """Write a table beside the results, and print it."""
    ((folder or RESULTS) / f"{name}.md").write_text(text)
    print(text)
