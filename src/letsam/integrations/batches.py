"""The validation batches that move a learned radius: without end, in an order that a resumed run takes up again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch

from .. import checks

Batch = TypeVar("Batch")
_END = object()


class EndlessBatches(Generic[Batch]):
    """An iterator over the batches of a loader, epoch after epoch, for ever.

    The order of an epoch follows from `seed` and the number of the epoch alone: `shuffle=True` gives another order in
    every epoch and the same ones in every run, and neither the global random generator nor the loader's own is moved by
    it. A batch is read when it is asked for, so a step without a validation pass costs none.

    Args:
        loader: a DataLoader, prepared by Accelerate or not, or any other iterable that can be iterated again.
        seed: >= 0.

    Attributes:
        seed: as given; may be set until the first batch is read.

    Raises:
        TypeError: `loader` is not iterable, or an iterator, which ends after one epoch.
        ValueError: from `next`, a loader without a batch.

    Example:
        >>> from letsam.integrations import EndlessBatches
        >>> batches = EndlessBatches([1, 2, 3])
        >>> [next(batches) for _ in range(5)]
        [1, 2, 3, 1, 2]
        >>> batches.state_dict()
        {'epoch': 1, 'position': 2}
    """

    def __init__(self, loader: Iterable[Batch], *, seed: int = 0) -> None:
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator):
            raise TypeError(f"`loader` must be a DataLoader or another iterable, got {checks.shown(loader)}")
        self.loader = loader
        self.seed = checks.whole("seed", seed, 0)
        self._epoch = self._position = 0
        self._batches: Iterator[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while (batch := self._read()) is _END:
            if self._position == 0:
                raise ValueError("`loader` must yield at least one batch, got none")
            self._epoch, self._position, self._batches = self._epoch + 1, 0, None
        self._position += 1
        return cast(Batch, batch)

    def state_dict(self) -> dict[str, int]:
        """How far it has come."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there; the batches before it in the same epoch are read once more and thrown away."""
        self._epoch, self._position = state["epoch"], state["position"]
        self._batches = None

    def _read(self) -> object:
        owners: list[Any] = [self.loader, getattr(self.loader, "sampler", None)]
        own = [g for g in (getattr(owner, "generator", None) for owner in owners) if isinstance(g, torch.Generator)]
        if self._batches is not None:
            with _kept(own):  # samplers draw once more when they end
                return next(self._batches, _END)
        self._set_epoch()
        with _kept([torch.default_generator, *own]) as generators:
            for generator in generators:
                generator.manual_seed(self.seed + self._epoch)
            self._batches = iter(self.loader)
            first = next(self._batches, _END)  # with the first batch, samplers draw their permutation
            for _ in range(1, self._position):
                next(self._batches, _END)
        return self._read() if self._position else first

    def _set_epoch(self) -> None:
        owners: list[Any] = [self.loader, *(getattr(self.loader, name, None) for name in ("sampler", "batch_sampler"))]
        for owner in owners:
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(self._epoch)


@contextmanager
def _kept(generators: list[torch.Generator]) -> Generator[list[torch.Generator]]:
    """On the way out, the generators get back the states they had."""
    states = [generator.get_state() for generator in generators]
    try:
        yield generators
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
