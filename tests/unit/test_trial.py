"""Trials: options, order of the runs, results after every run, interruption and completion, folders of others."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import training_cases
from letsam.results import Results
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.parallel import side_by_side as side_by_side_of
from letsam.training.trial import (
    check_data,
    environment,
    open_results,
    planned,
    run_trial,
    run_trial_side_by_side,
)
from training_cases import CLASSES, config, fabric, without_seconds

METHODS = ("sgd", "sam:0.1", "lets-sam")
ROWS = [(row, seed) for seed in (0, 1) for row in ("sgd", "sam:0.1", "lets-sam", "lets-sam+refit")]


@pytest.fixture(scope="module")
def task() -> Task:
    return training_cases.task(dropout=0.2, epochs=2)


@pytest.fixture
def options(task: Task) -> TrialConfig:
    return config(methods=METHODS, label_noise=0.2).for_task(task)


class Stop:
    """Interrupts after so many epochs, and tells which rows were trained."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.epochs: list[tuple[str, int, int, int]] = []

    def __call__(self, row: str, seed: int, epoch: int, epochs: int) -> None:
        self.epochs.append((row, seed, epoch, epochs))
        if len(self.epochs) == self.after:
            raise KeyboardInterrupt

    @property
    def rows(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((row, seed) for row, seed, *_ in self.epochs))


def run(task: Task, options: TrialConfig, out: Path, stop: Stop | None = None, *, resume: bool = False) -> Results:
    results = open_results(out, options, environment(fabric()), resume=resume)
    for finished in run_trial(task, options, fabric(), results, out, stop):
        results = finished
    return results


def saved(out: Path) -> Results:
    return Results.load(out / "results.json")


def rows(results: Results) -> list[tuple[str, int]]:
    return [(record.method, record.seed) for record in results.runs]


