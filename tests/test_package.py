"""The package as a whole: its public names, its rules, its backend, its README."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_surrogate as ks
from keras_surrogate import cli

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "keras_surrogate").rglob("*.py"))


def test_public_names():
    assert ks.get("sugar_bsilu") == ks.Surrogate("relu", "bsilu")
    assert set(ks.__all__) >= {
        "Surrogate",
        "get",
        "functions",
        "presets",
        "layers",
        "callbacks",
        "gradients",
        "plots",
    }
    for name in ks.__all__:
        assert getattr(ks, name)
    with pytest.raises(AttributeError, match="nonsense"):
        ks.nonsense  # noqa: B018


def test_there_is_one_custom_gradient():
    assert sum(len(re.findall(r"tf\.custom_gradient\b", path.read_text())) for path in SOURCES) == 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_only_public_interfaces_are_used(path):
    assert not re.search(r"tensorflow\.python|keras\.src", path.read_text())


def test_matplotlib_is_imported_only_by_plots():
    importing = {path.stem for path in SOURCES if _imports_matplotlib(path.read_text())}
    assert importing == {"axes"}
    code = "import sys, keras_surrogate.cli; sys.exit('keras_surrogate.plots' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def _imports_matplotlib(source):
    """Whether a module does so when it runs: imports for type checkers alone do not count."""
    running = re.sub(r"^if TYPE_CHECKING:\n((    .*)?\n)+", "", source, flags=re.M)
    return re.search(r"^\s*(import|from) matplotlib", running, re.M)


@pytest.mark.no_shortcut
def test_another_backend_is_one_clear_error(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text(
        "class backend:\n    backend = staticmethod(lambda: 'jax')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    finished = subprocess.run(
        [sys.executable, "-c", "import keras_surrogate"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert finished.returncode == 1
    assert (
        "ImportError: keras_surrogate needs Keras's TensorFlow backend, but the backend is 'jax'"
        in finished.stderr
    )


def test_every_module_has_a_test_module():
    for path in (ROOT / "keras_surrogate").glob("*.py"):
        if not path.stem.startswith("_"):
            assert (ROOT / "tests" / f"test_{path.stem}.py").exists(), path


README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"keras-surrogate ([a-z][a-z-]+ [^`&\n]*)", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_commands_are_those_of_the_command_line(command, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([command.split()[0], "--help"])
    assert set(re.findall(r"--[a-z-]+", command)) <= set(
        re.findall(r"--[a-z-]+", capsys.readouterr().out)
    )


def test_readme_has_the_two_commands():
    assert 'python -m pip install ".[examples]" && keras-surrogate demo\n' in README
    assert 'python -m pip install ".[test]" && python -m pytest\n' in README


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"(?:examples|tests)/[\w/]+\.(?:py|md|png)", README))
    assert len(named) > 5
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


def test_readme_is_short_and_its_links_lead_to_files():
    assert len(README.splitlines()) <= 120
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)", README))
    assert len(links) > 15
    assert not [link for link in sorted(links) if not (ROOT / link).exists()]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(block, tmp_path, monkeypatch):
    """All blocks; the number of the block is its place in the README."""
    monkeypatch.chdir(tmp_path)
    exec(block, {"__name__": "readme"})
