"""The commands and the code of the how-tos on the report and on logging."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from cli_cases import check_error
from letsam.integrations.logged_metrics import LOGGED
from page_code import ROOT, blocks_of, run_code

PAGE = "docs/how-to/report.md"


def test_the_page_of_the_report(
    real_report: None, here: Path, letsam_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.findall(r"^letsam (.*)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.M)
    assert len(commands) == 3
    trial, report = (letsam_run(*shlex.split(command)) for command in commands[:2])
    assert trial[0] == report[0] == 0
    page = Path("runs/quick/report.html").read_text(encoding="utf-8")
    assert letsam_run(*shlex.split(commands[2]))[0] == 0
    assert '<html lang="ja">' in Path("runs/quick/report.html").read_text(encoding="utf-8")
    for section in ("Results by class", "Calibration", "Where the methods disagree", "Confusion matrix"):
        assert f">{section}</h" in page
    capsys.readouterr()
    run_code("\n".join(blocks_of(PAGE)), PAGE, {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8  # three methods and a refit, two seeds
    # The table of the command has the mean over the seeds of what the code prints for each.
    first = [float(line.split()[2]) for line in printed if line.startswith("sgd ")]
    shown = re.search(r"^sgd +([\d.]+)", trial[1], re.M)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(sum(first) / 2, abs=0.06)


LOGGING = "docs/how-to/logging.md"


@pytest.mark.filterwarnings("ignore")
def test_the_page_of_logging(here: Path, letsam_run: Any) -> None:
    for name in ("tensorboard", "mlflow"):
        pytest.importorskip(name)
    text = (ROOT / LOGGING).read_text(encoding="utf-8")
    commands = re.findall(r"^letsam (.*)$", text, re.M)
    assert [letsam_run(*shlex.split(command))[0] for command in commands] == [0, 0]
    runs = {path.name for path in Path("runs/logged/logs/csv").iterdir()}
    assert runs == {f"{method}-{seed}" for method in ("sgd", "lets-sam", "lets-sam+refit") for seed in (0, 1)}
    assert {path.name for path in Path("runs/logged/logs/tensorboard").iterdir()} == runs
    assert Path("runs/one/logs/mlflow.db").is_file()
    logged = Path("runs/one/logs/csv/lets-sam-0/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    table = re.findall(r"^\| `(\w+)`.*\|.*\|.*\|$", text.split("## The metrics")[1], re.M)
    assert set(logged) == {*table, "step"} - {"test_"}
    adapters = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\| \w", text.split("## The metrics")[1], re.M)
    assert set(adapters) == set(LOGGED)
    run_code("\n".join(blocks_of(LOGGING)), LOGGING, {})
    assert list(Path("runs/accelerate").rglob("events.out.tfevents*"))


def test_an_unknown_logger_is_one_line(here: Path, letsam_run: Any) -> None:
    result = letsam_run("trial", "digits", "--log", "tensorbored")
    check_error(result, "`log` must be of tensorboard, csv, mlflow, wandb, each once and separated by commas")
