"""The study in examples/evidence: its results are complete, and every table is what the results say."""

import csv
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from keras_surrogate import comparison

FOLDER = Path(__file__).parents[1] / "examples" / "evidence"
SPEC = importlib.util.spec_from_file_location("evidence_report", FOLDER / "report.py")
report = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(report)
NAMES = report.names()

every_grid = pytest.mark.parametrize("name", NAMES)


def test_every_grid_has_results():
    assert NAMES and report.grid_names() == NAMES


def test_scripts_without_a_grid_are_told_apart():
    others = [path for path in FOLDER.glob("*.py") if path.stem not in report.grid_names()]
    assert others
    assert not [path for path in others if "Grid(" in path.read_text()]


@every_grid
def test_results_are_those_of_the_grid_and_complete(name):
    grid = comparison.load_grid(FOLDER / f"{name}.py")
    runs = comparison.read(report.RESULTS / f"{name}.jsonl")
    assert set(runs) == set(grid.runs)
    assert len(grid.seeds) >= 5 or min(run.seconds for run in runs.values()) > 60


@every_grid
def test_the_table_is_what_the_results_say(name):
    assert (report.RESULTS / f"{name}.md").read_text() == comparison.markdown(report.rows_of(name))


def test_the_report_is_what_the_results_say(tmp_path, monkeypatch):
    committed = report.RESULTS
    for path in committed.glob("*.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    report.main()
    for name in (
        "grids.md",
        "summary.md",
        "record.md",
        "revival.md",
        "calibration.md",
        "dying_rates.md",
    ):
        assert (tmp_path / name).read_text() == (committed / name).read_text()
    for name in ("direction.png", "revival.png", "dying.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (committed / name).exists()


def test_the_table_of_the_law_is_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(sys.modules, "report", report)
    law = importlib.import_module("law")
    with law.FILE.open() as file:
        found = list(csv.DictReader(file))
    assert (report.RESULTS / "law.md").read_text() == law.table(found)
    known = [row for grid in law.FAMILIES["spikes"] for row in report.rows_of(grid)]
    rows = {
        (law._network(row), row.case.backward): row for row in known if row.case.backward != "true"
    }
    spikes = [one for one in found if one["family"] == "spikes"]
    assert {(one["network"], one["slope"]) for one in spikes} == set(rows)
    for one in spikes:
        accuracy = rows[one["network"], one["slope"]].accuracy.mean
        assert float(one["accuracy"]) == pytest.approx(accuracy, abs=1e-4)


def test_the_tables_of_moving_averages_are_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(sys.modules, "report", report)
    module = importlib.import_module("moving_averages")
    for name, table in zip((module.NAME, f"{module.NAME}_slopes"), module.tables(), strict=True):
        assert (report.RESULTS / f"{name}.md").read_text() == table
    runs = module.study.read(module.NAME, report.RESULTS)
    wanted = [one for name in module.GRIDS for one in module.settings(name)]
    assert len(runs) == len(wanted)
    assert all(any(one.items() <= run.items() for run in runs) for one in wanted)
    # The networks of these grids were trained anew, to the same weights.
    for name in ("sign", "two_bits", "dying"):
        known = comparison.read(report.RESULTS / f"{name}.jsonl")
        again = [run for run in runs if run["grid"] == name]
        assert again
        for run in again:
            case = comparison.Case(**run["case"])
            assert known[case, run["seed"]].accuracy == run["moving"]


def test_every_table_of_the_page_stands_in_the_results():
    known = {line for path in report.RESULTS.glob("*.md") for line in path.read_text().splitlines()}
    lines = [
        line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("|")
    ]
    assert lines
    assert not [line for line in lines if line not in known]


def test_the_page_names_every_grid_and_every_picture_it_shows_exists():
    page = (FOLDER / "README.md").read_text()
    assert not [name for name in NAMES if f"{name}.py" not in page]
    shown = [part.partition(")")[0] for part in page.split("](")[1:]]
    assert shown
    assert not [
        link for link in shown if not link.startswith("http") and not (FOLDER / link).exists()
    ]


@every_grid
def test_lines_are_those_that_would_be_written_today(name):
    lines = (report.RESULTS / f"{name}.jsonl").read_text().splitlines(keepends=True)
    assert all(comparison.Run.from_line(line).to_line() == line for line in lines)
    assert all(json.loads(line)["versions"]["keras"] for line in lines)


def test_the_table_of_the_references_is_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setitem(sys.modules, "report", report)
    which = importlib.import_module("which_reference")
    with which.FILE.open() as file:
        found = list(csv.DictReader(file))
    text = "\n".join([which.table(found), which.slopes(found)])
    assert (report.RESULTS / "which_reference.md").read_text() == text
    rows = {
        (row.case.forward, str(row.case.depth), row.case.backward): row
        for row in report.rows_of("small")
    }
    assert len(found) == len(rows)
    forwards = {family: forward for forward, family in which.FAMILIES.items()}
    for one in found:
        row = rows[forwards[one["family"]], one["depth"], one["slope"]]
        assert float(one["accuracy"]) == pytest.approx(row.accuracy.mean, abs=1e-4)
