"""Whole watches of real digits, many times: few have an alarm in an unchanged world, all have one in a changed one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import letsam
from letsam.data.new_targets import KnownTargets
from letsam.model_folder.activations import Activations, activations_of
from letsam.model_folder.reference import ModelReference
from letsam.operation import drift_tests, labelled_metrics
from letsam.operation.judging import WatchState, judged
from letsam.operation.measuring import Measuring
from letsam.operation.watched_batch import WatchedBatch
from watch_cases import digits_table, noisy

SIZE, BATCHES, FIRST = 70, 3, 1  # samples of a batch; batches of a watch; the first batch that may have changed
RATE = 0.05


class Pool:
    """Rows of operation that the model was not trained on, and what it gives for them.

    Args:
        model: the model.
        frame: the rows.
    """

    def __init__(self, model: letsam.LoadedModel, frame: Any) -> None:
        with model.inputs(frame) as inputs:
            found: Any = inputs
            self.rows = torch.stack([found[place] for place in range(len(found))])
        self.made: Activations = activations_of(model.model, [self.rows], len(self.rows))
        self.targets = model.targets(frame).values

    def batch(self, places: torch.Tensor, name: str) -> WatchedBatch:
        """Some of the rows."""
        truth = KnownTargets(self.targets[places], torch.arange(len(places)))
        return WatchedBatch(name, self.made.outputs[places], self.made.embeddings[places], self.rows[places], truth)


@pytest.fixture
def rows(trained_digits: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelReference, Pool, Pool]:
    """The reference of the model, rows like its training data, and the same with noise."""
    monkeypatch.setattr(drift_tests, "REPLICATES", 2)  # intervals play no part in alarms
    monkeypatch.setattr(labelled_metrics, "bootstrapped", quick(labelled_metrics.bootstrapped))
    model = letsam.load(trained_digits)
    reference = ModelReference.load(model.folder)
    assert reference is not None
    later = digits_table()[1]
    return reference, Pool(model, later), Pool(model, noisy(later, 1.0))


def quick(bootstrapped: Any) -> Any:
    return lambda statistic, count, **_: bootstrapped(statistic, count, replicates=100)


def first_alarm(reference: ModelReference, pools: list[Pool], stream: np.random.Generator) -> int | None:
    """The batch of the first alarm of one watch, from 0; reference and batches are drawn from the same rows."""
    usual = pools[0]
    places = torch.from_numpy(stream.permutation(len(usual.rows)))
    held, rest = places[:300], places[300:]
    drawn = dataclasses.replace(
        reference,
        features=usual.rows[held],
        outputs=usual.made.outputs[held],
        embeddings=usual.made.embeddings[held],
        targets=usual.targets[held],
        sharpness=(),
    )
    measuring = Measuring(drawn, "classification", "accuracy", RATE)
    state = WatchState(RATE, measuring.possible)
    for number in range(BATCHES):
        pool = pools[number >= FIRST and len(pools) - 1]
        batch = pool.batch(rest[SIZE * number : SIZE * (number + 1)], str(number))
        result = judged(measuring.measured(batch), state)
        if result.alarms:
            return number
        state = result.state
    return None


@pytest.mark.slow
def test_an_unchanged_world_has_few_alarms(rows: tuple[ModelReference, Pool, Pool]) -> None:
    reference, usual, _ = rows
    stream = np.random.default_rng(0)
    alarms = [first_alarm(reference, [usual], stream) for _ in range(9)]
    assert sum(alarm is not None for alarm in alarms) <= 1  # two or more have a probability of 7 % at the stated rate


@pytest.mark.slow
def test_a_changed_world_has_one_within_two_batches(rows: tuple[ModelReference, Pool, Pool]) -> None:
    reference, usual, changed = rows
    stream = np.random.default_rng(0)
    alarms = [first_alarm(reference, [usual, changed], stream) for _ in range(4)]
    assert all(alarm is not None and FIRST <= alarm <= FIRST + 1 for alarm in alarms), alarms
