"""The benchmark of re-tuning: what is measured, and the page is what the results say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import DOCS
from benchmarks.retuning import benchmark
from benchmarks.retuning.benchmark import CONTINUE, FRESH, METHODS, SCHEDULES, WORLDS, Retuning, tasks_of
from letsam.operation.retune_plan import EPOCHS, LR_FACTOR

RESULTS = "evidence/retuning.json"


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    retuning = Retuning(tmp_path)
    retuning.write(Retuning().read())
    retuning.make_page()
    assert (tmp_path / "retuning.md").read_text() == (DOCS / "retuning.md").read_text()


def test_the_results_are_complete_and_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Retuning().read()
    assert [row.key for row in rows] == [key for unit in Retuning().units() for key in unit.keys]
    retuning = Retuning(tmp_path)
    retuning.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()


def test_the_defaults_of_the_command_are_among_what_is_measured() -> None:
    assert (LR_FACTOR, EPOCHS) in SCHEDULES


def test_the_worlds_differ_from_the_old_one_as_they_say() -> None:
    tasks: list[Any] = [*tasks_of(WORLDS["same"]), tasks_of(WORLDS["shifted"])[1]]
    old, same, shifted = tasks
    assert len(old.train) == len(same.train) == 500
    assert not any(torch.equal(old.train.tensors[0][0], row) for row in same.train.tensors[0])
    assert not torch.equal(shifted.test.tensors[0], same.test.tensors[0])
    assert torch.equal(shifted.test.tensors[1], same.test.tensors[1])


def test_a_unit_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SCHEDULES", ((0.5, 1),))
    monkeypatch.setattr(benchmark, "TRAIN_EPOCHS", 2)
    unit = next(one for one in Retuning().units() if one.name == "noise-sets-in/0")
    rows = {row.method: row for row in Retuning().measure(unit)}
    assert tuple(row.key for row in rows.values()) == unit.keys
    assert tuple(rows) == METHODS
    last = rows["old radius"].rho_final
    assert rows[FRESH].rho_initial == 0.05
    assert rows[CONTINUE].rho_initial == pytest.approx(last, rel=1e-3)
    assert rows["champion"].rho_final is rows["base optimizer"].rho_final is None
    assert len({row.test_accuracy for row in rows.values()}) > 1
