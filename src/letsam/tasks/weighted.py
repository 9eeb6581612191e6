"""The targets of samples with weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class WeightedTarget(NamedTuple):
    """The targets of samples with weights.

    Args:
        target: as without weights.
        weight: >= 0, one for each sample. Weights of a data set have a mean of 1, so that the mean of weighted losses
            over batches is the weighted mean over the data set.
    """

    target: Any
    weight: Any


class WeightedRows(Dataset[tuple[Any, WeightedTarget]]):
    """A data set of ``(input, target)`` pairs whose samples have weights; see `WeightedTarget`.

    Args:
        dataset: the pairs.
        targets: all of their targets, shape ``(n, ...)``.
        weights: >= 0, shape ``(n,)``; they are divided by their mean.

    Example:
        >>> pairs = torch.utils.data.TensorDataset(torch.zeros(2, 1), torch.tensor([0, 1]))
        >>> WeightedRows(pairs, pairs.tensors[1], torch.tensor([1.0, 3.0]))[1][1]
        WeightedTarget(target=tensor(1), weight=tensor(1.5000))
    """

    def __init__(self, dataset: Dataset[Any], targets: Tensor, weights: Tensor) -> None:
        self.dataset = dataset
        self.targets = targets
        self.weights = (weights.double() / weights.double().mean()).float()

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What identifies the samples: the tensors that hold them, as far as the data set has such, and the weights."""
        return *getattr(self.dataset, "tensors", (self.targets,)), self.weights

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, WeightedTarget]:
        """One sample."""
        sample, target = self.dataset[index]
        return sample, WeightedTarget(target, self.weights[index])


def plain_targets(targets: Any) -> tuple[Any, Tensor | None]:
    """The targets of a batch, and the weights of its samples or None."""
    return (targets.target, targets.weight) if isinstance(targets, WeightedTarget) else (targets, None)


def concatenated(parts: list[Any]) -> Any:
    """Outputs or targets of batches as those of the whole data set, on the CPU.

    Example:
        >>> concatenated([torch.tensor([1]), torch.tensor([2])])
        tensor([1, 2])
    """
    if isinstance(parts[0], WeightedTarget):
        return WeightedTarget(
            concatenated([part.target for part in parts]), concatenated([part.weight for part in parts])
        )
    return torch.cat([part.detach().cpu() for part in parts])
