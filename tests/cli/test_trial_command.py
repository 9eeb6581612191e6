"""`letsam trial` and `letsam report`: what they write and print, interruption and `--resume`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_cases import (
    MINE,
    ROWS,
    RUN_FIELDS,
    TASK_FILE,
    TRIAL,
    Interrupted,
    check_error,
    files,
    records,
    rows,
)
from letsam.results import Results
from letsam.training import executors
from letsam.training.loop import Training
from training_cases import learned_passes


def test_what_a_trial_writes(real_report: None, trial: Path, here: Path) -> None:
    predictions = [f"predictions/{method.replace(':', '-')}-{seed}.safetensors" for method, seed in ROWS]
    written = {f"runs/my_task.py-make_task/{name}" for name in ("report.html", "results.json", *predictions)}
    assert files(here).keys() == {"my_task.py"} | written
    value = json.loads((trial / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert value["task"] == MINE
    assert [(one["method"], one["seed"]) for one in value["runs"]] == ROWS
    for one in value["runs"]:
        assert list(one) == RUN_FIELDS
        learned, radius = one["method"] == "lets-sam", one["method"] != "sgd"
        assert isinstance(one["rho_initial"], float) == isinstance(one["rho_final"], float) == radius
        assert isinstance(one["validation_loss"], float) == learned
        assert 0 <= one["test_accuracy"] <= 1
        assert one["generalization_gap"] == pytest.approx(one["test_loss"] - one["train_loss"])
        search = learned_passes(12)
        passes = {"sgd": 15, "sam:0.1": 30, "lets-sam": search, "lets-sam+refit": search + 30}
        assert one["gradient_passes"] == passes[one["method"]]
        assert one["seconds"] > 0
        columns = {name: len(column) for name, column in one["history"].items()}
        assert columns.pop("rho_schedule", None) == (12 if learned else None)
        assert columns == dict.fromkeys(
            [
                "epoch",
                "train_loss",
                "test_loss",
                "test_accuracy",
                "validation_loss",
                "generalization_gap",
                "rho",
                "hypergradient",
            ],
            3,
        )
    html = (trial / "report.html").read_text()
    assert "lets-sam+refit" in html
    assert "</html>" in html


def test_a_trial_is_reproducible_wherever_it_runs(trial: Path, letsam_run: Any) -> None:
    torch.manual_seed(5)
    assert letsam_run(*TRIAL, "--out", "again/and again", "--device", "cpu")[0] == 0
    assert records(Path("again/and again/results.json")) == records(trial / "results.json")


def test_jobs_are_parallel_processes(trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in this process; `tests/training/test_executors.py` has the processes, whose numbers are the same."""
    asked: list[tuple[str, int, str]] = []

    def in_this_process(executor: str, jobs: int, device: str) -> executors.Backend:
        asked.append((executor, jobs, device))
        return executors.Here()

    monkeypatch.setattr(executors, "make_backend", in_this_process)
    for number, chosen in enumerate((("--jobs", "2"), ("--executor", "dask://host:1"))):
        status, out, err = letsam_run(*TRIAL, "--out", f"two{number}", *chosen, "--device", "cpu")
        assert (status, err) == (0, "")
        assert records(Path(f"two{number}/results.json")) == records(trial / "results.json")
        assert out.splitlines()[-1] == f"report: {Path(f'two{number}/report.html')}"
    assert asked == [("joblib", 2, "cpu"), ("dask://host:1", 1, "cpu")]


def test_report_makes_table_and_page_again(real_report: None, trial: Path, letsam_run: Any) -> None:
    page, results = (trial / "report.html").read_bytes(), (trial / "results.json").read_bytes()
    (trial / "report.html").unlink()
    status, out, err = letsam_run("report", str(trial))

    assert (status, err) == (0, "")
    assert "lets-sam+refit" in out
    assert out.splitlines()[-1] == f"report: {trial / 'report.html'}"
    assert (trial / "report.html").read_bytes() == page
    assert (trial / "results.json").read_bytes() == results


