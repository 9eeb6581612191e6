"""What a release needs: citation, security policy, templates of issues, the workflow, and what versions promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import letsam
from letsam.cli import app
from page_code import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORGE = ROOT / ".github"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format requires
    assert citation["version"] == letsam.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert "2408.08222" in str(paper["identifiers"])
    assert [author["family-names"] for author in paper["authors"]] == ["Wang", "Jiang", "Fu", "Zhang"]


@pytest.mark.parametrize("path", sorted((FORGE / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_templates_of_issues_are_forms(path: Path) -> None:
    form = read(path)
    if path.stem == "config":
        assert form.keys() == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields) >= 2
    assert all(field["attributes"]["label"] for field in fields)


def release_steps() -> list[tuple[str, dict[str, Any]]]:
    jobs = read(FORGE / "workflows" / "release.yml")["jobs"]
    return [(name, step) for name, job in jobs.items() for step in job["steps"]]


def test_the_release_workflow_builds_tries_and_publishes() -> None:
    workflow = read(FORGE / "workflows" / "release.yml")
    assert workflow[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+*"]}}  # YAML 1.1 reads `on` as true
    jobs = workflow["jobs"]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        ("build", None),
        ("try", "build"),
        ("publish", "try"),
    ]
    versions = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", text)]
    assert jobs["try"]["strategy"]["matrix"]["python"] == versions
    assert jobs["publish"]["permissions"] == {"contents": "write", "id-token": "write"}
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in (FORGE / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_the_commands_of_the_release_workflow_can_be_read() -> None:
    scripts = [step["run"] for _, step in release_steps() if "run" in step]
    assert len(scripts) == 5
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for command in re.findall(r"^letsam (.*?)(?: >.*)?$", script, re.M):
            name, *arguments = shlex.split(command)
            typer.main.get_group(app).commands[name].make_context(name, arguments)
        for tool in re.findall(r"python (tools/\S+)", script):
            assert (ROOT / tool).is_file()


def release_notes(version: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "release_notes.py"), version]
    return subprocess.run(command, capture_output=True, text=True)


def test_notes_of_a_release_are_a_section_of_the_changelog(tmp_path: Path) -> None:
    for name in ("tools/release_notes.py", "src/letsam/_version.py", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    later, earlier = "## 0.2.0 - 2030-01-01\n\nlater", "## 0.0.1 - 2020-01-01\n\n- b"
    changelog = f"# Changelog\n\n{later}\n\n## {{}} - {{}}\n\n### Added\n\n- a\n\n{earlier}\n"
    version = letsam.__version__

    (tmp_path / "CHANGELOG.md").write_text(changelog.format(version, "2026-01-31"))
    done = release_notes(version, tmp_path)
    assert (done.returncode, done.stdout) == (0, "### Added\n\n- a\n")

    other = release_notes("7.0.0", tmp_path)
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr == f"error: src/letsam/_version.py: expected the version 7.0.0, got {version}\n"

    (tmp_path / "CHANGELOG.md").write_text(changelog.format(version, "unreleased"))
    undated = release_notes(version, tmp_path)
    assert undated.stderr == f"error: CHANGELOG.md: expected `## {version} - YYYY-MM-DD`, got unreleased\n"


def test_the_changelog_has_the_section_that_a_release_takes() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(letsam.__version__)} - (unreleased|\d{{4}}-\d\d-\d\d)$", text, re.M)
    headings = re.findall(r"^### (.*)$", text, re.M)
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_it_runs_on_is_what_was_tried() -> None:
    """The versions that `pyproject.toml` admits, and the table of those that were tried."""
    text = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+\.\d+)\.\d+ \| (\d+\.\d+)\.\d+\S* ", text, re.M)
    tried = {row[0] for row in rows}
    assert {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", text)} == tried
    oldest = min((tuple(map(int, torch.split("."))) for _, torch in rows))
    assert PROJECT["dependencies"] == [f"torch>={oldest[0]}.{oldest[1]}"]
    assert PROJECT["requires-python"] == f">={min(tried)}"
    assert f"needs Python {min(tried)} or newer and torch {oldest[0]}.{oldest[1]} or newer" in text
    pinned = re.search(r"^torch==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned is not None
    assert ("3.11", pinned[1]) in rows  # what CI runs


def test_nothing_is_deprecated_where_the_page_says_so() -> None:
    """Where something is, the page names it instead."""
    text = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")
    warned = [path for path in (ROOT / "src").rglob("*.py") if "DeprecationWarning" in path.read_text(encoding="utf-8")]
    assert (warned == []) == ("Nothing is deprecated at present." in text)
