"""The command under torchrun: two ranks give what one process gives, and a stopped run goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from letsam import cli
from letsam.results import Results

TRIAL = ["trial", "digits", "--epochs", "4", "--label-noise", "0.2", "--seeds", "1", "--device", "cpu"]
PRECISION = {"ddp": ("64-true", 1e-9), "fsdp": ("32-true", 1e-3)}  # and what the results may differ by


def torchrun(*arguments: str) -> tuple[int, str]:
    """The command on two ranks; returns its status and what it wrote."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "letsam"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    return done.returncode, done.stdout + done.stderr


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        run.method: run.history | {"accuracy": run.test_accuracy} for run in Results.load(folder / "results.json").runs
    }


def assert_close(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for method, history in expected.items():
        for column in ("rho_schedule", "train_loss", "test_loss"):
            if column in history:
                assert found[method][column] == pytest.approx(history[column], rel=tolerance), (method, column)
        assert found[method]["accuracy"] == history["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_give_what_one_gives(strategy: str, tmp_path: Path) -> None:
    """A trial with 2 micro-batches a rank, clipped gradients, a refit and the base optimizer alone."""
    precision, tolerance = PRECISION[strategy]
    arguments = [*TRIAL, "--precision", precision, "--methods", "sgd,lets-sam", "--max-grad-norm", "0.5"]
    assert cli.run([*arguments, "--out", str(tmp_path / "one")]) == 0
    options = ["--strategy", strategy, "--accumulate", "2", "--out", str(tmp_path / "two")]
    status, output = torchrun(*arguments, *options)
    assert status == 0, output
    assert output.count("report: ") == 1  # one rank speaks for all
    assert_close(runs(tmp_path / "two"), runs(tmp_path / "one"), tolerance)
    environment = json.loads((tmp_path / "two" / "results.json").read_text())["environment"]
    assert (environment["ranks"], environment["sharded"]) == (2, strategy == "fsdp")


STOPPABLE = """
import dataclasses, os
import torch
from letsam.tasks import load_task

def make_task():
    task, calls = load_task("digits"), 0
    def loss(outputs, targets):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if str(calls) == os.environ.get("STOP_AT"):
            raise KeyboardInterrupt
        return task.loss(outputs, targets)
    return dataclasses.replace(task, loss=loss)
"""


@pytest.mark.slow
def test_a_checkpoint_of_sharded_weights_goes_on_on_any_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stoppable.py").write_text(STOPPABLE)
    arguments = ["train", f"{tmp_path / 'stoppable.py'}:make_task", "--method", "lets-asam", "--epochs", "4"]
    arguments += ["--label-noise", "0.2", "--device", "cpu"]
    assert cli.run([*arguments, "--out", str(tmp_path / "whole")]) == 0

    sharded = [*arguments, "--strategy", "fsdp", "--out", str(tmp_path / "two")]
    monkeypatch.setenv("STOP_AT", "100")  # in the third epoch
    status, output = torchrun(*sharded)
    assert status != 0
    assert "interrupted: 2 of 4 epochs are finished" in output
    monkeypatch.delenv("STOP_AT")
    shutil.copytree(tmp_path / "two", tmp_path / "one")

    assert cli.run([*arguments, "--out", str(tmp_path / "one"), "--resume"]) == 0
    status, output = torchrun(*sharded, "--resume")
    assert status == 0, output
    for folder in ("one", "two"):
        assert_close(runs(tmp_path / folder), runs(tmp_path / "whole"), PRECISION["fsdp"][1])
