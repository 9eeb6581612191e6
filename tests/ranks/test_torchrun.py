"""The command under torchrun: two ranks give what one process gives, and a stopped run goes on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import warm
from letsam import cli
from letsam.results import Results

TRIAL = ["trial", "digits", "--epochs", "2", "--label-noise", "0.2", "--seeds", "1", "--device", "cpu"]
PRECISION = {"ddp": ("64-true", 1e-9), "fsdp": ("32-true", 1e-3)}  # and what the results may differ by


METHODS = ["--methods", "sgd,lets-sam", "--max-grad-norm", "0.5"]
STOPPABLE = """
import dataclasses, os
import torch
from letsam.tasks import load_task

def make_task():
    task, calls = load_task("digits", train_size=500), 0
    def loss(outputs, targets):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if str(calls) == os.environ.get("STOP_AT"):
            raise KeyboardInterrupt
        return task.loss(outputs, targets)
    return dataclasses.replace(task, loss=loss)
"""
SEVERAL = """
import json, os, sys
from letsam import cli
from letsam.reports import html

html.write_report = lambda results, path, *_: None  # not what is tested here, and slow

for arguments in json.loads(sys.argv[1]):
    status = cli.run(arguments)
    if os.environ["RANK"] == "0":
        print("status", status, "-" * 20)
"""


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; the ranks that torchrun starts make it."""
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: None)


def launched(*arguments: str) -> tuple[int, str]:
    """The command on two ranks that torchrun has started; its status and what it wrote."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*launcher, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env=warm.environment(PYTHONUNBUFFERED="1"),
    )
    return done.returncode, done.stdout


def stoppable(folder: Path) -> list[str]:
    """A command whose run stops at a given call of the loss."""
    (folder / "stoppable.py").write_text(STOPPABLE)
    arguments = ["train", f"{folder / 'stoppable.py'}:make_task", "--method", "lets-asam", "--epochs", "3"]
    return [*arguments, "--label-noise", "0.2", "--device", "cpu"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """Two trials, and a run that stops in its third epoch, in one launch of two ranks.

    Returns:
        A folder with one for each of them, and the status of each with what the ranks have written.
    """
    folder = tmp_path_factory.mktemp("torchrun")
    commands = {
        strategy: [*TRIAL, "--precision", precision, *METHODS, "--strategy", strategy, "--accumulate", "2"]
        for strategy, (precision, _) in PRECISION.items()
    } | {"stopped": [*stoppable(folder), "--strategy", "fsdp"]}
    (folder / "several.py").write_text(SEVERAL)
    together = json.dumps([[*arguments, "--out", str(folder / name)] for name, arguments in commands.items()])
    status, output = warm.torchrun(str(folder / "several.py"), together, STOP_AT="50")
    assert status == 0, output
    found = re.findall(r"(.*?)^status (\d+) -{20}$", output, re.S | re.M)
    assert len(found) == len(commands), output
    return folder, {name: (int(code), text) for name, (text, code) in zip(commands, found, strict=True)}


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
def test_two_ranks_give_what_one_gives(strategy: str, two: Any, tmp_path: Path) -> None:
    """A trial with 2 micro-batches a rank, clipped gradients, a refit and the base optimizer alone."""
    precision, tolerance = PRECISION[strategy]
    assert cli.run([*TRIAL, "--precision", precision, *METHODS, "--out", str(tmp_path)]) == 0
    folder, outcomes = two
    status, output = outcomes[strategy]
    assert status == 0, output
    assert output.count("report: ") == 1  # one rank speaks for all
    assert_close(runs(folder / strategy), runs(tmp_path), tolerance)
    environment = json.loads((folder / strategy / "results.json").read_text())["environment"]
    assert (environment["ranks"], environment["sharded"]) == (2, strategy == "fsdp")


@pytest.mark.slow
def test_a_checkpoint_of_sharded_weights_goes_on_on_any_number_of_ranks(two: Any, tmp_path: Path) -> None:
    folder, outcomes = two
    status, output = outcomes["stopped"]
    assert status != 0
    assert "interrupted: 2 of 3 epochs are finished" in output
    for copy in ("one", "two"):
        shutil.copytree(folder / "stopped", tmp_path / copy)

    arguments = stoppable(folder)
    assert cli.run([*arguments, "--out", str(tmp_path / "whole")]) == 0
    assert cli.run([*arguments, "--out", str(tmp_path / "one"), "--resume"]) == 0
    sharded = [*arguments, "--strategy", "fsdp", "--out", str(tmp_path / "two"), "--resume"]
    status, output = launched("-m", "letsam", *sharded)
    assert status == 0, output
    for copy in ("one", "two"):
        assert_close(runs(tmp_path / copy), runs(tmp_path / "whole"), PRECISION["fsdp"][1])
    whole, sharded_weights = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("whole", "two"))
    assert whole.keys() == sharded_weights.keys()
    for name, weights in whole.items():
        torch.testing.assert_close(sharded_weights[name], weights, rtol=1e-3, atol=1e-4)
