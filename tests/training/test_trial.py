"""Trials: order of the runs, results after every run, interruption and completion, folders of other trials."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import training_cases
from letsam.results import Results
from letsam.tasks import Task
from letsam.training import sampling
from letsam.training.config import TrialConfig
from letsam.training.methods import Method
from letsam.training.trial import check_data, environment, open_results, planned, run_trial
from training_cases import CLASSES, config, fabric, without_seconds
from trial_cases import METHODS, ROWS, Recorder, records, rows, run, saved

Whole = tuple[Results, Path, Recorder, list[tuple[Results, Results]]]


@pytest.fixture(scope="module")
def task() -> Task:
    return training_cases.task(dropout=0.2, epochs=2)


@pytest.fixture(scope="module")
def options(task: Task) -> TrialConfig:
    return config(methods=METHODS, label_noise=0.2).for_task(task)


@pytest.fixture(scope="module")
def trial(task: Task, options: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A trial that was not interrupted: results, folder, callbacks; what was given and saved after every run."""
    out, recorder = tmp_path_factory.mktemp("whole") / "new" / "folder", Recorder()
    results = open_results(out, options, environment(fabric()), resume=False)
    assert not out.exists()
    steps: list[tuple[Results, Results]] = []
    for finished in run_trial(task, options, fabric(), results, out, recorder):
        assert sorted(file.name for file in out.iterdir()) == ["predictions", "results.json"]
        steps.append((finished, saved(out)))
    return steps[-1][0], out, recorder, steps


@pytest.fixture(scope="module")
def whole(trial: Whole) -> Results:
    """The results of the trial that was not interrupted, as saved."""
    return saved(trial[1])


# The runs


def test_rows_go_seed_by_seed_and_a_refit_follows_its_search(options: TrialConfig) -> None:
    assert [one.key for one in planned(options)] == ROWS
    assert [one.refit for one in planned(options)] == [False, False, False, True] * 2
    assert all(one.search in planned(options) and not one.search.refit for one in planned(options))
    without = dataclasses.replace(options, refit=False, seeds=(5,))
    many = config(methods=("lets-sam-relative", "lets-sam-per-layer"))
    rows = ("lets-sam-relative", "lets-sam-relative+refit", "lets-sam-per-layer", "lets-sam-per-layer+refit")
    assert [one.key for one in planned(many)] == [(row, seed) for seed in options.seeds for row in rows]
    assert [one.key for one in planned(without)] == [("sgd", 5), ("sam:0.1", 5), ("lets-sam", 5)]


def test_results_are_saved_after_every_run(trial: Whole) -> None:
    steps = trial[3]
    assert len(steps) == len(ROWS)
    for count, (given, on_disk) in enumerate(steps, start=1):
        assert on_disk == given
        assert rows(given) == ROWS[:count]


def test_the_callback_is_called_after_every_epoch(trial: Whole) -> None:
    assert trial[2].epochs == [(row, seed, epoch, 2) for row, seed in ROWS for epoch in (1, 2)]


