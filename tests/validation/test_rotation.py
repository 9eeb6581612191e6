"""Rotating folds: every sample is held out once in a round, and counts less once it has been trained on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.model_selection import TimeSeriesSplit

from letsam.validation import RotatingFolds

TARGETS = torch.arange(120) % 4


@pytest.mark.parametrize("given", [{}, {"groups": torch.arange(120) // 3}])
def test_each_sample_is_held_out_once_in_a_round_and_trained_on_otherwise(given: dict[str, Any]) -> None:
    folds = RotatingFolds(TARGETS, 5, **given)
    held = [folds.at(epoch).validation for epoch in range(5)]
    assert torch.equal(torch.cat(held).sort().values, torch.arange(120))
    assert {len(part) for part in held} == {24}
    for epoch in range(12):
        turn = folds.at(epoch)
        assert torch.equal(torch.cat([turn.train, turn.validation]).sort().values, torch.arange(120))
        assert turn.validation.equal(held[epoch % 5])


def test_classes_keep_their_shares_and_groups_their_fold() -> None:
    for part in RotatingFolds(TARGETS, 5).parts:
        assert torch.bincount(TARGETS[part]).tolist() == [6, 6, 6, 6]
    groups = torch.arange(120) // 4  # each has all classes
    folds = RotatingFolds(TARGETS, 5, groups=groups)
    for part in folds.parts:
        assert torch.bincount(TARGETS[part]).tolist() == [6, 6, 6, 6]
    assert all(len(folds.fold_of[groups == group].unique()) == 1 for group in range(30))


def test_folds_of_times_are_periods() -> None:
    times = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    parts = RotatingFolds(TARGETS, 4, times=times).parts
    assert [(int(times[p].min()), int(times[p].max())) for p in parts] == [(0, 29), (30, 59), (60, 89), (90, 119)]


def test_what_is_held_out_is_always_later_than_what_is_trained_on() -> None:
    """Times in no order, several samples at each, and more turns than periods."""
    times = torch.randperm(60, generator=torch.Generator().manual_seed(1)).repeat(2)
    folds = RotatingFolds(TARGETS, 6, times=times, every=3)
    seen: list[set[int]] = []
    for epoch in range(30):
        turn = folds.at(epoch)
        trained, held = times[turn.train], times[turn.validation]
        assert trained.max() < held.min()
        assert turn.weight == 1.0
        assert not any(set(turn.validation.tolist()) & earlier for earlier in seen)  # never after it was trained on
        seen.append(set(turn.train.tolist()))
    assert [len(folds.at(epoch).train) for epoch in (0, 3, 6, 9, 12, 29)] == [20, 40, 60, 80, 100, 100]
    assert folds.fewest == 20


def test_the_last_periods_take_turns_as_with_scikit_learn() -> None:
    folds = RotatingFolds(TARGETS, 10, times=torch.arange(120), turns=3)
    expected = TimeSeriesSplit(n_splits=3, test_size=12).split(range(120))
    for epoch, (train, held) in enumerate(expected):
        assert folds.at(epoch).train.tolist() == train.tolist()
        assert folds.at(epoch).validation.tolist() == held.tolist()
    assert folds.at(99).validation.tolist() == held.tolist()
    assert folds.fewest == 84
    assert RotatingFolds(TARGETS, 10).fewest == 108


def test_the_weight_is_the_share_of_the_turns_in_which_a_fold_was_not_trained_on() -> None:
    """Against a count by hand of how often the fold of each turn was trained on before."""
    folds = RotatingFolds(TARGETS, 3)
    trained = torch.zeros(120)
    for epoch in range(10):
        turn = folds.at(epoch)
        (visits,) = trained[turn.validation].unique().tolist()
        assert turn.weight == pytest.approx(1 / (1 + visits))
        trained[turn.train] += 1


def test_steps_count_as_often_as_the_weight_says() -> None:
    folds = RotatingFolds(TARGETS, 3, every=2000, unit="step", seed=7)
    assert all(folds.counts(0, step) for step in range(50))
    for turn in (1, 2, 4):
        steps = range(turn * 2000, turn * 2000 + 2000)
        share = sum(folds.counts(0, step) for step in steps) / 2000
        assert share == pytest.approx(folds.at(0, turn * 2000).weight, abs=0.05)
    assert [folds.counts(0, step) for step in range(4000, 4100)] == [
        RotatingFolds(TARGETS, 3, every=2000, unit="step", seed=7).counts(0, step) for step in range(4000, 4100)
    ]


def test_the_fold_changes_after_so_many_steps() -> None:
    assert [RotatingFolds(TARGETS, 3, every=4).turn(epoch) for epoch in (0, 3, 4, 12)] == [0, 0, 1, 3]
    folds = RotatingFolds(TARGETS, 3, every=4, unit="step")
    assert [folds.turn(9, step) for step in (0, 3, 4, 12)] == [0, 0, 1, 3]
    assert folds.at(0, 12).validation.equal(folds.at(5, 0).validation)


def test_the_division_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first, again, other = (RotatingFolds(TARGETS, 4, seed=seed).fold_of for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_numbers_and_labels_can_be_divided() -> None:
    values = torch.arange(120.0)
    assert {len(part) for part in RotatingFolds(values, 4).parts} == {30}
    assert all(values[part].mean() == pytest.approx(59.5, abs=8) for part in RotatingFolds(values, 4).parts)
    assert len(RotatingFolds((torch.rand(60, 3) > 0.5).float(), 4)) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 1}, "`folds` must be a whole number >= 2"),
        ({"folds": 121}, "`folds` must be at most the number of samples, 120, got 121"),
        ({"folds": 5, "groups": torch.arange(120) // 40}, "`folds` must be at most the number of groups, 3, got 5"),
        ({"folds": 3, "times": torch.arange(120) // 60}, "`folds` must be at most the number of times, 2, got 3"),
        ({"times": torch.arange(120).pow(9).double().exp()}, "`times` must be finite"),
        ({"folds": 3, "times": torch.cat([torch.zeros(118), torch.ones(1), torch.ones(1) * 2])}, "spread more evenly"),
        ({"every": 0}, "`every` must be a whole number >= 1"),
        ({"groups": torch.arange(120), "times": torch.arange(120)}, "`groups` and `times` must not both"),
        ({"turns": 2}, "`turns` is used with `times` only, got 2 without them"),
        ({"turns": 10, "times": torch.arange(120)}, "`turns` must be fewer than `folds`, 10, as a period comes before"),
        ({"turns": 0, "times": torch.arange(120)}, "`turns` must be a whole number >= 1"),
        ({"groups": torch.arange(3)}, "`groups` must have one value for each of 120"),
    ],
)
def test_what_cannot_be_rotated_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RotatingFolds(TARGETS, **given)
    with pytest.raises(ValueError, match="`unit` must be one of epoch, step, got 'day'"):
        RotatingFolds(TARGETS, unit="day")
