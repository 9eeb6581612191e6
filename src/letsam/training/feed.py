"""The batches of a run, on its device: for training steps, for the radius, and for evaluations.

What is in memory is kept on the device and indexed there. What is not is read by worker processes ahead of time, or by
this process. Which samples a batch holds, and what is random about them, depends on the seed and the step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from letsam.data.numbered import LARGEST, StoredBatches
from letsam.tasks import Task
from letsam.training.batches_ahead import ReadAhead, SampleReader, Wanted, worker_count
from letsam.training.sampling import NUMBERS, Splits, generator, training_order, validation_batch

Batch = tuple[Any, Any]
PARTS = ("train", "measured", "validation", "test")


class Batches:
    """Batches of a dataset by their indices, on a device.

    Args:
        dataset: (input, target) pairs. A `TensorDataset`, no subclass, and what is in memory of `NumberedDataset` is
            moved to the device once and indexed there.
        device: where the batches go.
        collate: makes a batch from a list of samples; None: tensors are stacked, also within dicts, tuples and lists.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        device: torch.device,
        collate: Callable[[list[Any]], Batch] | None = None,
    ) -> None:
        self.dataset = dataset
        self.device = device
        self.reader = SampleReader(dataset, collate or default_collate)
        self.numbers: Tensor | None = None
        """One for each sample, in this epoch; None: they come from the global generators."""
        self.ahead: tuple[str, ReadAhead] | None = None
        """What reads ahead, and the name of this data set there."""
        self.tensors: list[Tensor] | None = None
        self._stored: tuple[StoredBatches, Tensor, Tensor] | None = None  # with places and targets
        if type(dataset) is TensorDataset and collate is None:
            self.tensors = [t.to(device) for t in dataset.tensors]
        elif self.reader.numbered is not None and (stored := self.reader.numbered.on_device(device)) is not None:
            source = self.reader.source
            everything = torch.arange(len(self.reader.numbered))
            places = everything if source.indices is None else source.indices
            targets = self.reader.numbered.targets[places] if source.targets is None else source.targets
            self._stored = stored, places.to(device), targets.to(device)

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.dataset)  # pyright: ignore[reportArgumentType]

    @property
    def in_memory(self) -> bool:
        """Whether batches are indexed on the device."""
        return self.tensors is not None or self._stored is not None

    def take(self, batches: list[list[int]]) -> Iterator[Batch]:
        """The batches with these indices, in order."""
        if self.ahead is None:
            for indices in batches:
                yield self.one(indices)
            return
        for (batch,) in self.ahead[1].read([self.wanted(indices)] for indices in batches):
            yield self.moved(batch)

    def one(self, indices: list[int]) -> Batch:
        """A single batch, read by this process."""
        if self.tensors is not None:
            index = torch.tensor(indices, device=self.device)
            return self.tensors[0][index], self.tensors[1][index]
        if self._stored is not None:
            stored, places, targets = self._stored
            index = torch.tensor(indices, device=self.device)
            numbers = self._numbers_of(indices)
            return stored.batch(places[index], None if numbers is None else numbers.to(self.device)), targets[index]
        # No DataLoader: without workers it is not faster, and each one draws a number from the global generator.
        numbers = self._numbers_of(indices)
        return self.moved(self.reader.batch(indices, None if numbers is None else numbers.tolist()))

    def moved(self, batch: Batch) -> Batch:
        """A batch that was read on the CPU, on the device and as the model takes it."""
        inputs, targets = move_data_to_device(batch, self.device)
        return self.reader.finish(inputs), targets

    def wanted(self, indices: list[int]) -> Wanted:
        """The request for a batch to `ReadAhead`."""
        assert self.ahead is not None
        numbers = self._numbers_of(indices)
        return self.ahead[0], indices, None if numbers is None else numbers.tolist()

    def _numbers_of(self, indices: list[int]) -> Tensor | None:
        """The numbers of samples that need some: those of this epoch, or new ones from the global generator."""
        numbered = self.reader.numbered
        if numbered is not None and not numbered.augmented:
            return None
        if self.numbers is not None:
            return self.numbers[indices]
        return None if numbered is None else torch.randint(LARGEST, (len(indices),))


