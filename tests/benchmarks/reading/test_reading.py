"""The benchmark of reading: what is timed, and the page is what the results say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from torch.utils.data import TensorDataset

from benchmarks.harness import DOCS
from benchmarks.reading import pictures_on_disk
from benchmarks.reading.benchmark import STEPS, Reading, task_of, timed
from letsam.tasks import load_task

RESULTS = "evidence/reading.json"


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    reading = Reading(tmp_path)
    reading.write(Reading().read())
    reading.make_page()
    assert (tmp_path / "reading.md").read_text() == (DOCS / "reading.md").read_text()


def test_the_results_are_complete_and_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Reading().read()
    assert [row.key for row in rows] == [unit.name for unit in Reading().units()]
    assert all(row.steps == STEPS for row in rows)
    reading = Reading(tmp_path)
    assert reading.read() == []
    reading.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()


@pytest.mark.parametrize(("in_memory", "workers"), [(True, None), (False, 1)])
def test_a_small_epoch_is_timed(
    in_memory: bool, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_task("digits")
    assert isinstance(digits.train, TensorDataset)
    monkeypatch.setattr(pictures_on_disk, "loaded", lambda name: dataclasses.replace(digits, name=name))
    pictures_on_disk.write_pictures(tmp_path, 40, 20, 16)
    task = task_of(str(tmp_path), in_memory=in_memory)
    assert len(task.train) == 40  # type: ignore[arg-type]
    row = timed("some", task, workers, batch=8, steps=4, blocks=2)
    assert row.steps == 4
    assert row.seconds > 0
    assert row.ratio > 0
    assert row.processor > 0
    assert (row.workers > 0) == bool(workers)
