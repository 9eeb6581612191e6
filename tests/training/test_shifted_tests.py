"""Runs are tested on shifted test data as well: metric, loss and calibration under each shift."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from letsam.data import DataOptions, data_task
from letsam.models import ModelOptions
from letsam.results import Results, Run
from letsam.tasks import Task, load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.drifted import with_drift
from letsam.training.loop import Training
from letsam.training.methods import Method
from letsam.training.shifted_tests import check_shifted_tests, evaluate_under_shifts, shifts_to_test
from letsam.validation import available_shifts


def trained(task: Task, shifts: str, epochs: int) -> Training:
    config = TrialConfig(task=task.name, epochs=epochs, evaluate_shift=shifts).for_task(task)
    run = Training(task, Method.parse("sgd"), 0, config, make_fabric("cpu"))
    while not run.finished:
        run.advance()
    return run


def metrics(run: Run, *shifts: str) -> list[float]:
    return [cast("float", run.shifted[shift]["metric"]) for shift in shifts]


def severities(kind: str) -> list[str]:
    return [f"{kind}:{severity}" for severity in range(1, 6)]


def expected_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = 15) -> float:
    """By hand, a bin at a time."""
    confidence, answers = probabilities.max(dim=1)
    right, error = (answers == targets).double(), 0.0
    for low in range(bins):
        inside = (confidence >= low / bins) & ((confidence < (low + 1) / bins) | (low == bins - 1))
        if inside.any():
            error += float(inside.double().mean()) * abs(float(confidence[inside].mean()) - float(right[inside].mean()))
    return error


def test_metric_loss_and_calibration_under_each_shift_are_those_of_the_shifted_data() -> None:
    task = load_task("digits", train_size=300)
    run = trained(task, "noise,blur:2", 15)
    record = run.finish().run
    shifts = shifts_to_test("noise,blur:2")
    assert list(record.shifted) == ["clean", *shifts]
    assert len(shifts) == 6
    for shift in ("clean", "noise:5", "blur:2"):
        inputs, targets = (task.test if shift == "clean" else with_drift(task, task.test, shift, 0))[:]
        with torch.no_grad():
            outputs = run.model.eval()(inputs).double()
        found = record.shifted[shift]
        assert found["metric"] == pytest.approx(float((outputs.argmax(1) == targets).double().mean()))
        assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, targets)), rel=1e-4)
        expected = expected_calibration_error(outputs.softmax(1), targets)
        assert found["calibration_error"] == pytest.approx(expected, abs=1e-4)
    assert record.shifted["clean"]["metric"] == record.test_accuracy
    mild, severe = metrics(record, "noise:1", "noise:5")
    assert severe < mild


def test_the_mean_corruption_error_counts_each_kind_of_shift_once() -> None:
    task = load_task("digits", train_size=100)
    record = trained(task, "noise,blur:2", 1).finish().run
    mean = (sum(metrics(record, *severities("noise"))) / 5 + metrics(record, "blur:2")[0]) / 2
    assert record.metrics == {"mean corruption error": pytest.approx(1 - mean)}


def test_all_stands_for_every_shift_that_the_data_can_have() -> None:
    digits = load_task("digits", train_size=50)
    names = [name for name, _, _ in available_shifts("image") if name not in ("colour", "groups")]  # one channel
    assert check_shifted_tests(digits, "all") == tuple(f"{name}:{s}" for name in names for s in range(1, 6))
    assert check_shifted_tests(digits, "noise:2,all")[0] == "noise:2"
    rows = torch.randn(60, 4)
    pairs = TensorDataset(rows, rows[:, :1])
    numbers = Task(name="rows", model=lambda: nn.Linear(4, 1), train=pairs, test=pairs, kind="regression")
    kinds = {shift.partition(":")[0] for shift in check_shifted_tests(numbers, "all")}
    assert kinds == {"missing", "scaled", "noisy", "quantiles"}
    with pytest.raises(ValueError, match="`evaluate_shift` cannot shift `labels`: the targets are no classes, got reg"):
        check_shifted_tests(numbers, "labels:2")


def test_numbers_to_predict_have_no_calibration(tmp_path: Path) -> None:
    frame = pd.DataFrame(torch.randn(80, 3).numpy(), columns=["a", "b", "y"])  # pyright: ignore[reportArgumentType]
    frame["y"] += 3 * frame["a"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    task = data_task(DataOptions(path=str(tmp_path / "rows.csv"), target="y"), ModelOptions())
    record = trained(task, "all", 1).finish().run
    assert {test["calibration_error"] for test in record.shifted.values()} == {None}
    assert record.metric == "RMSE"
    kinds = [metrics(record, *severities(kind)) for kind in ("missing", "scaled", "noisy", "quantiles")]
    mean = sum(sum(kind) / 5 for kind in kinds) / 4
    assert record.metrics["RMSE under shift"] == pytest.approx(mean)
    assert "mean corruption error" not in record.metrics


def test_the_records_survive_the_file(tmp_path: Path) -> None:
    record = trained(load_task("digits", train_size=50), "noise:1", 1).finish().run
    shifted = {**record.shifted, "noise:1": {"metric": 0.5, "loss": float("inf"), "calibration_error": None}}
    results = Results("digits", {}, {}, (dataclasses.replace(record, shifted=shifted),))
    results.save(tmp_path / "results.json")
    (found,) = Results.load(tmp_path / "results.json").runs
    assert isinstance(found, Run)
    assert found.shifted["clean"] == record.shifted["clean"]
    assert found.shifted["noise:1"]["loss"] != found.shifted["noise:1"]["loss"]  # NaN
    assert found.shifted["noise:1"]["calibration_error"] is None


def test_shifts_that_the_test_data_cannot_have_are_refused_before_training() -> None:
    task = load_task("digits", train_size=50)
    for shifts, message in (
        ("wind:2", "`evaluate_shift` must be of clean"),
        ("typos", "`evaluate_shift` must be of clean, noise, .* for image data, got 'typos'"),
        ("clean", "`evaluate_shift` must name shifts: the clean data are always tested, got 'clean'"),
        ("noise:2@0.5", "`evaluate_shift` must be without weights, as each shift is a test, got 'noise:2@0.5'"),
        ("noise:1,colour:2", "the shift `colour` needs images with 3 channels, got 1"),
        ("groups:2", "`evaluate_shift` cannot shift `groups`"),
    ):
        with pytest.raises(ValueError, match=message):
            TrialConfig(task="digits", evaluate_shift=shifts).for_task(task)
    scored = dataclasses.replace(task, score=lambda model, dataset: 0.5)
    with pytest.raises(ValueError, match="`evaluate_shift` needs a task whose metric is computed from outputs"):
        TrialConfig(task="digits", evaluate_shift="noise").for_task(scored)


def test_several_shifts_one_after_the_other_have_five_severities() -> None:
    assert shifts_to_test("noise+blur")[::4] == ("noise:1+blur:1", "noise:5+blur:5")
    assert shifts_to_test("noise:2+blur:1") == ("noise:2+blur:1",)


def test_all_methods_and_seeds_see_the_same_shifted_data() -> None:
    task = load_task("digits", train_size=50)
    model = task.model()
    torch.manual_seed(1)
    first = evaluate_under_shifts(task, model, torch.device("cpu"), "noise:3")
    torch.manual_seed(2)
    assert evaluate_under_shifts(task, model, torch.device("cpu"), "noise:3") == first