def records(results: Results) -> list[dict[str, Any]]:
    return [without_seconds(record) for record in results.runs]


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The trial that was never interrupted, as saved."""
    out = tmp_path_factory.mktemp("whole")
    options = config(methods=METHODS, label_noise=0.2).for_task(task)
    run(task, options, out)
    return saved(out)


# The runs


def test_rows_go_seed_by_seed_and_a_refit_follows_its_search(options: TrialConfig) -> None:
    assert planned(options) == ROWS
    without = dataclasses.replace(options, refit=False, seeds=(5,))
    many = dataclasses.replace(options, methods=("lets-sam-relative", "lets-sam-per-layer"))
    rows = ("lets-sam-relative", "lets-sam-relative+refit", "lets-sam-per-layer", "lets-sam-per-layer+refit")
    assert planned(many) == [(row, seed) for seed in options.seeds for row in rows]
    assert planned(without) == [("sgd", 5), ("sam:0.1", 5), ("lets-sam", 5)]


def test_results_are_saved_after_every_run(task: Task, options: TrialConfig, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    results = open_results(out, options, environment(fabric()), resume=False)
    assert not out.exists()
    for count, finished in enumerate(run_trial(task, options, fabric(), results, out), start=1):
        assert saved(out) == finished
        assert rows(finished) == ROWS[:count]
        assert [file.name for file in out.iterdir()] == ["results.json"]
    assert count == len(ROWS)


def test_every_epoch_is_told(task: Task, options: TrialConfig, tmp_path: Path) -> None:
    stop = Stop()
    run(task, options, tmp_path, stop)
    assert stop.epochs == [(row, seed, epoch, 2) for row, seed in ROWS for epoch in (1, 2)]


def test_a_run_does_not_depend_on_the_runs_before_it(task: Task, whole: Results, tmp_path: Path) -> None:
    alone = run(task, config(methods=("lets-sam",), seeds=(1,), label_noise=0.2), tmp_path)
    expected = [record for record in whole.runs if record.seed == 1 and record.method.startswith("lets")]
    assert records(alone) == [without_seconds(record) for record in expected]


def test_the_saved_numbers_are_the_measured_ones(task: Task, options: TrialConfig, tmp_path: Path) -> None:
    results = run(task, options, tmp_path)
    assert saved(tmp_path) == results
    value = json.loads((tmp_path / "results.json").read_text())
    assert value["task"] == "blobs"
    assert value["config"] == options.as_json()
    assert value["config"]["seeds"] == [0, 1]
    assert value["environment"]["device"] == "cpu"
    assert {"letsam", "torch", "python", "platform", "threads", "command"} < value["environment"].keys()


def test_a_task_with_validation_data_has_no_refit(tmp_path: Path) -> None:
    task = training_cases.task(validation=training_cases.VALIDATION, epochs=1)
    options = config(methods=("sam", "lets-sam"), seeds=(0,)).for_task(task)
    results = run(task, options, tmp_path)

    assert rows(results) == [("sam", 0), ("lets-sam", 0)]
    passes = [record.gradient_passes for record in results.runs]
    assert passes == [2 * 7, training_cases.learned_passes(7)]  # both on all 60 samples
    assert saved(tmp_path).config["refit"] is False


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
        run(task, options, tmp_path, Stop(after))
    assert (tmp_path / "results.json").exists() == (finished > 0)
    if finished:
        assert records(saved(tmp_path)) == records(whole)[:finished]
        kept = saved(tmp_path).runs

    stop = Stop()
    run(task, options, tmp_path, stop, resume=True)
    assert stop.rows == ROWS[finished:]
    assert records(saved(tmp_path)) == records(whole)
    if finished:
        assert saved(tmp_path).runs[:finished] == kept  # seconds included


def test_a_complete_trial_has_nothing_left_to_run(task: Task, options: TrialConfig, tmp_path: Path) -> None:
    run(task, options, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    stop = Stop()
    assert rows(run(task, options, tmp_path, stop, resume=True)) == ROWS
    assert not stop.epochs
    assert (tmp_path / "results.json").read_bytes() == before


def test_many_radii_are_refitted_and_resumed(task: Task, tmp_path: Path) -> None:
    """From the file: the refit of an interrupted trial is that of one that was not."""
    options = config(methods=("lets-sam-per-layer",), seeds=(0,)).for_task(task)
    whole, parts = run(task, options, tmp_path / "whole"), tmp_path / "parts"
    assert rows(whole) == [("lets-sam-per-layer", 0), ("lets-sam-per-layer+refit", 0)]
    assert saved(tmp_path / "whole") == whole
    with pytest.raises(KeyboardInterrupt):
        run(task, options, parts, Stop(3))
    assert rows(saved(parts)) == rows(whole)[:1]
    stop = Stop()
    run(task, options, parts, stop, resume=True)
    assert stop.rows == rows(whole)[1:]
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
    stop = Stop()
    again = run(task, options, tmp_path, stop, resume=True)
    learned = [("lets-sam-per-layer", 0), ("lets-sam-per-layer+refit", 0), ("lets-sam+refit", 0)]
    assert stop.rows == (learned if refit else [])
    if refit:
        found = {one.seed: one for one in again.runs_of("lets-sam-per-layer")}
        assert without_seconds(found[0]) == records(results)[0]
        assert found[7].test_accuracy == other["test_accuracy"]


def test_methods_and_seeds_may_be_added(task: Task, options: TrialConfig, whole: Results, tmp_path: Path) -> None:
    run(task, dataclasses.replace(options, methods=("sam:0.1",), seeds=(1,)), tmp_path)
    stop = Stop()
    results = run(task, options, tmp_path, stop, resume=True)

    assert stop.rows == [row for row in ROWS if row != ("sam:0.1", 1)]
    assert sorted(records(results), key=repr) == sorted(records(whole), key=repr)
    assert saved(tmp_path).config["methods"] == list(METHODS)


# Folders


@pytest.fixture
def results(task: Task, options: TrialConfig, tmp_path: Path) -> Path:
    """The `results.json` of one run."""
    with pytest.raises(KeyboardInterrupt):
        run(task, options, tmp_path, Stop(3))
    return tmp_path / "results.json"


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


# Options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ()}, "^`methods` must name at least one, got none$"),
        ({"methods": ("sgd", "sam", "sgd")}, "^`methods` must not repeat, got sgd, sam, sgd$"),
        ({"methods": ("sgd", "samm")}, "^`methods` must be of .*, got 'samm', did you mean 'sam'"),
        ({"seeds": ()}, "^`seeds` must name at least one, got none$"),
        ({"seeds": (3, 3)}, "^`seeds` must not repeat, got 3, 3$"),
        ({"seeds": (0, -1)}, "^`seeds` must be a whole number >= 0, got -1$"),
        ({"seeds": (2**63,)}, r"^`seeds` must be whole numbers below 2\*\*63, got 9223372036854775808$"),
        ({"epochs": 0}, "^`epochs` must be a whole number >= 1, got 0$"),
        ({"batch_size": -8}, "^`batch_size` must be a whole number >= 1, got -8$"),
        ({"train_size": 0}, "^`train_size` must be a whole number >= 1, got 0$"),
        ({"rho": 0.0}, "^`rho` must be > 0, got 0.0$"),
        ({"rho": -1.0}, "^`rho` must be > 0, got -1.0$"),
        ({"rho": math.nan}, "^`rho` must be > 0, got nan$"),
        ({"rho": math.inf}, "^`rho` must be > 0, got inf$"),
        ({"max_grad_norm": 0.0}, "^`max_grad_norm` must be > 0, got 0.0$"),
        ({"label_noise": 1.0}, "^`label_noise` must be at least 0 and below 1, got 1.0$"),
        ({"label_noise": -0.1}, "^`label_noise` must be at least 0 and below 1, got -0.1$"),
        ({"label_noise": math.nan}, "^`label_noise` must be at least 0 and below 1, got nan$"),
        ({"validation_share": 0.0}, "^`validation_share` must be between 0 and 1, got 0.0$"),
        ({"validation_share": 1.0}, "^`validation_share` must be between 0 and 1, got 1.0$"),
        ({"validation_share": math.nan}, "^`validation_share` must be between 0 and 1, got nan$"),
    ],
)
def test_options_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (1.5,)}, "`seeds` must be a whole number >= 0, got 1.5"),
        ({"seeds": (True,)}, "`seeds` must be a whole number >= 0, got True"),
        ({"epochs": "3"}, "`epochs` must be a whole number >= 1, got '3'"),
        ({"rho": "0.1"}, "`rho` must be a number, got '0.1'"),
        ({"max_grad_norm": "1"}, "`max_grad_norm` must be a number, got '1'"),
        ({"label_noise": None}, "`label_noise` must be a number, got None"),
    ],
)
def test_options_of_the_wrong_type(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        config(**change)


def test_the_defaults_of_the_issue() -> None:
    options = TrialConfig(task="digits")
    assert options.methods == ("sgd", "sam", "asam", "lets-sam", "lets-asam")
    assert options.seeds == (0, 1, 2)
    assert options.validation_share == 0.1
    assert options.refit
    assert json.loads(json.dumps(options.as_json())) == options.as_json()


def test_the_tasks_defaults_are_on_record(task: Task) -> None:
    filled = config(batch_size=5).for_task(task)
    assert (filled.epochs, filled.batch_size, filled.refit) == (2, 5, True)


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


# Side by side


def side_by_side(out: Path, resume: bool = False, watch: Any = None) -> Results:
    """The trial in two processes, which load the task by its place."""
    spec = f"{Path(__file__).parents[1] / 'training_cases.py'}:task"
    options = config(task=spec, methods=METHODS, epochs=2, label_noise=0.2).for_task(training_cases.task())
    results = open_results(out, options, environment(fabric()), resume=resume)
    for finished in run_trial_side_by_side(options, "cpu", 2, results, out, watch):
        results = finished
    return results


@pytest.mark.slow
def test_side_by_side_gives_the_numbers_of_one_after_the_other(tmp_path: Path) -> None:
    stop = Stop()
    results = side_by_side(tmp_path / "two", watch=stop)
    one = run(training_cases.task(epochs=2), config(methods=METHODS, label_noise=0.2, epochs=2), tmp_path / "one")
    assert rows(results) == ROWS
    assert records(results) == records(one)
    assert saved(tmp_path / "two") == results
    assert sorted(stop.epochs) == sorted((row, seed, epoch, 2) for row, seed in ROWS for epoch in (1, 2))

    # A refit that is missing replays the search that is there; everything else stays as it is.
    path = tmp_path / "two" / "results.json"
    kept = tuple(r for r in results.runs if (r.method, r.seed) not in {("lets-sam+refit", 0), ("sgd", 1)})
    dataclasses.replace(results, runs=kept).save(path)
    stop = Stop()
    again = side_by_side(tmp_path / "two", resume=True, watch=stop)
    assert set(stop.rows) == {("lets-sam+refit", 0), ("sgd", 1)}
    assert records(again) == records(one)
    assert all(run in again.runs for run in kept)  # seconds included


def _fails(item: int, tell: Any) -> None:
    tell(item)
    if item == 1:
        raise ValueError("`item` must not be 1, got 1")
    if item == 2:
        os._exit(3)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_raised() -> None:
    for item, error, message in (
        (1, ValueError, "`item` must not be 1, got 1"),
        (2, RuntimeError, "a worker process ended while working on 2"),
    ):
        told = []
        with pytest.raises(error, match=message):
            told += list(side_by_side_of(_fails, [item], 1))
        assert not multiprocessing.active_children()
