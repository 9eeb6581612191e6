"""`letsam train --method lets-sam+refit`: the search and its refit by one command; `--release`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import letsam
from cli_cases import MINE, Interrupted, records, rows

REFIT = ("train", MINE, "--method", "lets-sam+refit", "--label-noise", "0.2", "--seed", "1")


def test_it_is_the_refit_of_a_trial(here: Path, letsam_run: Any) -> None:
    status, out, err = letsam_run(*REFIT, "--out", "one")
    assert (status, err) == (0, "")
    trial = ("trial", MINE, "--methods", "lets-sam", "--label-noise", "0.2", "--seeds", "1,")
    assert letsam_run(*trial, "--out", "trial")[0] in (0, 1, 3)
    assert rows(Path("one/results.json")) == [("lets-sam", 1), ("lets-sam+refit", 1)]
    assert records(Path("one/results.json")) == records(Path("trial/results.json"))
    assert "checkpoint: one/checkpoint.pt" in out
    model = json.loads(Path("one/model/model.json").read_text())
    assert model["method"] == "lets-sam+refit"
    radius = json.loads(Path("one/model/radius.json").read_text())
    assert radius["schedule"] == records(Path("one/results.json"))[0]["history"]["rho_schedule"]
    assert len(list(Path("one/predictions").iterdir())) == 2


@pytest.mark.parametrize("at", [2, 5])  # in the search, and in the refit
def test_it_is_resumed(at: int, here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Interrupted(monkeypatch, at):
        status, _, err = letsam_run(*REFIT, "--out", "cut")
    assert status == 130
    done = "1 of 3 epochs are finished" if at == 2 else "1 of 3 epochs of the refit are finished"
    assert err.startswith(f"interrupted: {done}; the same command with --resume")
    assert letsam_run(*REFIT, "--out", "cut")[0] == 2
    assert letsam_run(*REFIT, "--out", "cut", "--resume")[0] == 0
    assert letsam_run(*REFIT, "--out", "whole")[0] == 0
    assert records(Path("cut/results.json")) == records(Path("whole/results.json"))


def test_what_cannot_be_refitted(here: Path, letsam_run: Any) -> None:
    status, _, err = letsam_run("train", MINE, "--method", "sam:0.1+refit")
    assert status == 2
    assert "`method`: a refit needs a learned radius, such as lets-sam+refit, got 'sam:0.1+refit'" in err
    assert not Path("runs").exists()


def test_release(here: Path, letsam_run: Any) -> None:
    command = ("train", MINE, "--method", "lets-sam", "--release", "0.5")
    assert letsam_run(*command, "--out", "one")[0] == 0
    (run,) = records(Path("one/results.json"))
    split = json.loads(Path("one/model/split.json").read_text())
    assert run["history"]["validation_loss"][-1] is None
    assert split["release"] == 0.5
    assert split["samples"]["train"] == split["samples"]["validation"] * 10
    status, _, err = letsam_run(*command, "--epochs", "9", "--out", "one", "--resume")
    assert status == 2
    assert "epochs" in err


def test_names_are_exported() -> None:
    assert {"RadiusRecord"} <= set(letsam.__all__)
