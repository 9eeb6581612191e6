"""The code of every page is run by some test, and every command on a page is one that letsam has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from letsam.cli import app, run
from letsam.results import Results
from page_code import blocks_of, run_code
from report_cases import trial
from site_cases import ROOT, tool

# Pages whose Python code is run here; that of others is run by tests of what they are about.
HERE = ["docs/start.md", "docs/concepts/default.md", "docs/concepts/learned-radius.md", "docs/how-to/decision.md"]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def commands_on(page: str) -> list[list[str]]:
    """The command lines of letsam in the blocks of code of a page, without `letsam`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    code = "".join(code for language, code in blocks if language in ("", "sh", "bash"))
    lines = re.findall(r"^(?:torchrun .*-m )?letsam (.+)$", code.replace("\\\n", " "), re.M)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_code_of_every_page_is_run() -> None:
    """Here, or by a test that reads its blocks. Those of further languages are the same, see `test_languages.py`."""
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    readers = [text for text in tests if "import" in text and ("blocks_of(" in text or "section_of(" in text)]
    languages = tuple(f"docs/{code}/" for code in tool("build_site").languages(ROOT / "docs"))
    with_code = [page for page in PAGES if blocks_of(page) and not page.startswith(languages)]
    assert len(with_code) > 30
    assert set(HERE) <= set(with_code)
    for page in with_code:
        names = f'"{page}"', f'"{Path(page).stem}"'
        assert page in HERE or any(name in text for text in readers for name in names), page


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in HERE if "/concepts/" in page])
def test_the_code_of_a_concept_runs(page: str, here: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        run_code(block, page, names)
    assert "letsam" in names


@pytest.mark.slow
def test_the_code_of_the_first_page_does_what_the_page_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"__name__": "start"}
    fit, check = blocks_of("docs/start.md")
    run_code(fit, "start", names)
    lines = capsys.readouterr().out.splitlines()
    shown = re.findall(r"^test accuracy .*$", (ROOT / "docs" / "start.md").read_text(encoding="utf-8"), re.M)
    assert len(lines) == len(shown) == 2
    for line, on_page in zip(lines, shown, strict=True):
        found, expected = ([float(x) for x in re.findall(r"[\d.]+", one)] for one in (line, on_page))
        assert found == pytest.approx(expected, rel=0.1)
    run_code(check, "start", names)
    assert "model=model" in capsys.readouterr().out


@pytest.mark.slow
def test_the_trial_of_the_first_page(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: None)  # `tests/reports` makes it
    (command,) = [arguments for arguments in commands_on("docs/start.md") if arguments[0] == "trial"]
    assert run([*command, "--seeds", "1", "--epochs", "20"]) == 0
    found = {one.method: one.test_accuracy for one in Results.load("runs/first/results.json").runs}
    assert list(found) == ["sgd", "sam", "lets-sam"]
    assert found["lets-sam"] > found["sgd"]


def test_a_decision_from_python(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    trial({"sgd": [0.70, 0.71, 0.72], "lets-sam": [0.90, 0.91, 0.92]}).save("runs/mine/results.json")
    (block,) = blocks_of("docs/how-to/decision.md")
    run_code(block, "decision", {})
    assert capsys.readouterr().out.startswith("Go: use lets-sam instead of sgd")


COMMANDS = [(page, arguments) for page in PAGES for arguments in commands_on(page)]


def test_every_command_on_a_page_is_known() -> None:
    """With all its options; those of most pages are run by other tests."""
    known = typer.main.get_command(app).commands
    assert len(COMMANDS) > 50
    for page, (name, *arguments) in COMMANDS:
        if not name.startswith("-") and "..." not in arguments:
            assert name in known, page
            known[name].make_context(name, list(arguments))


def test_an_option_that_is_gone_is_seen() -> None:
    known = typer.main.get_command(app).commands
    with pytest.raises(Exception, match="nowhere"):
        known["trial"].make_context("trial", ["digits", "--nowhere", "1"])
