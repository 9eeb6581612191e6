"""Endless validation batches: shuffled anew in every epoch, the same in every run, and resumable."""

import weakref
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from letsam import endless
from letsam.closures import EndlessBatches

ROOT = Path(__file__).parents[2]


def loader(**options: object) -> DataLoader[int]:
    numbers: Dataset[int] = list(range(7))  # pyright: ignore[reportAssignmentType]
    return DataLoader(numbers, **{"batch_size": 2, "shuffle": True, **options})


def taken(batches: EndlessBatches[Tensor], count: int) -> list[list[int]]:
    return [batch.tolist() for batch in islice(batches, count)]


def test_every_epoch_is_complete_and_in_another_order() -> None:
    drawn = taken(endless(loader()), 8)
    epochs = list(chain(*drawn[:4])), list(chain(*drawn[4:]))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]


def test_the_order_follows_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = taken(endless(loader(), seed=3), 9)
    torch.manual_seed(1)
    assert taken(endless(loader(), seed=3), 9) == first
    assert taken(endless(loader(), seed=4), 9) != first


def test_no_generator_is_moved() -> None:
    own = torch.Generator().manual_seed(0)
    states = torch.get_rng_state(), own.get_state()
    drawn = taken(endless(loader(generator=own)), 9)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(own.get_state(), states[1])
    own.manual_seed(17)
    assert taken(endless(loader(generator=own)), 9) == drawn


@pytest.mark.parametrize("position", [0, 1, 3, 4, 6])
def test_goes_on_where_it_was(position: int) -> None:
    batches = endless(loader())
    taken(batches, position)
    state = batches.state_dict()
    fresh = endless(loader())
    fresh.load_state_dict(state)
    assert taken(fresh, 7) == taken(batches, 7)


def test_random_transforms_go_on_as_well() -> None:
    class Noisy(Dataset[Tensor]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> Tensor:
            return index + torch.rand(())

    def drawn(batches: EndlessBatches[Tensor], steps: range) -> list[Tensor]:
        found = []
        for step in steps:
            torch.manual_seed(step)  # as in a validation pass, whose random numbers follow from the step
            found.append(next(batches))
        return found

    batches = endless(DataLoader(Noisy(), batch_size=2, shuffle=True))
    drawn(batches, range(2))
    fresh = endless(DataLoader(Noisy(), batch_size=2, shuffle=True))
    fresh.load_state_dict(batches.state_dict())
    assert all(map(torch.equal, drawn(fresh, range(2, 5)), drawn(batches, range(2, 5))))


def test_a_distributed_sampler_is_told_the_epoch() -> None:
    sampler = DistributedSampler(range(7), num_replicas=1, rank=0)  # pyright: ignore[reportArgumentType]
    drawn = taken(endless(loader(shuffle=False, sampler=sampler)), 8)
    assert drawn[:4] != drawn[4:]


class Stream(IterableDataset[int]):
    """Five numbers, without a length; another five in each epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def __iter__(self) -> Iterator[int]:
        self.epochs += 1
        return iter(range(10 * self.epochs, 10 * self.epochs + 5))


def test_a_loader_without_a_length() -> None:
    drawn = taken(endless(DataLoader(Stream(), batch_size=2)), 7)
    assert drawn == [[10, 11], [12, 13], [14], [20, 21], [22, 23], [24], [30, 31]]


def test_no_batch_is_kept() -> None:
    batches = endless(loader())
    seen = [weakref.ref(next(batches)) for _ in range(9)]
    assert [ref() for ref in seen] == [None] * 9


@pytest.mark.parametrize("loader", [iter([1]), 3])
def test_what_cannot_be_iterated_again_is_refused(loader: object) -> None:
    with pytest.raises(TypeError, match=r"^`loader` must be a DataLoader or another iterable, got "):
        endless(loader)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("empty", [[], DataLoader([1, 2, 3], batch_size=4, drop_last=True)])  # pyright: ignore
def test_an_empty_loader_is_refused_at_once(empty: DataLoader[int]) -> None:
    with pytest.raises(ValueError, match=r"^`loader` must yield at least one batch .*drop_last.*, got none$"):
        endless(empty)


def test_a_loader_that_runs_dry_is_an_error_and_no_endless_loop() -> None:
    class Once:
        def __init__(self, *batches: int) -> None:
            self.left = iter(batches)

        def __iter__(self) -> Iterator[int]:
            return self.left

    with pytest.raises(ValueError, match=r"^`loader` must yield at least one batch .*, got none$"):
        next(endless(Once()))
    batches = endless(Once(1, 2))
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(ValueError, match=r"in epoch 1, after earlier ones \(it can be iterated only once\)$"):
        next(batches)


def test_no_page_or_example_cycles_over_kept_batches() -> None:
    """`itertools.cycle` keeps all batches and repeats one order; a page may only say so."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    code = [path for part in ("examples", "src", "benchmarks") for path in (ROOT / part).rglob("*.py")]
    assert len(pages) > 10
    assert len(code) > 100
    found = [str(path) for path in pages + code if "cycle(" in path.read_text(encoding="utf-8")]
    assert found == []
