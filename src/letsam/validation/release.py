"""ReleaseSampler: from an epoch on, held-out samples are trained on as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from letsam import checks


class ReleaseSampler(Sampler[int]):
    """The order of training samples; from epoch `release` on, the held-out samples are among them.

    Every epoch has as many samples as `train`, so the number of steps stays the same. After the release, these are
    drawn from all samples, without repetition within an epoch. Give the radius ``LearnedRadius(until=...)`` the number
    of steps before the release: it must not be learned from samples that the network is trained on.

    The data loader takes it as `sampler`, with the whole data set. Lightning, Accelerate and the Hugging Face Trainer
    call `set_epoch`; in a loop of one's own, each pass over the loader counts as an epoch unless `set_epoch` is called.

    Args:
        train: indices that are trained on from the beginning, as `letsam.validation.split` returns them.
        validation: indices that are held out before the release.
        release: the first epoch, >= 1 (epochs count from 0), in which the held-out samples are trained on.
        seed: >= 0, of the order; the order depends on the seed and the epoch alone.

    Raises:
        ValueError: no indices, indices that occur twice, or a number out of range.
        TypeError: an argument of the wrong type.

    Example:
        >>> sampler = ReleaseSampler([0, 1, 2, 3], [4], release=2)
        >>> [4 in list(sampler) for epoch in range(2)], len(sampler)
        ([False, False], 4)
        >>> sampler.set_epoch(30)
        >>> sorted({index for epoch in range(9) for index in sampler})
        [0, 1, 2, 3, 4]

    Reference:
        Measured in docs/how-to/refit.md.
    """

    def __init__(
        self, train: Tensor | Sequence[int], validation: Tensor | Sequence[int], *, release: int, seed: int = 0
    ) -> None:
        self.train, self.validation = _indices("train", train), _indices("validation", validation)
        self.everything = torch.cat([self.train, self.validation])
        if len(self.everything.unique()) < len(self.everything):
            raise ValueError("`train` and `validation` must hold each index once, got one that occurs twice")
        self.release, self.seed = checks.whole("release", release, 1), checks.whole("seed", seed, 0)
        self.epoch = 0

    def __len__(self) -> int:
        """Samples in an epoch."""
        return len(self.train)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        from_all = self.everything if self.epoch >= self.release else self.train
        order = from_all[torch.randperm(len(from_all), generator=generator)][: len(self)]
        self.epoch += 1
        return iter(order.tolist())

    def set_epoch(self, epoch: int) -> None:
        """The number of the epoch that comes next, >= 0; for resuming, and called by trainers."""
        self.epoch = checks.whole("epoch", epoch, 0)

    def until(self, batch_size: int, *, drop_last: bool = False) -> int:
        """The number of steps before the release, for `LearnedRadius(until=...)`.

        Args:
            batch_size: samples in a step, of all processes and micro-batches, >= 1.
            drop_last: as for the data loader.
        """
        size = checks.whole("batch_size", batch_size, 1)
        return self.release * (len(self) // size if drop_last else -(-len(self) // size))


def _indices(name: str, indices: Any) -> Tensor:
    found = torch.as_tensor(indices)
    if found.ndim != 1 or not len(found) or found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"`{name}` must be a row of indices, at least one, got {checks.shown(indices)}")
    return found.long().cpu()
