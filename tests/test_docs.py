"""The pages of docs/: their code runs, their commands exist, every public name has a place."""

import inspect
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from keras_surrogate import cli, presets
from keras_surrogate.functions.base import COLLECTION

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in PAGES}
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(r"keras-surrogate ([a-z][a-z-]+ [^`&\n]*)", page.read_text())
    }
)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCKS[page]], ids=lambda page: page.stem
)
def test_the_code_of_every_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    collection = dict(COLLECTION)
    # A block may use what the blocks above it on the page have made.
    namespace = {"__name__": "docs"}
    try:
        for block in BLOCKS[page]:
            exec(block, namespace)
    finally:
        COLLECTION.clear()
        COLLECTION.update(collection)
    printed = capsys.readouterr().out
    for start, end in re.findall(r'It prints "(.*?) \.\.\. (.*?)"', page.read_text()):
        assert re.search(f"{re.escape(start)} .* {re.escape(end)}", printed)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_those_of_the_command_line(command, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([command.split()[0], "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z-]+", command)) <= options


def test_every_file_that_a_page_names_exists():
    named = {
        path
        for page in PAGES
        for path in re.findall(r"(?:examples|tests)/[\w/]+\.(?:py|md|png)", page.read_text())
    }
    assert len(named) > 12
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", presets.names())
def test_the_table_of_the_gallery_has_every_preset_as_it_is(name, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(DOCS))
    import gallery

    pair = presets.get(name)
    make = getattr(presets, name)
    scale = re.search(r"scale: (.*)", make.__doc__)
    source = make.__doc__.split("Source:")[1].strip()
    slope = pair.backward.documented("slope")
    if scale:
        slope = f"{scale.group(1)} * ({slope})"
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(make).parameters.values()
    }
    assert pair.scale == (eval(scale.group(1), defaults) if scale else 1)
    value = pair.forward.documented("value")
    cells = f"[`{name}`](#preset-{name})", f"`{value}`", f"`{slope}`", source
    assert "| " + " | ".join(cells) + " |" in gallery.preset_table()


@pytest.mark.slow
def test_every_public_name_has_a_place_in_the_built_reference(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    # Sphinx's inventory: four lines of text, then one line for each name, compressed.
    *_, compressed = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)
    placed = {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}
    monkeypatch.syspath_prepend(str(DOCS))
    import hooks

    names = hooks.every_public_name()
    assert len(names) > 250
    assert not [name for name in names if name not in placed]
    # The equations became MathML.
    page = (tmp_path / "concepts" / "theory" / "index.html").read_text()
    assert page.count("<math") > 5 and "arithmatex" not in page
