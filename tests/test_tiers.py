"""The choice of the default tier, in this collection and in a small one."""

import json
import re
from pathlib import Path

import pytest
import tiers

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent


def of(name, count):
    return [f"tests/test_a.py::{name}[{number}/x]" for number in range(count)]


@pytest.mark.parametrize(
    "cost, kept",
    [
        (0, range(10)),
        (0.05, range(10)),
        (0.1, range(10)),
        (0.25, [0, 2, 5, 7]),
        (0.9, [0]),
        (2, []),
    ],
)
def test_as_many_sets_as_fit_evenly_spaced(cost, kept):
    sets = of("test_f", 10)
    found = tiers.chosen(sets, {"test_a.py::test_f": cost})
    assert found == {sets[number] for number in kept}


def test_each_function_has_seconds_of_its_own():
    sets = of("test_f", 3) + of("test_g", 3)
    found = tiers.chosen(sets, {"test_a.py::test_f": 2, "test_b.py::test_g": 2})
    assert found == set(of("test_g", 3))


def test_all_costs_are_those_of_functions_that_exist():
    names = {
        (path.name, name)
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    # Between file and name there may be a class.
    known = {(one.partition("::")[0], one.rpartition("::")[2]) for one in tiers.read()}
    assert known
    assert known <= names


@pytest.fixture
def small(pytester):
    """A small collection with these options; some sets of parameters take long."""
    pytester.makepyfile(tiers=(HERE / "tiers.py").read_text())
    pytester.makeconftest("from tiers import *")
    pytester.makepyfile(
        test_a="""
            import time, pytest

            @pytest.mark.parametrize("number", range(4))
            def test_sleeps(number):
                time.sleep(0.2)

            @pytest.mark.slow
            def test_slow():
                pass

            def test_quick():
                pass
        """
    )
    costs = {"test_a.py::test_sleeps": 0.5, "test_b.py::test_other": 3}
    (pytester.path / "costs.json").write_text(json.dumps(costs))
    pytester.makeini("[pytest]\nmarkers = slow")
    return pytester


@pytest.mark.parametrize("processes", [[], ["-n", "2"]])
@pytest.mark.parametrize(
    "arguments, passed",
    [([], 3), (["test_a.py"], 3), (["test_a.py::test_sleeps"], 4), (["--all"], 6)],
)
def test_what_runs(small, arguments, passed, processes):
    result = small.runpytest_subprocess(*arguments, *processes)
    result.assert_outcomes(passed=passed)
    is_told = "Left out: " in result.stdout.str()
    assert is_told == ("--all" not in arguments)


@pytest.mark.parametrize("processes", [[], ["-n", "2"]])
def test_costs_are_measured_and_those_of_other_files_kept(small, processes):
    small.runpytest_subprocess("--all", "--write-costs", *processes).assert_outcomes(passed=6)
    found = json.loads((small.path / "costs.json").read_text())
    assert set(found) == {"test_a.py::test_sleeps", "test_b.py::test_other"}
    assert found["test_b.py::test_other"] == 3
    assert 0.2 <= found["test_a.py::test_sleeps"] < 0.5


def test_costs_are_measured_with_all_tests_only(small):
    result = small.runpytest_subprocess("--write-costs")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--write-costs measures all tests: pytest --all --write-costs*"])
