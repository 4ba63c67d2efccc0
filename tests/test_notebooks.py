"""The notebooks of examples/: their code runs, and what is committed is their output."""

import base64
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST_PICTURE = 60_000

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def outputs(path):
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def test_there_are_notebooks():
    names = {path.stem for path in NOTEBOOKS}
    assert names >= {"first_steps", "see_and_diagnose", "binary_to_litert", "spiking"}


@every_notebook
def test_the_first_cell_installs_and_the_text_says_how_from_a_checkout(path):
    install, *others = map(source, code_cells(path))
    extras = re.fullmatch(r'%pip install -q "keras_surrogate\[([a-z,]+)\]"', install)[1]
    assert f'pip install ".[{extras}]"' in path.read_text().replace('\\"', '"')
    assert not [code for code in others if re.search(r"^[%!]", code, re.MULTILINE)]


@every_notebook
def test_the_committed_outputs_have_a_picture_and_no_error(path):
    assert not [output for output in outputs(path) if output["output_type"] == "error"]
    assert not [output for output in outputs(path) if output.get("name") == "stderr"]
    pictures = [
        base64.b64decode(output["data"]["image/png"])
        for output in outputs(path)
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert max(map(len, pictures)) < LARGEST_PICTURE


@every_notebook
def test_the_cells_were_run_from_top_to_bottom(path):
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert any(output["output_type"] == "stream" for output in outputs(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@every_notebook
def test_the_code_runs(path, tmp_path, monkeypatch):
    """All cells in one namespace, as a kernel runs them, but without installing."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "notebook"}
    for cell in code_cells(path)[1:]:
        exec(source(cell), namespace)


def test_the_documentation_and_the_readme_lead_to_every_notebook():
    readme = (FOLDER.parents[1] / "README.md").read_text()
    page = (FOLDER.parents[1] / "docs" / "notebooks.md").read_text()
    for notebook in NOTEBOOKS:
        assert f"(examples/notebooks/{notebook.name})" in readme
        assert f"(notebooks/{notebook.name})" in page
