"""Held-out samples of any kind of target, with groups and times."""

from __future__ import annotations

import pytest
import torch

from letsam.validation import held_out_split, strata_of, stratified_split


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check(kept: torch.Tensor, held: torch.Tensor, count: int) -> None:
    assert sorted(kept.tolist() + held.tolist()) == list(range(count))
    assert kept.equal(kept.sort().values)
    assert held.equal(held.sort().values)
    assert len(kept) > 0
    assert len(held) > 0


def test_classes_are_divided_as_before() -> None:
    targets = torch.randint(0, 4, (50,), generator=generator(3))
    for seed in range(3):
        ours, known = (f(targets, 0.3, generator(seed)) for f in (held_out_split, stratified_split))
        assert all(a.equal(b) for a, b in zip(ours, known, strict=True))


def test_rare_labels_are_on_both_sides() -> None:
    labels = torch.zeros(100, 3)
    labels[:, 0] = 1
    labels[:4, 1] = 1
    labels[50:90, 2] = 1
    for seed in range(5):
        kept, held = held_out_split(labels, 0.25, generator(seed), kind="multilabel")
        check(kept, held, 100)
        assert labels[held].sum(0).tolist() == [25, 1, 10]


def test_numbers_are_spread_over_their_range() -> None:
    values = torch.randn(400, generator=generator()) ** 3
    for seed in range(5):
        kept, held = held_out_split(values, 0.25, generator(seed), kind="regression")
        check(kept, held, 400)
        ranks = values.argsort().argsort()
        assert torch.bincount(ranks[held] * 10 // 400, minlength=10).tolist() == [10] * 10
    assert strata_of(torch.arange(12.0), "regression").unique().tolist() == [0]  # too few for bins


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
def test_groups_stay_together(kind: str, share: float) -> None:
    groups = torch.randint(0, 60, (600,), generator=generator(1)) * 7
    targets = {
        "classification": torch.randint(0, 3, (600,), generator=generator(2)),
        "multilabel": (torch.rand(600, 3, generator=generator(2)) < 0.3).float(),
        "regression": torch.randn(600, generator=generator(2)),
    }[kind]
    kept, held = held_out_split(targets, share, generator(), kind=kind, groups=groups)
    check(kept, held, 600)
    assert not set(groups[kept].tolist()) & set(groups[held].tolist())
    assert abs(len(held) / 600 - share) < 0.06
    again, *others = (held_out_split(targets, share, generator(seed), kind=kind, groups=groups)[1] for seed in range(4))
    assert held.equal(again)
    assert not all(held.equal(other) for other in others)


@pytest.mark.filterwarnings("error")
def test_few_groups_and_few_members() -> None:
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    kept, held = held_out_split(torch.tensor([0, 1, 2, 3, 4, 5]), 0.1, generator(), groups=groups)
    check(kept, held, 6)
    assert len(held) == 3
    with pytest.raises(ValueError, match=r"^`share` = 0.1 needs at least 2 groups to divide, got 1$"):
        held_out_split(torch.zeros(4), 0.1, generator(), groups=torch.zeros(4))


def test_the_latest_are_held_out() -> None:
    times = torch.tensor([5.0, 1, 4, 4, 2, 3, 4, 0, 5, 2])
    kept, held = held_out_split(torch.arange(10) % 2, 0.2, generator(), times=times)
    assert times[held].tolist() == [5, 5]
    kept, held = held_out_split(torch.arange(10) % 2, 0.3, generator(), times=times)
    check(kept, held, 10)
    assert times[kept].max() < times[held].min()  # 2 or 5 samples: those of one time stay together
    assert len(held) == 2
    assert len(held_out_split(torch.zeros(10), 0.01, generator(), times=times)[1]) == 2
    with pytest.raises(ValueError, match="needs at least 2 times to divide, got 1"):
        held_out_split(torch.zeros(4), 0.5, generator(), times=torch.ones(4))


def test_the_latest_groups_are_held_out() -> None:
    times = torch.tensor([1.0, 9, 2, 3, 4, 5, 6, 7])
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    kept, held = held_out_split(torch.zeros(8), 0.5, generator(), times=times, groups=groups)
    assert held.tolist() == [0, 1, 6, 7]
    assert kept.tolist() == [2, 3, 4, 5]
