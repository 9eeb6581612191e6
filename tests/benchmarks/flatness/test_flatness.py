"""The benchmark of flatness: what is measured, and the page is what the results say."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch

from benchmarks.flatness import benchmark
from benchmarks.flatness.benchmark import SETTINGS, Flatness, rank_correlation
from benchmarks.harness import DOCS
from benchmarks.harness.training import loaded

RESULTS = "evidence/flatness.json"


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    flatness = Flatness(tmp_path)
    flatness.write(Flatness().read())
    flatness.make_page()
    assert (tmp_path / "flatness.md").read_text() == (DOCS / "flatness.md").read_text()
    assert len(list((tmp_path / "images").glob("*.png"))) == len(SETTINGS)


def test_the_results_are_complete_and_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Flatness().read()
    assert [row.key for row in rows] == [unit.name for unit in Flatness().units()]
    assert {unit.keys for unit in Flatness().units()} == {(row.key,) for row in rows}
    flatness = Flatness(tmp_path)
    assert flatness.read() == []
    flatness.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()


def test_a_run_of_another_length_does_not_count(tmp_path: Path) -> None:
    flatness, rows = Flatness(tmp_path), Flatness().read()
    flatness.write([dataclasses.replace(rows[0], epochs=7), *rows[1:]])
    assert flatness.read() == rows[1:]


def test_the_epochs_are_those_of_the_tasks() -> None:
    assert loaded("digits").epochs == SETTINGS["digits-0.4"].epochs == SETTINGS["digits-0.0"].epochs


@pytest.mark.skipif(not importlib.util.find_spec("hessian_eigenthings"), reason="hessian-eigenthings is not installed")
def test_one_real_solution_is_measured() -> None:
    task = loaded("digits")
    torch.manual_seed(0)
    model = task.model()
    data = [task.train[i] for i in range(60)]  # pyright: ignore[reportArgumentType]
    batches = [(torch.stack([x for x, _ in data]), torch.stack([y for _, y in data]))]
    found = benchmark.flatness(model, task, batches)
    loss = task.loss(model(batches[0][0]), batches[0][1]).item()
    assert found["train_loss"] == pytest.approx(loss, rel=1e-6)
    assert len(found["slice"]) == benchmark.OFFSETS
    assert found["ascent"] == sorted(found["ascent"])
    assert len(found["ascent"]) == len(benchmark.RADII)
    assert 0 < found["eigenvalue"] < found["trace"]


@pytest.mark.skipif(not importlib.util.find_spec("hessian_eigenthings"), reason="hessian-eigenthings is not installed")
def test_a_unit_is_trained_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dataclasses.replace(SETTINGS["digits-0.4"], epochs=1, samples=50)
    monkeypatch.setattr(Flatness, "settings", {"digits-0.4": tiny})
    (row,) = Flatness().measure(Flatness().units()[-1])
    assert (row.key, row.epochs) == ("digits-0.4/lets-sam:0.05/2", 1)
    assert row.rho_final is not None
    assert row.rho_final != 0.05
    assert 0.1 < row.test_accuracy < 0.9


def test_rank_correlation_sees_order_only() -> None:
    assert rank_correlation([1.0, 10.0, 100.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)
    assert rank_correlation([1.0, 1.0, 1.0], [3.0, 2.0, 1.0]) == 0
