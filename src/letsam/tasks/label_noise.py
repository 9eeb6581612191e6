"""Symmetric label noise: a fraction of the targets is replaced by another class, drawn uniformly."""

import logging
import time
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from letsam.tasks.weighted import WeightedTarget, plain_targets


def targets_of(dataset: Dataset[Any]) -> Tensor:
    """All targets of a dataset of ``(input, target)`` pairs, in order.

    The targets of a ``TensorDataset``, of a ``Subset`` or ``ConcatDataset`` of one, and of a dataset with a tensor
    ``targets`` (which must equal the targets of its samples) are read directly; so is a list or an array ``targets`` or
    ``labels``, if it agrees with the first, the middle and the last sample. Of any other dataset, including subclasses
    of ``TensorDataset``, every sample is loaded once, even if its targets are asked for again.

    Args:
        dataset: Map-style dataset of pairs.

    Returns:
        Targets stacked along the first dimension, shape ``(n, ...)``.

    Raises:
        ValueError: If the targets are not numbers or tensors of one common shape.

    Example:
        >>> data = TensorDataset(torch.zeros(4, 1), torch.tensor([2, 0, 1, 2]))
        >>> targets_of(Subset(data, [3, 1]))
        tensor([2, 0])
    """
    found = _targets(dataset, load=True)
    assert found is not None
    return found


def known_targets(dataset: Dataset[Any]) -> Tensor | None:
    """What `targets_of` returns; None where it would have to load all samples.

    Example:
        >>> known_targets(TensorDataset(torch.zeros(2, 1), torch.tensor([1, 0])))
        tensor([1, 0])
    """
    return _targets(dataset, load=False)


def _targets(dataset: Dataset[Any], load: bool) -> Tensor | None:
    if type(dataset) is TensorDataset:
        return dataset.tensors[1]
    if isinstance(dataset, Subset):
        whole = _targets(dataset.dataset, load)
        return None if whole is None else whole[torch.as_tensor(dataset.indices, dtype=torch.long)]
    if isinstance(dataset, ConcatDataset):
        parts = [_targets(part, load) for part in dataset.datasets]
        return None if any(part is None for part in parts) else torch.cat([part for part in parts if part is not None])
    samples = cast(Any, dataset)
    transform = getattr(samples, "target_transform", None)  # in torchvision's data sets: changes the targets of samples
    if transform is None:
        known = getattr(samples, "targets", None)
        if isinstance(known, Tensor) and len(known) == len(samples):
            return known
        for name in ("targets", "labels"):
            listed = _listed(samples, getattr(samples, name, None))
            if listed is not None:
                return listed
    try:
        found = _READ.get(dataset)
    except TypeError:  # it has no hash
        return _read(samples) if load else None
    if found is None and load:
        found = _READ[dataset] = _read(samples)
    return found


_READ: WeakKeyDictionary[Dataset[Any], Tensor] = WeakKeyDictionary()  # targets of data sets that had to be loaded
PATIENCE = 5.0  # seconds that loading may take before the user is told
_log = logging.getLogger(__name__)


def _listed(samples: Any, known: Any) -> Tensor | None:
    """A list or an array as targets, if it holds those of the samples."""
    if not isinstance(known, list | tuple | Tensor) and not hasattr(known, "__array__"):
        return None
    count = len(samples)
    try:
        targets = torch.as_tensor(known)
        if targets.ndim == 0 or len(targets) != count or targets.dtype == torch.bool:
            return None
        places = (0, count // 2, count - 1)
        agrees = all(torch.equal(torch.as_tensor(samples[place][1]).to(targets), targets[place]) for place in places)
    except (TypeError, ValueError, RuntimeError):
        return None
    return targets if agrees else None


def _read(samples: Any) -> Tensor:
    started, told, targets = time.monotonic(), False, list[Tensor]()
    try:
        for index in range(len(samples)):
            targets.append(torch.as_tensor(samples[index][1]))
            if not told and time.monotonic() - started > PATIENCE:
                told = True
                _log.warning(
                    "all %d samples of %s are loaded for their targets; a data set with an attribute `targets` is not",
                    len(samples),
                    type(samples).__name__,
                )
        return torch.stack(targets)
    except (TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"targets must be numbers or tensors of one common shape ({reason})") from error


def with_label_noise(
    dataset: Dataset[Any],
    noise: float,
    num_classes: int | None = None,
    *,
    generator: torch.Generator,
) -> Dataset[Any]:
    """The same samples with exactly ``round(noise * n)`` wrong targets.

    The samples are drawn uniformly, and each gets one of the ``num_classes - 1`` other classes, drawn uniformly. Inputs
    are shared with ``dataset``, which is not changed.

    Args:
        dataset: Map-style dataset of pairs with integer targets.
        noise: Fraction of wrong targets, >= 0 and < 1.
        num_classes: Number of classes; None: the largest target plus 1.
        generator: CPU generator; the only source of randomness.

    Returns:
        A ``TensorDataset`` for a ``TensorDataset``, otherwise a dataset that wraps ``dataset``; ``dataset`` itself if
        no target changes.

    Raises:
        ValueError: If ``noise`` is outside [0, 1), or the targets are not classes ``0 .. num_classes - 1``.

    Example:
        >>> clean = TensorDataset(torch.zeros(10, 1), torch.arange(10) % 5)
        >>> noisy = with_label_noise(clean, 0.3, generator=torch.Generator().manual_seed(0))
        >>> (targets_of(noisy) != targets_of(clean)).sum().item()
        3
    """
    if not 0.0 <= noise < 1.0:  # also false for NaN
        raise ValueError(f"`label_noise` must be at least 0 and less than 1, got {noise}")
    if noise == 0.0:
        return dataset
    targets = targets_of(dataset)
    if targets.ndim != 1 or targets.dtype == torch.bool or targets.is_floating_point() or targets.is_complex():
        raise ValueError(
            "`label_noise` needs one whole-number class per sample, "
            f"got targets of type {targets.dtype} and shape {tuple(targets.shape)}"
        )
    low, high = int(targets.min()), int(targets.max())
    classes = high + 1 if num_classes is None else num_classes
    if classes < 2 or low < 0 or high >= classes:
        raise ValueError(
            f"`label_noise` needs at least 2 classes and targets from 0 to the number of classes - 1, "
            f"got targets from {low} to {high} and {classes} classes"
        )
    hit = torch.randperm(len(targets), generator=generator)[: round(noise * len(targets))]
    if len(hit) == 0:
        return dataset
    # A shift by 1, ..., classes - 1, modulo classes, gives every other class with equal probability, never the same.
    shift = torch.randint(1, classes, (len(hit),), generator=generator)
    noisy = targets.cpu().long()
    noisy = noisy.clone().index_copy_(0, hit, (noisy[hit] + shift) % classes)
    if type(dataset) is TensorDataset:
        return TensorDataset(dataset.tensors[0], noisy.to(targets), *dataset.tensors[2:])
    return Relabelled(dataset, noisy)


class Relabelled(Dataset[tuple[Any, Any]]):
    """A dataset with replaced targets, which keep their type (tensor or number)."""

    def __init__(self, dataset: Dataset[Any], targets: Tensor) -> None:
        self.dataset = dataset
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        sample, target = self.dataset[index]
        noisy = self.targets[index]
        plain, weight = plain_targets(target)
        changed = noisy.to(plain) if isinstance(plain, Tensor) else int(noisy)
        return sample, changed if weight is None else WeightedTarget(changed, weight)
