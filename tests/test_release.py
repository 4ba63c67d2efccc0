"""What a release needs: one version everywhere, files that tools can read, metadata that is complete."""

import configparser
import re
from pathlib import Path

import pytest

import keras_surrogate

ROOT = Path(__file__).parents[1]
PUBLISH = ROOT / ".github" / "workflows" / "publish.yml"
YAML = [
    ROOT / "CITATION.cff",
    ROOT / ".pre-commit-config.yaml",
    *sorted((ROOT / ".github").rglob("*.yml")),
]


def read(path):
    return pytest.importorskip("yaml").safe_load(path.read_text())


def test_the_version_is_the_same_everywhere():
    version = keras_surrogate.__version__
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    bibtex = re.search(r"Version ([\d.]+)\}", (ROOT / "docs/about/citing.md").read_text())
    assert (cited[1], newest[1], bibtex[1]) == (version, version, version)


def test_the_publish_workflow_compares_the_tag_with_the_version():
    text = PUBLISH.read_text()
    assert 'test "$GITHUB_REF_NAME" = "$version"' in text
    # The expression of its sed command.
    line = re.search(r"s/(\^__version__.*\$)/", text)[1].replace(r"\(", "(").replace(r"\)", ")")
    source = (ROOT / "keras_surrogate" / "__init__.py").read_text()
    assert re.findall(line, source, re.MULTILINE) == [keras_surrogate.__version__]


def test_publishing_needs_the_tests_and_the_build():
    workflow = read(PUBLISH)
    # YAML reads the key `on` as True.
    assert list(workflow[True]) == ["push"] and list(workflow[True]["push"]) == ["tags"]
    assert set(workflow["jobs"]["publish"]["needs"]) == {"tests", "build"}
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_files_can_be_read(path):
    assert isinstance(read(path), dict)


def test_workflows_test_every_python_of_the_classifiers_and_the_oldest_versions():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    classified = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == classified
    assert jobs["nightly"]["continue-on-error"]
    oldest = re.findall(r"(tensorflow|keras) >= ([\d.]+)", setup["options"]["install_requires"])
    installed = " ".join(step.get("run", "") for step in jobs["oldest"]["steps"])
    assert len(oldest) == 2
    assert all(f'"{name}=={version}.0"' in installed for name, version in oldest)


def test_the_workflow_and_the_local_check_try_the_same_files_on_the_oldest_versions():
    patterns = [
        set(re.findall(r"tests/test_[\w*]+\.py", text[text.index("2.18.0") :]))
        for text in (
            (ROOT / ".ci" / "run").read_text(),
            (ROOT / ".github" / "workflows" / "tests.yml").read_text().split("nightly:")[0],
        )
    ]
    assert patterns[0] == patterns[1] and len(patterns[0]) > 8


def test_the_command_of_the_bug_report_prints_the_versions(capsys):
    form = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")
    asked = next(part for part in form["body"] if part.get("id") == "versions")
    code = re.search(r'python -c "(.*)"', asked["attributes"]["description"])[1]
    exec(code, {})
    assert f"keras_surrogate {keras_surrogate.__version__}" in capsys.readouterr().out
