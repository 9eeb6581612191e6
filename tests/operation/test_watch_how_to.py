"""The page on watching: its commands and code run, and its tables are what they give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from letsam.cli import run
from letsam.operation import read_watch
from letsam.operation.false_alarms import GatheredEvidence
from letsam.operation.prometheus import PREFIX, prometheus_text
from page_code import ROOT, blocks_of, commands_of, run_code, section_of

PAGE = "docs/how-to/watch.md"


def rows_of(title: str) -> list[list[str]]:
    """The rows of the table in a section, without its head."""
    lines = [line for line in section_of(PAGE, title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_commands_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    files, expected, python = blocks_of(PAGE)
    names = run_code(files, PAGE, {})
    statuses = [run(command) for command in commands_of(section_of(PAGE, "Try it"))]
    assert statuses == [0, 0, 0, 0, 1], capsys.readouterr().err
    records = read_watch("runs/digits/model-watch")
    assert [record.data["name"] for record in records] == ["may.csv", "june.csv", "may.csv", "july.csv"]
    assert Path("runs/digits/model-watch/logs/csv/watch/metrics.csv").is_file()

    names = run_code(expected, PAGE, names)
    table = rows_of("Expected accuracy, and when it is wrong")
    assert len(table) == len(names["cases"])
    for row, guess, truth in zip(table, names["expected"], names["true"], strict=True):
        assert float(row[1]) == pytest.approx(guess, abs=0.03), row
        assert float(row[2]) == pytest.approx(truth, abs=0.03), row

    run_code(python, PAGE, names)
    assert capsys.readouterr().out.splitlines()[-1] == "[1]"

    documented = {name for row in rows_of("What is measured") for name in re.findall(r"`(\w+)`", row[0])}
    assert {name for record in records for name in record.metrics} == documented
    fields = {row[0].strip("`") for row in rows_of("The records")}
    assert records[0].as_json().keys() == fields
    text = prometheus_text(records, "digits")
    metrics = set(re.findall(rf"^({PREFIX}_\w+)", text, re.M))
    written = {name for row in rows_of("Logs and dashboards") for name in re.findall(r"`(\w+)`", row[0])}
    assert metrics == written


def test_the_delays() -> None:
    for row in rows_of("The rate of false alarms"):
        change, half, most = map(float, row)
        noise = np.random.default_rng(1).normal(size=(400, 60))
        noise[:, 10:] += change
        delays: list[float] = []
        for watch in norm.sf(noise):
            evidence, delay = GatheredEvidence(), np.inf
            for batch, p in enumerate(watch, 1):
                evidence = evidence.after(float(p))
                if batch > 10 and evidence.value >= 2 * 7 / 0.05:  # of a watch with all tests
                    delay = batch - 10
                    break
            delays.append(delay)
        assert np.median(delays) == pytest.approx(half, abs=1), row
        assert np.quantile(delays, 0.8, method="lower") == pytest.approx(most, abs=2), row


def test_every_option_is_on_the_page() -> None:
    page: Any = (ROOT / PAGE).read_text(encoding="utf-8")
    for option in ("--labels", "--out", "--reference", "--false-alarm-rate", "--log", "--prometheus"):
        assert f"`{option}" in page
