"""The split: disjoint, complete, each class within one sample of its share, drawn by the generator only."""

import pytest
import torch

from letsam.validation import stratified_split


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unbalanced(seed: int = 0) -> torch.Tensor:
    """Classes 0, 3, 4 and 9 (gaps on purpose) with 1, 7, 83 and 40 samples, shuffled."""
    targets = torch.repeat_interleave(torch.tensor([0, 3, 4, 9]), torch.tensor([1, 7, 83, 40]))
    return targets[torch.randperm(len(targets), generator=generator(seed))]


@pytest.mark.parametrize("share", [0.05, 0.1, 1 / 3, 0.5, 0.77, 0.95])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_are_disjoint_complete_and_stratified(share: float, seed: int) -> None:
    targets = unbalanced(seed)

    train, validation = stratified_split(targets, share, generator(seed))

    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(len(targets)))
    assert train.dtype == validation.dtype == torch.int64
    assert len(validation) == round(share * len(targets))
    for label in (0, 3, 4, 9):
        size = int((targets == label).sum())
        held_out = int((targets[validation] == label).sum())
        assert abs(held_out - share * size) < 1, f"class {label}"


def test_classes_much_rarer_than_the_share_still_fill_the_total() -> None:
    """Ten classes of 3 at 10%: every floor is 0, so all 3 held-out samples come from the remainders."""
    targets = torch.arange(30) % 10

    _, validation = stratified_split(targets, 0.1, generator())

    assert len(validation) == 3
    assert len(set(targets[validation].tolist())) == 3


def test_equal_remainders_do_not_favour_low_labels() -> None:
    targets = torch.arange(30) % 10
    seen = {int(label) for seed in range(60) for label in targets[stratified_split(targets, 0.1, generator(seed))[1]]}
    assert seen == set(range(10))


def test_depends_on_the_generator_only() -> None:
    targets = unbalanced()
    torch.manual_seed(1)
    first = stratified_split(targets, 0.3, generator(5))
    torch.manual_seed(2)
    again = stratified_split(targets, 0.3, generator(5))
    other = stratified_split(targets, 0.3, generator(6))

    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    stratified_split(unbalanced(), 0.3, generator())
    assert torch.equal(before, torch.get_rng_state())


def test_members_of_a_class_are_drawn_not_taken_in_order() -> None:
    _, validation = stratified_split(torch.zeros(1000, dtype=torch.long), 0.1, generator())
    assert int(validation.max()) > 500
    assert int(validation.min()) < 500


@pytest.mark.parametrize(
    "targets",
    [torch.linspace(-1, 1, 50), torch.zeros(50, 3), torch.zeros(50, 3, dtype=torch.long)],
    ids=["regression", "several-numbers", "several-classes"],
)
def test_targets_that_are_no_classes_are_split_at_random(targets: torch.Tensor) -> None:
    train, validation = stratified_split(targets, 0.2, generator())

    assert len(validation) == 10
    assert torch.equal(torch.cat([train, validation]).sort().values, torch.arange(50))
    assert not torch.equal(validation, torch.arange(10))
    assert not torch.equal(validation, stratified_split(targets, 0.2, generator(1))[1])


def test_negative_and_boolean_classes_count_as_classes() -> None:
    for targets in (torch.arange(40) % 2 - 1, torch.arange(40) % 2 == 0):
        _, validation = stratified_split(targets, 0.5, generator())
        assert int((targets[validation] == targets[0]).sum()) == 10


@pytest.mark.parametrize(
    ("count", "share", "message"),
    [
        (4, 0.1, r"`share` = 0.1 of 4 samples must leave at least 1 .*, got 4 and 0$"),
        (3, 0.9, r"`share` = 0.9 of 3 samples .*, got 0 and 3$"),
        (1, 0.5, r"`share` = 0.5 of 1 samples"),
        (0, 0.5, r"`share` = 0.5 of 0 samples"),
    ],
)
def test_too_few_samples(count: int, share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        stratified_split(torch.zeros(count, dtype=torch.long), share, generator())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_share_outside_of_its_range(share: float) -> None:
    with pytest.raises(ValueError, match=rf"`share` must be between 0 and 1 .*, got {share}"):
        stratified_split(torch.zeros(10, dtype=torch.long), share, generator())
