"""The commands and the code of the how-to on the report."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from page_code import ROOT, blocks_of, run_code

PAGE = "docs/how-to/report.md"


def test_the_page_of_the_report(
    real_report: None, here: Path, letsam_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.findall(r"^letsam (.*)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.M)
    assert len(commands) == 2
    trial, report = (letsam_run(*shlex.split(command)) for command in commands)
    assert trial[0] == report[0] == 0
    page = Path("runs/quick/report.html").read_text(encoding="utf-8")
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