class Feed:
    """All batches of a run.

    Args:
        splits: what is read.
        task: its collate function.
        fabric: the device, and the ranks that share a batch.
        seed: of the run.
        batch_size: samples a step, of all ranks.
        micro_batches: that a rank's share of a training batch is split into.
        workers: processes that read what is not in memory; None: chosen by the kind of data, and data sets that draw
            their random numbers from torch's global generator are read by this process and continue to do so.
    """

    def __init__(
        self,
        splits: Splits,
        task: Task,
        fabric: Fabric,
        seed: int,
        *,
        batch_size: int,
        micro_batches: int,
        workers: int | None = None,
    ) -> None:
        device = fabric.device
        self.train = Batches(splits.train, device, task.collate)
        measured = splits.measured
        self.measured = self.train if measured is splits.train else Batches(measured, device, task.collate)
        self.test = Batches(splits.test, device, task.collate)
        held_out = splits.validation
        self.validation = Batches(held_out, device, task.collate) if held_out is not None else None
        self._ranks, self._rank = fabric.world_size, fabric.global_rank
        self._order, self._seed, self._size, self._micro = splits.order, seed, batch_size, micro_batches
        if self.validation is not None and len(self.validation) < self._ranks:
            count = len(self.validation)
            raise ValueError(f"`validation_share` must hold out a sample for each of {self._ranks} ranks, got {count}")
        self._given = workers
        self._ahead = self._start(workers)
        self._held_out: tuple[int, Batch] | None = None  # a validation batch that was read ahead, and its step
        self.folds, self.released = splits.folds, splits.released
        self._fewest = 0 if self.folds is None else self.folds.fewest

    def _parts(self) -> dict[str, Batches]:
        measured = None if self.measured is self.train else self.measured
        parts = zip(PARTS, (self.train, measured, self.validation, self.test), strict=True)
        return {name: batches for name, batches in parts if batches is not None}

    def _start(self, workers: int | None) -> ReadAhead | None:
        """Prepare the worker processes for the parts that they read; they start with the first batch."""
        parts = {name: batches for name, batches in self._parts().items() if not batches.in_memory}
        slow = {name: one for name, one in parts.items() if one.reader.numbered and one.reader.numbered.reads_files}
        read = slow if workers is None else parts
        count = worker_count(workers, reads_files=bool(slow))
        if not count or not read:
            return None
        pin = self.train.device.type == "cuda"
        ahead = ReadAhead({name: batches.reader for name, batches in read.items()}, count, pin=pin)
        for name, batches in read.items():
            batches.ahead = name, ahead
        return ahead

    def begin(self, epoch: int) -> None:
        """Give all samples their numbers of this epoch, the same for all methods."""
        kept, total = self._order
        for name, batches in self._parts().items():
            if self._given is None and batches.reader.numbered is None:
                continue
            count = total if name == "train" else len(batches)
            stream = generator(self._seed, NUMBERS, len(PARTS) * epoch + PARTS.index(name))
            drawn = torch.randint(LARGEST, (count,), generator=stream)
            batches.numbers = drawn[kept] if name == "train" else drawn

    def order(self, epoch: int) -> list[list[int]]:
        """The indices of each batch of an epoch; all epochs have equally many batches."""
        if self.released is not None:
            return self._order_before_and_after(epoch, *self.released)
        if self.folds is None:
            return training_order(self._order, self._size, self._seed, epoch)
        kept, total = self.folds.at(epoch).train, self._order[1]
        size = min(self._size, self._fewest)
        batches = training_order((kept, total), size, self._seed, epoch)
        return [kept[batch].tolist() for batch in batches[: self._fewest // size]]

    def _order_before_and_after(self, epoch: int, release: int, kept: Tensor) -> list[list[int]]:
        """As many batches after the release as before it, so that the number of steps is known from the beginning."""
        size = min(self._size, len(kept))
        batches = training_order((kept, self._order[1]), size, self._seed, epoch)
        if epoch < release:
            return [kept[batch].tolist() for batch in batches]
        return training_order(self._order, size, self._seed, epoch)[: len(batches)]

    def fold(self, step: int) -> list[int] | None:
        """The indices within `validation` of what is held out at a step; None: all of it."""
        if self.folds is None:
            return None
        return self.folds.at(step // (self._fewest // min(self._size, self._fewest))).validation.tolist()

    def steps(self, epoch: int, first: int, stop: int, validates: Callable[[int], bool]) -> Iterator[list[Batch]]:
        """The micro-batches of this rank for the steps of an epoch.

        Args:
            epoch: from 0.
            first: the first step of the epoch that is wanted.
            stop: the step of the epoch before which to stop.
            validates: whether a step, counted from the first epoch on, is going to read a validation batch. A wrong
                answer costs time and nothing else.
        """
        self.begin(epoch)
        order = self.order(epoch)
        before = epoch * len(order)
        if self.train.ahead is None:
            for indices in order[first:stop]:
                yield [self.train.one(part) for part in self._shares(indices, self._micro)]
            return

        def requests() -> Iterator[list[Wanted]]:
            for place in range(first, stop):
                wanted = [self.train.wanted(part) for part in self._shares(order[place], self._micro)]
                if self.validation is not None and self.validation.ahead and validates(before + place):
                    wanted.append(self.validation.wanted(self._validation_share(before + place)))
                yield wanted

        for place, answer in enumerate(self.train.ahead[1].read(requests()), before + first):
            if len(answer) > self._micro and self.validation is not None:
                self._held_out = place, answer.pop()
            yield [self.train.moved(batch) for batch in answer]

    def held_out(self, step: int) -> Batch:
        """The validation batch of a step, read only in the steps that need it."""
        assert self.validation is not None
        if self._held_out is not None and self._held_out[0] == step:
            return self.validation.moved(self._held_out[1])
        return self.validation.one(self._validation_share(step))

    def _validation_share(self, step: int) -> list[int]:
        assert self.validation is not None
        fold = self.fold(step)
        count = len(self.validation) if fold is None else len(fold)
        indices = validation_batch(count, self._size, self._seed, step)
        return self._shares(indices if fold is None else [fold[index] for index in indices], 1)[0]

    def _shares(self, indices: list[int], parts: int) -> list[list[int]]:
        """The part of a batch that this rank works on, in `parts` micro-batches."""
        size = len(indices) // (self._ranks * parts)
        first = self._rank * parts * size
        return [indices[first + i * size : first + (i + 1) * size] for i in range(parts)]
