"""Trials in parallel worker processes: the same numbers as one after another; errors in a worker."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path

import pytest

import training_cases
import warm
from letsam.results import Results
from letsam.training.parallel import Send, run_in_parallel
from letsam.training.trial import environment, open_results, run_trial_in_parallel
from training_cases import config, fabric
from trial_cases import METHODS, ROWS, Recorder, records, rows, run, saved


def in_parallel(out: Path, recorder: Recorder, *, jobs: int, resume: bool = False) -> Results:
    """The trial in worker processes, which load the task from its file."""
    spec = f"{Path(__file__).parents[1] / 'training_cases.py'}:task"
    options = config(task=spec, methods=METHODS, epochs=2, label_noise=0.2).for_task(training_cases.task())
    results = open_results(out, options, environment(fabric()), resume=resume)
    for finished in run_trial_in_parallel(options, "cpu", jobs, results, out, recorder):
        results = finished
    return results


@pytest.mark.slow
def test_parallel_processes_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    results = in_parallel(tmp_path / "two", recorder, jobs=2)
    one = run(training_cases.task(epochs=2), config(methods=METHODS, label_noise=0.2, epochs=2), tmp_path / "one")
    assert rows(results) == ROWS
    assert records(results) == records(one)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one" / "predictions").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two" / "predictions").iterdir()}
    assert len(files) == len(ROWS)
    assert saved(tmp_path / "two") == results
    assert sorted(recorder.epochs) == sorted((row, seed, epoch, 2) for row, seed in ROWS for epoch in (1, 2))

    # A missing refit replays the recorded search; the other runs stay as they are.
    path = tmp_path / "two" / "results.json"
    kept = tuple(r for r in results.runs if r.key not in {("lets-sam+refit", 0), ("sgd", 1)})
    dataclasses.replace(results, runs=kept).save(path)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: warm.CONTEXT)
    recorder = Recorder()
    again = in_parallel(tmp_path / "two", recorder, jobs=1, resume=True)
    assert set(recorder.rows) == {("lets-sam+refit", 0), ("sgd", 1)}
    assert records(again) == records(one)
    assert all(run in again.runs for run in kept)  # seconds included


def _fails(item: int, send: Send) -> None:
    send(item)
    if item == 1:
        raise ValueError("`item` must not be 1, got 1")
    if item == 2:
        os._exit(3)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: warm.CONTEXT)
    for item, error, message in (
        (1, ValueError, "`item` must not be 1, got 1"),
        (2, RuntimeError, "a worker process ended while working on 2"),
    ):
        received = []
        with pytest.raises(error, match=message):
            received += list(run_in_parallel(_fails, [item], 1))
        assert not multiprocessing.active_children()
