"""`--group`, `--time` and `--folds`: what runs of the command line train on, hold out and test on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from cli_cases import check_error
from letsam.training.loop import Training

Run = Callable[..., tuple[int, str, str]]
Parts = list[tuple[set[int], set[int], set[int]]]
COMMAND = ("train", "rows.csv", "--target", "kind", "--method", "lets-sam", "--epochs", "6", "--out", "run")


@pytest.fixture
def rows(here: Path) -> pd.DataFrame:
    """Rows in the order of their only input; each user has four, each day two."""
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame({"x": np.arange(200) / 200, "kind": drawn.integers(0, 2, 200)})
    frame["user"], frame["day"] = drawn.permutation(200) // 4, drawn.permutation(200) // 2
    frame.to_csv("rows.csv", index=False)
    return frame


@pytest.fixture
def parts(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """For each epoch, the rows of the file that are trained on, held out and tested on."""
    found: Parts = []
    advance = Training.advance

    def recorded(run: Training, steps: int | None = None) -> None:
        assert run.validation is not None
        sets: list[Any] = [batches.dataset for batches in (run.train, run.validation, run.test)]
        values = [torch.stack([one[0][0] for one in data]) for data in sets]
        known = torch.cat(values).unique()  # all inputs of the file, in the order of its rows
        assert len(known) == 200
        trained, held, tested = (torch.searchsorted(known, one).tolist() for one in values)
        used = {index for batch in run.feed.order(run.epoch) for index in batch}
        fold = run.feed.fold(run.epoch * run.steps_per_epoch)
        now = {held[index] for index in fold} if fold is not None else set(held)
        found.append(({trained[index] for index in used}, now, set(tested)))
        advance(run, steps)

    monkeypatch.setattr(Training, "advance", recorded)
    return found


def test_no_group_is_on_two_sides(rows: pd.DataFrame, parts: Parts, letsam_run: Run) -> None:
    assert letsam_run(*COMMAND, "--group", "user", "--drop", "day")[0] == 0
    for trained, held, tested in parts:
        users = [set(rows["user"][sorted(part)]) for part in (trained, held, tested)]
        assert not users[0] & users[1]
        assert not users[2] & (users[0] | users[1])
        assert all(users)


def test_what_is_held_out_is_later_and_test_data_are_the_latest(
    rows: pd.DataFrame, parts: Parts, letsam_run: Run
) -> None:
    assert letsam_run(*COMMAND, "--time", "day", "--drop", "user")[0] == 0
    for trained, held, tested in parts:
        days = [rows["day"][sorted(part)] for part in (trained, held, tested)]
        assert days[0].max() < days[1].min() <= days[1].max() < days[2].min()


def test_folds_change_in_each_third_of_the_epochs(rows: pd.DataFrame, parts: Parts, letsam_run: Run) -> None:
    assert letsam_run(*COMMAND, "--group", "user", "--drop", "day", "--folds", "5")[0] == 0
    held = [frozenset(one) for _, one, _ in parts]
    assert len(set(held)) == 3
    assert held == [held[0]] * 2 + [held[2]] * 2 + [held[4]] * 2
    for trained, now, tested in parts:
        users = [set(rows["user"][sorted(part)]) for part in (trained, now, tested)]
        assert not users[0] & users[1]
        assert not users[2] & (users[0] | users[1])


def test_folds_in_order_of_time_are_later_than_what_is_trained_on(
    rows: pd.DataFrame, parts: Parts, letsam_run: Run
) -> None:
    assert letsam_run(*COMMAND, "--time", "day", "--drop", "user", "--folds", "5")[0] == 0
    for trained, held, tested in parts:
        days = [rows["day"][sorted(part)] for part in (trained, held, tested)]
        assert days[0].max() < days[1].min() <= days[1].max() < days[2].min()
    assert len({frozenset(held) for _, held, _ in parts}) == 3


def test_folds_do_not_keep_groups_apart_in_order_of_time(rows: pd.DataFrame, letsam_run: Run) -> None:
    options = ("--time", "day", "--group", "user", "--folds", "5")
    check_error(letsam_run(*COMMAND, *options), "`folds` must not be given with both groups and times: a fold is")
    assert not Path("run").exists()