def test_splits_are_made_once_a_run(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check before the trial and the runs share them; so do the runs of a seed that hold out the same samples."""
    made: list[tuple[int, bool]] = []

    def counted(task: Task, seed: int, *, hold_out: bool, **options: float) -> sampling.Splits:
        made.append((seed, hold_out))
        return plain(task, seed, hold_out=hold_out, **options)

    plain: Callable[..., sampling.Splits] = sampling.make_splits
    monkeypatch.setattr(sampling, "make_splits", counted)
    options = config(methods=("sgd", "sam", "lets-sam"), label_noise=0.2, epochs=1).for_task(task)
    splits = check_data(task, options)
    assert made == [(0, True)]
    list(run_trial(task, options, fabric(), open_results(tmp_path, options, {}, resume=False), tmp_path, None, splits))
    assert sorted(made) == [(0, False), (0, True), (1, False), (1, True)]
    monkeypatch.setattr(Method, "parse", lambda name: pytest.fail("a name was parsed during the trial"))
    options = dataclasses.replace(options, seeds=(2,))
    results = open_results(tmp_path / "other", options, {}, resume=False)
    assert len(list(run_trial(task, options, fabric(), results, tmp_path / "other"))) == 4


def test_a_run_does_not_depend_on_the_runs_before_it(task: Task, whole: Results, tmp_path: Path) -> None:
    alone = run(task, config(methods=("lets-sam",), seeds=(1,), label_noise=0.2), tmp_path)
    expected = [record for record in whole.runs if record.key in {("lets-sam", 1), ("lets-sam+refit", 1)}]
    assert records(alone) == [without_seconds(record) for record in expected]


def test_the_saved_numbers_are_the_measured_ones(trial: Whole, options: TrialConfig) -> None:
    results, out, *_ = trial
    assert saved(out) == results
    value = json.loads((out / "results.json").read_text())
    assert value["task"] == "blobs"
    assert value["config"] == options.as_json()
    assert value["config"]["seeds"] == [0, 1]
    assert value["environment"]["device"] == "cpu"
    assert {"letsam", "torch", "python", "platform", "threads", "command"} < value["environment"].keys()


def test_a_task_with_validation_data_trains_on_all_samples_in_both_runs(tmp_path: Path) -> None:
    task = training_cases.task(validation=training_cases.VALIDATION, epochs=1)
    options = config(methods=("sam", "lets-sam"), seeds=(0,)).for_task(task)
    results = run(task, options, tmp_path)

    assert rows(results) == [("sam", 0), ("lets-sam", 0), ("lets-sam+refit", 0)]
    passes = [record.gradient_passes for record in results.runs]
    search = training_cases.learned_passes(7)
    assert passes == [2 * 7, search, search + 2 * 7]  # each on all 60 samples
    assert saved(tmp_path).config["refit"] is True


def test_a_trial_that_diverges_comes_to_its_end(tmp_path: Path) -> None:
    task = training_cases.task(
        model=lambda: nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, CLASSES)),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e25),
    )
    results = run(task, config(methods=("sgd", "sam", "lets-sam"), seeds=(0,)), tmp_path)
    assert rows(results) == [("sgd", 0), ("sam", 0), ("lets-sam", 0), ("lets-sam+refit", 0)]
    assert math.isnan(saved(tmp_path).runs[0].test_loss)


# Interruption


@pytest.mark.parametrize("after", [1, 2, 3, 6, 7, 8, 11, 16])
def test_an_interrupted_trial_is_completed(
    after: int, task: Task, options: TrialConfig, whole: Results, tmp_path: Path
) -> None:
    """2 epochs a run: an odd number stops within one, an even one after its last epoch, before it is saved."""
    finished = (after - 1) // 2
    with pytest.raises(KeyboardInterrupt):
        run(task, options, tmp_path, Recorder(stop_after=after))
    assert (tmp_path / "results.json").exists() == (finished > 0)
    if finished:
        assert records(saved(tmp_path)) == records(whole)[:finished]
        kept = saved(tmp_path).runs

    recorder = Recorder()
    run(task, options, tmp_path, recorder, resume=True)
    assert recorder.rows == ROWS[finished:]
    assert records(saved(tmp_path)) == records(whole)
    if finished:
        assert saved(tmp_path).runs[:finished] == kept  # seconds included


def test_a_complete_trial_has_nothing_left_to_run(
    trial: Whole, task: Task, options: TrialConfig, tmp_path: Path
) -> None:
    shutil.copytree(trial[1], tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "results.json").read_bytes()
    recorder = Recorder()
    assert rows(run(task, options, tmp_path, recorder, resume=True)) == ROWS
    assert not recorder.epochs
    assert (tmp_path / "results.json").read_bytes() == before


def test_many_radii_are_refitted_and_resumed(task: Task, tmp_path: Path) -> None:
    """From the file: the refit of an interrupted trial is that of one that was not."""
    options = config(methods=("lets-sam-per-layer",), seeds=(0,)).for_task(task)
    whole, parts = run(task, options, tmp_path / "whole"), tmp_path / "parts"
    assert rows(whole) == [("lets-sam-per-layer", 0), ("lets-sam-per-layer+refit", 0)]
    assert saved(tmp_path / "whole") == whole
    with pytest.raises(KeyboardInterrupt):
        run(task, options, parts, Recorder(stop_after=3))
    assert rows(saved(parts)) == rows(whole)[:1]
    recorder = Recorder()
    run(task, options, parts, recorder, resume=True)
    assert recorder.rows == rows(whole)[1:]
    assert records(saved(parts)) == records(whole)


@pytest.mark.parametrize("refit", [True, False])
def test_many_radii_of_which_the_means_alone_were_kept_are_learned_again(
    refit: bool, task: Task, tmp_path: Path
) -> None:
    """In a file of schema 1; where there is a refit, which needs each of them."""
    options = config(methods=("lets-sam-per-layer", "lets-sam"), seeds=(0,), refit=False).for_task(task)
    results = run(task, options, tmp_path)
    path = tmp_path / "results.json"
    value = json.loads(path.read_text())
    value["schema"], value["config"]["refit"] = 1, refit
    value["runs"][0]["history"]["rho_schedule"] = results.runs[0].mean_radii
    other = {**value["runs"][0], "seed": 7}  # of a seed that is not asked for now
    value["runs"].append(other)
    path.write_text(json.dumps(value))

    options = dataclasses.replace(options, refit=refit)
    recorder = Recorder()
    again = run(task, options, tmp_path, recorder, resume=True)
    learned = [("lets-sam-per-layer", 0), ("lets-sam-per-layer+refit", 0), ("lets-sam+refit", 0)]
    assert recorder.rows == (learned if refit else [])
    if refit:
        found = {one.seed: one for one in again.runs_of("lets-sam-per-layer")}
        assert without_seconds(found[0]) == records(results)[0]
        assert found[7].test_accuracy == other["test_accuracy"]


def test_methods_and_seeds_may_be_added(task: Task, options: TrialConfig, whole: Results, tmp_path: Path) -> None:
    run(task, dataclasses.replace(options, methods=(Method.parse("sam:0.1"),), seeds=(1,)), tmp_path)
    recorder = Recorder()
    results = run(task, options, tmp_path, recorder, resume=True)

    assert recorder.rows == [row for row in ROWS if row != ("sam:0.1", 1)]
    assert sorted(records(results), key=repr) == sorted(records(whole), key=repr)
    assert saved(tmp_path).config["methods"] == list(METHODS)


# Folders


@pytest.fixture(scope="module")
def results(task: Task, options: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `results.json` of one run."""
    out = tmp_path_factory.mktemp("one")
    with pytest.raises(KeyboardInterrupt):
        run(task, options, out, Recorder(stop_after=3))
    return out / "results.json"


def refused(options: TrialConfig, out: Path, *, resume: bool = True) -> str:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} if out.is_dir() else {}
    with pytest.raises(ValueError) as caught:
        open_results(out, options, {}, resume=resume)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} if out.is_dir() else {}
    assert after == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "digits"},
        {"epochs": 3},
        {"batch_size": 9},
        {"rho": 0.1},
        {"label_noise": 0.4},
        {"validation_share": 0.2},
        {"refit": False},
        {"train_size": 50},
    ],
)
def test_the_folder_of_another_trial(change: dict[str, Any], options: TrialConfig, results: Path) -> None:
    ((name, value),) = change.items()
    message = refused(dataclasses.replace(options, **change), results.parent)
    assert message == f"{results}: holds another trial: its {name} is {getattr(options, name)!r}, got {value!r}"


