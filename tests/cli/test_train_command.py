"""`letsam train`: one run with a checkpoint after every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cli_cases import (
    MINE,
    TRAIN,
    Interrupted,
    check_error,
    files,
    records,
    rows,
)
from letsam.results import Results


def test_train(real_report: None, here: Path, letsam_run: Any) -> None:
    status, out, err = letsam_run("train", MINE, "--method", "sam:0.1", "--seed", "3")
    folder = Path("runs/my_task.py-make_task/sam-0.1-3")

    assert (status, err) == (0, "")
    names = {"checkpoint": "checkpoint.pt", "report": "report.html", "model": "model"}
    assert out.splitlines()[-3:] == [f"{what}: {folder / name}" for what, name in names.items()]
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.pt",
        "model",
        "predictions",
        "report.html",
        "results.json",
    }
    assert rows(folder / "results.json") == [("sam:0.1", 3)]
    assert [path.name for path in (folder / "predictions").iterdir()] == ["sam-0.1-3.safetensors"]


def test_a_run_of_train_is_that_of_a_trial(trial: Path, letsam_run: Any) -> None:
    assert letsam_run(*TRAIN, "--seed", "1")[0] == 0
    expected = [one for one in records(trial / "results.json") if (one["method"], one["seed"]) == ("lets-sam", 1)]
    assert records(Path("one/results.json")) == expected


@pytest.mark.parametrize(("method", "at"), [("sgd", 2), ("sam", 3), ("lets-sam", 1), ("lets-sam", 2), ("lets-asam", 3)])
def test_an_interrupted_run_of_train(
    method: str, at: int, here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", MINE, "--method", method, "--label-noise", "0.2")
    with Interrupted(monkeypatch, at):
        status, _, err = letsam_run(*command, "--out", "cut")
    assert status == 130
    assert err == f"interrupted: {at - 1} of 3 epochs are finished; the same command with --resume completes the rest\n"
    assert [path.name for path in here.glob("cut/*")] == (["checkpoint.pt"] if at > 1 else [])

    assert letsam_run(*command, "--out", "cut", "--resume")[0] == 0
    assert letsam_run(*command, "--out", "whole")[0] == 0
    assert records(Path("cut/results.json")) == records(Path("whole/results.json"))
    states = [torch.load(f"{name}/checkpoint.pt", weights_only=True)["state"]["model"] for name in ("cut", "whole")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.parametrize(("method", "at", "step"), [("sgd", 3, 4), ("lets-sam", 4, 6)])  # of 5 or 4 steps an epoch
def test_a_run_of_train_goes_on_in_the_middle_of_an_epoch(
    method: str, at: int, step: int, here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", MINE, "--method", method)
    with Interrupted(monkeypatch, at):
        assert letsam_run(*command, "--checkpoint-steps", "2", "--out", "cut", "--workers", "1")[0] == 130
    assert torch.load("cut/checkpoint.pt", weights_only=True)["state"]["progress"]["step"] == step

    status, _, err = letsam_run(*command, "--out", "cut", "--resume")
    assert status == 2
    assert "workers" in err
    assert letsam_run(*command, "--out", "cut", "--resume", "--workers", "0")[0] == 0
    assert letsam_run(*command, "--out", "whole")[0] == 0
    assert records(Path("cut/results.json")) == records(Path("whole/results.json"))


def test_a_finished_run_of_train_is_kept_with_resume(here: Path, letsam_run: Any) -> None:
    assert letsam_run(*TRAIN)[0] == 0
    before, runs = files(here)["one/checkpoint.pt"], Results.load("one/results.json").runs
    assert letsam_run(*TRAIN, "--resume")[0] == 0
    assert files(here)["one/checkpoint.pt"] == before
    assert Results.load("one/results.json").runs == runs


@pytest.mark.parametrize("method", ["sgd", "lets-sam"])
def test_a_finished_run_goes_on_with_more_epochs(method: str, here: Path, letsam_run: Any) -> None:
    command = ("train", MINE, "--method", method, "--out", "o", "--epochs")
    assert letsam_run(*command, "1")[0] == 0
    short = Results.load("o/results.json").runs[0]
    for epochs in ("2", "4"):
        assert letsam_run(*command, epochs, "--resume")[0] == 0
    results = Results.load("o/results.json")
    (run,) = results.runs
    assert results.config["epochs"] == 4
    assert run.continued_at == (1, 2)
    assert run.history["epoch"] == [1, 2, 3, 4]
    assert run.history["test_loss"][0] == short.test_loss
    assert run.steps == 4 * short.steps

    before = files(here)
    check_error(letsam_run(*command, "3", "--resume"), "o/results.json: holds another trial: its epochs is 4, got 3")
    # the task's own number, which nobody has asked for, does not change a run
    check_error(letsam_run(*command[:-1], "--resume"), "its epochs is 4, got 3")
    assert files(here) == before


def test_a_run_that_is_not_finished_is_given_more_epochs(
    here: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", MINE, "--method", "sam", "--out", "o")
    with Interrupted(monkeypatch, 3):
        assert letsam_run(*command)[0] == 130
    assert letsam_run(*command, "--epochs", "5", "--resume")[0] == 0
    assert Results.load("o/results.json").runs[0].continued_at == (2,)
