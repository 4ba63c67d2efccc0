"""The scripts of examples/published: what they compare with, what they compute, and their page."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "published"
PAGE = (FOLDER / "README.md").read_text()


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def study(load, tmp_path, monkeypatch):
    found = load("study")
    monkeypatch.setattr(found, "RESULTS", tmp_path / "results")
    return found


def test_a_study_trains_only_what_is_missing_and_survives_a_cut_line(study, capsys):
    trained = []

    def train(rate, seed):
        trained.append((rate, seed))
        return {"test": rate * (1 + seed)}

    settings = [{"rate": rate, "seed": 0} for rate in (0.1, 0.2)]
    study.run("name", settings[:1], train)
    with (study.RESULTS / "name.jsonl").open("a") as file:
        file.write('{"rate": 0.2, "se')
    runs = study.run("name", settings, train)
    assert trained == [(0.1, 0), (0.2, 0)]
    assert [one["test"] for one in runs] == [0.1, 0.2]
    assert study.run("name", settings, train) == runs and len(trained) == 2


def test_the_best_rate_of_each_slope(study):
    runs = [
        {"slope": slope, "rate": rate, "validation": score}
        for slope, rate, score in [("a", 1, 0.5), ("a", 2, 0.7), ("b", 1, 0.9), ("b", 2, 0.1)]
    ]
    assert study.best(runs, "rate", "validation") == {"a": 2, "b": 1}


def test_tables(study):
    assert study.percent([0.5, 0.7]) == "60.00 ± 127.06", "Student's t of one degree of freedom"
    assert study.percent([0.5], 1) == "50.0"
    assert study.markdown(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_nielsens_record_is_that_of_his_book(load):
    found = load("nielsen").published()
    assert {depth: norms.shape for depth, norms in found.items()} == {
        2: (500, 2),
        3: (500, 3),
        4: (500, 4),
    }
    np.testing.assert_allclose(found[4][0], [0.00298, 0.0171, 0.0695, 0.2851], rtol=0.01)
    np.testing.assert_allclose(found[2][100], [0.00149, 0.00186], rtol=0.01)


def test_nielsens_table_is_what_his_record_and_our_runs_say(load):
    nielsen = load("nielsen")
    lines = (FOLDER / "results" / "nielsen.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    for depth in nielsen.DEPTHS:
        norms = [one["norms"] for one in runs if (one["depth"], one["slope"]) == (depth, "true")]
        assert len(norms) == len(nielsen.SEEDS)
        low, middle, high = np.quantile(np.array(norms)[:, 0], [0.025, 0.5, 0.975], axis=0)
        his = nielsen.published()[depth][0]
        assert ((low <= his) & (his <= high)).all(), "at the first step all are within the band"
        row = f"| {depth} layers, step 0, layer 1 | {his[0]:.3g} | {middle[0]:.3g} ("
        assert row in (FOLDER / "results" / "nielsen.md").read_text()


@pytest.mark.parametrize("levels", [2, 3, 4, 8, 16])
def test_staircases_have_the_errors_of_maxs_table(load, levels):
    staircases = load("staircases")
    error, step = staircases.MAX[levels]
    spacing, distance = staircases.best(levels)
    assert distance == pytest.approx(error, rel=1e-3)
    if levels > 2:
        assert spacing == pytest.approx(step, rel=1e-3)
    assert staircases.depth_scale(levels) == pytest.approx(-1 / math.log(1 - error), rel=2e-3)


def test_every_table_of_the_page_stands_in_the_results():
    known = {
        line for path in (FOLDER / "results").glob("*.md") for line in path.read_text().splitlines()
    }
    listed = PAGE.partition("## ")[0].splitlines()
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and line not in listed]
    assert lines
    assert not [line for line in lines if line not in known]


def test_the_page_names_every_script_and_every_picture_it_shows_exists():
    scripts = {path.name for path in FOLDER.glob("*.py")} - {"study.py", "faulty_programs.py"}
    assert not [name for name in sorted(scripts) if name not in PAGE]
    shown = [part.partition(")")[0] for part in PAGE.split("](")[1:]]
    assert shown
    assert not [link for link in shown if not (FOLDER / link).exists()]
