"""Data sets whose random numbers are given by the reader, so that any process may read any sample."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from letsam.tasks.label_noise import Relabelled

LARGEST = 2**62  # numbers are below it


class NumberedDataset(Dataset[tuple[Any, Any]], ABC):
    """Samples whose augmentation is a function of a number.

    The training loop gives each sample of each epoch a number that depends on the seed, the epoch and the sample alone.
    A sample is therefore the same whichever process reads it, and however many there are. `raw` reads a sample;
    `finish` turns a batch of raw inputs into inputs of the model, on the device.

    Without a reader, `dataset[index]` draws the number from torch's global generator.

    Attributes:
        targets: Of all samples, in order; read without reading inputs.
        augmented: Whether inputs are augmented.
        reads_files: Whether reading a sample is slow, so that worker processes are worth their start.
    """

    targets: Tensor
    augmented: bool = False
    reads_files: bool = False

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """A finished input and its target."""
        number = int(torch.randint(LARGEST, ())) if self.augmented else 0
        inputs = self.finish(self.raw(range(len(self))[index], number)[None])
        return inputs[0], self.target(index)

    def target(self, index: int) -> Any:
        """The target of a sample: a number for a class, else a tensor."""
        found = self.targets[index]
        return int(found) if found.ndim == 0 and not found.is_floating_point() else found

    @abstractmethod
    def raw(self, index: int, number: int) -> Tensor:
        """The input of a sample before `finish`; the number decides on its augmentation."""

    def finish(self, inputs: Tensor) -> Tensor:
        """Inputs of the model, from a batch of raw inputs on any device."""
        return inputs

    def on_device(self, device: torch.device) -> StoredBatches | None:
        """What reads whole batches on the device; None if the samples are not in memory."""
        return None

    def without_augmentation(self) -> Self:
        """The same samples without augmentation; shares the memory."""
        plain = copy.copy(self)
        plain.augmented = False
        return plain


class StoredBatches(ABC):
    """Samples in the memory of a device, read in whole batches."""

    @abstractmethod
    def batch(self, indices: Tensor, numbers: Tensor | None) -> Tensor:
        """Finished inputs of these samples; augmented where there are numbers. Both are on the device."""


@dataclass(frozen=True)
class Source:
    """What a data set reads in the end, through `Subset` and label noise.

    Args:
        dataset: What reads the samples.
        indices: Of the samples in it; None: all, in order.
        targets: That replace those of the samples; None: their own.
    """

    dataset: Dataset[Any]
    indices: Tensor | None = None
    targets: Tensor | None = None

    @classmethod
    def of(cls, dataset: Dataset[Any]) -> Source:
        """The source of a data set.

        Example:
            >>> data = Subset(Subset(range(10), [4, 5, 6]), [2, 0])
            >>> Source.of(data).indices
            tensor([6, 4])
        """
        if type(dataset) is Relabelled:
            inner = cls.of(dataset.dataset)
            return cls(inner.dataset, inner.indices, dataset.targets)
        if type(dataset) is Subset:
            inner = cls.of(cast("Dataset[Any]", dataset.dataset))
            indices = torch.as_tensor(dataset.indices, dtype=torch.long)
            targets = None if inner.targets is None else inner.targets[indices]
            return cls(inner.dataset, indices if inner.indices is None else inner.indices[indices], targets)
        return cls(dataset)

    def places(self, indices: list[int]) -> list[int]:
        """The places in `dataset` of these samples."""
        return indices if self.indices is None else self.indices[indices].tolist()
