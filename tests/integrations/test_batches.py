"""Endless validation batches: shuffled anew in every epoch, the same in every run, and resumable."""

from itertools import chain, islice

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from letsam.integrations import EndlessBatches


def loader(**options: object) -> DataLoader[int]:
    numbers: Dataset[int] = list(range(7))  # pyright: ignore[reportAssignmentType]
    return DataLoader(numbers, **{"batch_size": 2, "shuffle": True, **options})


def taken(batches: EndlessBatches[Tensor], count: int) -> list[list[int]]:
    return [batch.tolist() for batch in islice(batches, count)]


def test_every_epoch_is_complete_and_in_another_order() -> None:
    drawn = taken(EndlessBatches(loader()), 8)
    epochs = list(chain(*drawn[:4])), list(chain(*drawn[4:]))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]


def test_the_order_follows_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = taken(EndlessBatches(loader(), seed=3), 9)
    torch.manual_seed(1)
    assert taken(EndlessBatches(loader(), seed=3), 9) == first
    assert taken(EndlessBatches(loader(), seed=4), 9) != first


def test_no_generator_is_moved() -> None:
    own = torch.Generator().manual_seed(0)
    states = torch.get_rng_state(), own.get_state()
    drawn = taken(EndlessBatches(loader(generator=own)), 9)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(own.get_state(), states[1])
    own.manual_seed(17)
    assert taken(EndlessBatches(loader(generator=own)), 9) == drawn


@pytest.mark.parametrize("position", [0, 1, 3, 4, 6])
def test_goes_on_where_it_was(position: int) -> None:
    batches = EndlessBatches(loader())
    taken(batches, position)
    state = batches.state_dict()
    fresh = EndlessBatches(loader())
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

    batches = EndlessBatches(DataLoader(Noisy(), batch_size=2, shuffle=True))
    drawn(batches, range(2))
    fresh = EndlessBatches(DataLoader(Noisy(), batch_size=2, shuffle=True))
    fresh.load_state_dict(batches.state_dict())
    assert all(map(torch.equal, drawn(fresh, range(2, 5)), drawn(batches, range(2, 5))))


def test_a_distributed_sampler_is_told_the_epoch() -> None:
    sampler = DistributedSampler(range(7), num_replicas=1, rank=0)  # pyright: ignore[reportArgumentType]
    drawn = taken(EndlessBatches(loader(shuffle=False, sampler=sampler)), 8)
    assert drawn[:4] != drawn[4:]


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="`loader` must be a DataLoader or another iterable, got <list_iterator"):
        EndlessBatches(iter([1]))
    with pytest.raises(ValueError, match="`loader` must yield at least one batch, got none"):
        next(EndlessBatches([]))
