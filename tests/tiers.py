"""The two tiers of the tests: five minutes by default, and everything with `--all`.

    python -m pytest
    python -m pytest --all
    python -m pytest --all --write-costs        measures all, and writes tests/costs.json

By default no test runs that is marked `slow`, and each test function may take SECONDS. If all its sets of
parameters take longer, only some of them run, evenly spaced; if a single one does, none. A function that
costs.json does not know runs as a whole, and so does what is named, as in `pytest tests/test_a.py::test_b`.
"""

import collections
import json
from pathlib import Path

import pytest

# For each test function, on the machine on which costs.json was measured.
SECONDS = 1.0
# What a function costs in all if it is worth a line of costs.json.
KEPT = 0.5
FILE = Path(__file__).parent / "costs.json"

LEFT_OUT = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="everything, half an hour on two cores")
    parser.addoption("--write-costs", action="store_true", help="with --all: tests/costs.json anew")


def pytest_configure(config):
    if config.getoption("write_costs") and not config.getoption("all"):
        raise pytest.UsageError("--write-costs measures all tests: pytest --all --write-costs")
    # With `-n` all reports come to the one process that has no `workerinput`.
    if config.getoption("write_costs") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer())


def pytest_collection_modifyitems(config, items):
    is_named = any("::" in argument for argument in config.args)
    if config.getoption("all") or is_named:
        return
    quick = [item.nodeid for item in items if not item.get_closest_marker("slow")]
    kept = chosen(quick, read())
    left_out = [item for item in items if item.nodeid not in kept]
    items[:] = [item for item in items if item.nodeid in kept]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter, config):
    # With `-n` the workers collect, and this process knows no number.
    if not config.getoption("all"):
        number = config.stash.get(LEFT_OUT, "the")
        terminalreporter.write_line(f"Left out: {number} tests that take longer. All: pytest --all")


def function(nodeid):
    """Of a test: its file and its name, without parameters."""
    return nodeid.partition("[")[0].rpartition("/")[2]


def chosen(nodeids, costs):
    """The tests of the default tier.

    Args:
        nodeids: all tests but those marked `slow`.
        costs: from function to its seconds for one set of parameters.
    """
    found = collections.defaultdict(list)
    for nodeid in nodeids:
        found[function(nodeid)].append(nodeid)
    return {one for name, sets in found.items() for one in _fitting(sets, costs.get(name, 0))}


def _fitting(sets, cost):
    """As many as fit into the budget, evenly spaced."""
    count = min(len(sets), int(SECONDS / cost)) if cost else len(sets)
    return [sets[place * len(sets) // count] for place in range(count)]


def read():
    """From function to its seconds for one set of parameters."""
    return json.loads(FILE.read_text())


class Writer:
    """A plugin that measures the functions of this run; for other files the known costs are kept."""

    def __init__(self):
        self._seconds = collections.defaultdict(float)
        self._sets = collections.defaultdict(set)

    def pytest_runtest_logreport(self, report):
        name = function(report.nodeid)
        self._seconds[name] += report.duration
        self._sets[name].add(report.nodeid)

    def pytest_sessionfinish(self):
        measured = {_file(name) for name in self._seconds}
        costs = {name: cost for name, cost in read().items() if _file(name) not in measured}
        for name, seconds in self._seconds.items():
            if seconds >= KEPT:
                costs[name] = round(seconds / len(self._sets[name]), 4)
        FILE.write_text(json.dumps(dict(sorted(costs.items())), indent=1) + "\n")


def _file(name):
    return name.partition("::")[0]
