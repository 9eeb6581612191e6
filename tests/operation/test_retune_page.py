"""The page on re-tuning: its commands run in their order, and its numbers are those of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import letsam
from letsam.cli import run
from letsam.languages import gettext, speaking
from letsam.operation import retune_plan, retuning
from page_code import ROOT, blocks_of, commands_of, run_code
from report_languages import SeenPage
from retune_cases import QUICK, champion, wines

PAGE = "docs/how-to/retune.md"


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    (code,) = blocks_of(PAGE)
    run_code(code, PAGE, {})
    commands = commands_of((ROOT / PAGE).read_text(encoding="utf-8"))
    names = [command[0] for command in commands]
    assert names == ["train", "retune", "retune", "models", "predict", "models", "models", "train", "sign", "predict"]
    for command in commands:
        capsys.readouterr()
        status = run(command)
        out, err = capsys.readouterr()
        assert status in ((0, 1) if command[0] == "retune" else (0,)), f"{command}: {err}"
        if "--json" in command:
            assert [row["name"] for row in json.loads(out)] == ["v0001", "v0002", "v0003"]
        if "--from" in command:
            assert "the same weights, bit for bit" in out
    model: Any = letsam.load("runs/wine-versions", key="letsam.pub")
    assert model.folder.name == "v0001"
    for name in ("v0001", "v0002", "v0003", "current.json", "retunes/v0002/report.html", "retunes/v0003/retune.json"):
        assert (tmp_path / "runs" / "wine-versions" / name).exists()


def test_the_report_in_japanese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    champion(tmp_path)
    assert run(["retune", "wine", "new.csv", *QUICK, "--language", "ja"]) in (0, 1)
    page = (tmp_path / "wine-versions/retunes/v0002/report.html").read_text(encoding="utf-8")
    with speaking("ja"):
        heading = gettext("Skip to the results")
    assert '<html lang="ja">' in page
    assert heading in page
    assert "Skip to the results" not in page
    assert not SeenPage(page).english(names=tuple(wines()))  # the names of the columns stay


def test_the_numbers() -> None:
    text = " ".join((ROOT / PAGE).read_text(encoding="utf-8").split())
    assert f"`--seeds` seeds ({len(retuning.SEEDS)})" in text
    assert f"`--epochs` passes ({retune_plan.EPOCHS})" in text
    shares = {0.1: "a tenth of the learning rate", 0.3: "0.3 times the learning rate", 1.0: "the learning rate"}
    assert f"from {shares[retune_plan.LR_FACTOR]} of training" in text