def test_a_complete_trial_is_kept_with_resume(trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Results.load(trial / "results.json").runs
    monkeypatch.setattr(Training, "advance", lambda run: pytest.fail("trained again"))
    status, out, err = letsam_run(*TRIAL, "--resume")
    assert (status, err) == (0, "")
    assert "lets-sam+refit" in out
    assert Results.load(trial / "results.json").runs == before


@pytest.mark.parametrize(
    ("seeds", "expected"), [("11,12", [11, 12]), ("7,", [7]), ("20240101,", [20240101]), (" 2 ", [0, 1])]
)
def test_seeds_are_a_count_or_a_list(seeds: str, expected: list[int], here: Path, letsam_run: Any) -> None:
    arguments = ("trial", MINE, "--methods", " sgd , ", "--seeds", seeds, "--epochs", "1", "--out", "o")
    assert letsam_run(*arguments)[0] == 0
    assert rows(Path("o/results.json")) == [("sgd", seed) for seed in expected]


def test_a_task_in_a_package_is_the_same_task(here: Path, letsam_run: Any) -> None:
    (here / "letsam_cli_package").mkdir()
    (here / "letsam_cli_package" / "__init__.py").touch()
    (here / "letsam_cli_package" / "module.py").write_text(TASK_FILE)
    options = ("--methods", "lets-asam", "--seeds", "1", "--label-noise", "0.2")
    assert letsam_run("trial", "letsam_cli_package.module:make_task", *options)[0] == 0
    assert letsam_run("trial", MINE, *options)[0] == 0
    one, other = here / "runs" / "letsam_cli_package.module-make_task", here / "runs" / "my_task.py-make_task"
    assert rows(one / "results.json") == [("lets-asam", 0), ("lets-asam+refit", 0)]
    assert records(one / "results.json") == records(other / "results.json")


def test_every_option_reaches_the_training(here: Path, letsam_run: Any) -> None:
    options = {
        "rho": 0.2,
        "epochs": 2,
        "batch_size": 5,
        "label_noise": 0.25,
        "validation_share": 0.3,
        "refit": False,
        "max_grad_norm": 0.5,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if name != "refit"]
    assert letsam_run("trial", MINE, "--methods", "sam,lets-sam", "--seeds", "1", "--no-refit", *flags)[0] == 0
    results = Results.load(here / "runs" / "my_task.py-make_task" / "results.json")
    fixed, learned = results.runs

    assert options.items() <= dict(results.config).items()
    assert (fixed.rho_initial, fixed.gradient_passes) == (0.2, 2 * 2 * 8)
    assert (learned.rho_initial, learned.gradient_passes) == (0.2, learned_passes(2 * 5))  # 28 of 40 kept
    assert list(fixed.history["epoch"]) == [1, 2]
    clean = ("trial", MINE, "--methods", "sam:0.2", "--seeds", "1", "--epochs", "2", "--batch-size", "5", "--out", "o")
    assert letsam_run(*clean)[0] == 0
    assert Results.load("o/results.json").runs[0].train_loss < fixed.train_loss


def test_digits(here: Path, letsam_run: Any) -> None:
    options = ("--train-size", "200", "--epochs", "2", "--methods", "sam,lets-asam", "--seeds", "1", "--out", "o")
    status, _, err = letsam_run("trial", "digits", *options)
    assert (status, err) == (0, "")
    assert rows(Path("o/results.json")) == [("sam", 0), ("lets-asam", 0), ("lets-asam+refit", 0)]
    assert [one.gradient_passes for one in Results.load("o/results.json").runs] == [
        12,
        learned_passes(4),
        learned_passes(4) + 12,
    ]


def test_with_validation_data_of_its_own_a_task_has_its_refit_too(here: Path, letsam_run: Any) -> None:
    options = ("--methods", "lets-sam", "--seeds", "1", "--out", "o")
    assert letsam_run("trial", "my_task.py:own_validation", *options)[0] == 0
    assert rows(Path("o/results.json")) == [("lets-sam", 0), ("lets-sam+refit", 0)]


def test_a_trial_that_diverges(real_report: None, here: Path, letsam_run: Any) -> None:
    options = ("--methods", "sgd,sam,lets-sam", "--seeds", "1", "--out", "o")
    status, _, err = letsam_run("trial", "my_task.py:wild", *options)
    assert status == 0
    assert err.startswith("warning: Skipped, because a loss or gradient was not finite: sam (")
    assert err.count("\n") == 1
    value = json.loads(Path("o/results.json").read_text())
    assert value["runs"][0]["test_loss"] is None
    assert len(value["runs"]) == 4
    assert Path("o/report.html").exists()


@pytest.mark.parametrize(("at", "kept"), [(1, 0), (11, 3)])
def test_an_interrupted_trial(
    at: int, kept: int, trial: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path("other")
    with Interrupted(monkeypatch, at):
        status, _, err = letsam_run(*TRIAL, "--out", "other")
    assert status == 130
    assert err == f"interrupted: {kept} of 8 runs are finished; the same command with --resume completes the rest\n"
    assert not (out / "report.html").exists()
    if kept:
        assert records(out / "results.json") == records(trial / "results.json")[:kept]
        assert letsam_run(*TRIAL, "--out", "other")[0] == 2
    assert letsam_run(*TRIAL, "--out", "other", "--resume")[0] == 0
    assert records(out / "results.json") == records(trial / "results.json")
    assert (out / "report.html").exists()


def test_a_finished_trial_is_run_again_with_more_epochs(here: Path, letsam_run: Any) -> None:
    command = ("trial", MINE, "--methods", "sgd,lets-sam", "--seeds", "1")
    assert letsam_run(*command, "--epochs", "1", "--out", "o")[0] == 0
    short = Path("o/results.json").read_bytes()
    status, _, err = letsam_run(*command, "--epochs", "2", "--out", "o", "--resume")
    kept = Path("o/results-1-epochs.json")
    assert status == 0
    assert err.startswith(
        f"a trial keeps no checkpoints: all runs are trained again with 2 epochs; those with 1 are in {kept}\n"
    )
    assert kept.read_bytes() == short
    assert letsam_run(*command, "--epochs", "2", "--out", "whole")[0] == 0
    assert records(Path("o/results.json")) == records(Path("whole/results.json"))
    looks = [look["epochs"] for look in json.loads(Path("o/results.json").read_text())["decision"]["looks"]]
    assert looks == [1, 2], "the first verdict counts as a look"

    before = files(here)
    check_error(letsam_run(*command, "--epochs", "1", "--out", "o", "--resume"), "its epochs is 2, got 1")
    check_error(letsam_run(*command, "--out", "whole", "--resume"), "its epochs is 2, got 3")
    assert files(here) == before
