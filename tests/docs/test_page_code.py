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
from site_cases import ROOT

# Pages whose Python code is run here, block after block, and what is checked afterwards.
HERE = ["docs/start.md", "docs/concepts/default.md", "docs/concepts/learned-radius.md", "docs/how-to/decision.md"]
# The others, with the test that runs their code.
ELSEWHERE = {
    "README.md": "test_examples.py",
    "docs/adoption.md": "cli/test_adoption_page.py",
    "docs/base-optimizers.md": "contract/test_base_optimizers.py",
    "docs/how-a-step-works.md": "test_how_a_step_works.py",
    "docs/model-folder.md": "model_folder/test_pages.py",
    "docs/how-to/accelerate.md": "integrations/test_pages.py",
    "docs/how-to/accumulation-and-clipping.md": "closures/test_accumulation.py",
    "docs/how-to/batchnorm-and-dropout.md": "step/test_state_page.py",
    "docs/how-to/coming-from.md": "test_coming_from.py",
    "docs/how-to/compile.md": "doctor/test_command.py",
    "docs/how-to/distributed.md": "ranks/workers.py",
    "docs/how-to/doctor.md": "doctor/test_command.py",
    "docs/how-to/fabric.md": "integrations/test_pages.py",
    "docs/how-to/gans.md": "integrations/test_recipes.py",
    "docs/how-to/lightning.md": "integrations/test_pages.py",
    "docs/how-to/logging.md": "cli/test_report_page.py",
    "docs/how-to/lora.md": "integrations/test_recipes.py",
    "docs/how-to/mixed-precision.md": "step/test_precision.py",
    "docs/how-to/models.md": "model_folder/test_pages.py",
    "docs/how-to/plain-loop.md": "doctor/test_command.py",
    "docs/how-to/quantization-aware-training.md": "integrations/test_recipes.py",
    "docs/how-to/radii.md": "integrations/test_pages.py",
    "docs/how-to/refit.md": "test_recording.py",
    "docs/how-to/report.md": "cli/test_report_page.py",
    "docs/how-to/rollout.md": "operation/test_rollout_page.py",
    "docs/how-to/state-of-modules.md": "step/test_state_page.py",
    "docs/how-to/transformers-trainer.md": "integrations/test_pages.py",
    "docs/how-to/validation-data.md": "validation/test_page.py",
    "docs/how-to/your-data.md": "data/test_your_data_page.py",
}
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def commands_on(page: str) -> list[list[str]]:
    """The command lines of letsam in the blocks of code of a page, without `letsam`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    code = "".join(code for language, code in blocks if language in ("", "sh", "bash"))
    lines = re.findall(r"^(?:torchrun .*-m )?letsam (.+)$", code.replace("\\\n", " "), re.M)
    return [shlex.split(line, comments=True) for line in lines]


def test_the_code_of_every_page_is_run() -> None:
    with_code = {page for page in PAGES if blocks_of(page)}
    assert with_code == {*HERE, *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        source = (ROOT / "tests" / test).read_text(encoding="utf-8")
        assert f'"{page}"' in source or f'"{Path(page).stem}"' in source, page
        assert "blocks_of" in source or "section_of" in source, test


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
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path: None)  # `tests/reports` makes it
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