def test_results_are_not_overwritten_without_resume(options: TrialConfig, results: Path) -> None:
    assert refused(options, results.parent, resume=False) == (
        f"{results}: holds results already; add --resume to complete them, or choose another --out"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[]", "expected the file to be an object"),
        ('{"schema": 99}', "expected schema 1 or 2, got schema 99"),
        ('{"schema": 1, "runs": []}', "expected the field task"),
    ],
)
def test_results_that_cannot_be_read(content: str, message: str, options: TrialConfig, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    assert refused(options, tmp_path).startswith(f"{tmp_path / 'results.json'}: {message}")


@pytest.mark.parametrize("below", ["", "a", "a/b"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_file_where_the_folder_should_be(below: str, resume: bool, options: TrialConfig, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert refused(options, file / below, resume=resume) == f"`out` must be a folder, got the file {file}"
    assert file.read_text() == "mine"


# What is checked before


@pytest.mark.parametrize(
    ("samples", "change", "message"),
    [
        (3, {"methods": ("sgd", "lets-sam")}, "^`validation_share` = 0.1 of 3 samples must leave at least 1"),
        (60, {"methods": ("sgd", "lets-sam:20")}, r"^`rho` must be within `bounds` = .*, got 20.0$"),
        (60, {"methods": ("lets-paper-asam",), "rho": 11.0}, r"^`rho` must be within `bounds` = .*, got 11.0$"),
        (60, {"methods": ("lets-sam",), "rho": 1e-6}, r"^`rho` must be within `bounds` = .*, got 1e-06$"),
    ],
)
def test_what_only_the_data_can_tell(samples: int, change: dict[str, Any], message: str) -> None:
    task = training_cases.task(train=training_cases.blobs(samples, 1))
    with pytest.raises(ValueError, match=message):
        check_data(task, config(**change))


def test_fixed_methods_need_no_samples_to_hold_out_and_have_no_bounds() -> None:
    check_data(training_cases.task(train=training_cases.blobs(3, 1)), config(methods=("sgd", "sam:20")))
