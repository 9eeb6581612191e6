"""Validation batches for a learned radius: an infinite iterator whose position can be saved and restored.

`itertools.cycle` is no substitute: it keeps every batch in memory, and repeats the first epoch's order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch

from .. import checks

Batch = TypeVar("Batch")
EMPTY = "`loader` must yield at least one batch (a whole one with `drop_last=True`), got none"
_END = object()


def endless(loader: Iterable[Batch], *, seed: int = 0) -> EndlessBatches[Batch]:
    """Iterate a loader for ever: the validation batches of a learned radius.

    Each epoch iterates the loader again, so a loader that shuffles has another order in each epoch, and no batch is
    kept in memory. The order depends only on `seed` and the epoch number; no random generator is advanced.

    Args:
        loader: a DataLoader, or any other iterable that can be iterated repeatedly; it needs no length.
        seed: >= 0, of the order.

    Returns:
        An infinite iterator. Its `state_dict` and `load_state_dict` save and restore the position.

    Raises:
        TypeError: `loader` is not iterable, or is an iterator, which ends after one epoch.
        ValueError: `loader` has no batches; from `next`, if it has no length and yields none, or none any more.

    Example:
        >>> import letsam
        >>> batches = letsam.endless(["a", "b"])
        >>> [next(batches) for _ in range(3)]
        ['a', 'b', 'a']
    """
    return EndlessBatches(loader, seed=seed)


class EndlessBatches(Generic[Batch]):
    """An infinite iterator over the batches of a loader, epoch after epoch.

    The order within an epoch depends only on `seed` and the epoch number: with `shuffle=True`, each epoch has another
    order, and all runs have the same orders. Neither torch's global generator nor the loader's own is advanced. Batches
    are read lazily, so a step without a validation pass reads none.

    Args:
        loader: a DataLoader, prepared by Accelerate or not, or any other iterable that can be iterated repeatedly.
        seed: >= 0, of the order.

    Attributes:
        seed: as given; may be changed until the first batch is read.

    Raises:
        TypeError: `loader` is not iterable, or is an iterator, which ends after one epoch.
        ValueError: `loader` has no batches; from `next`, if it has no length and yields none, or none any more.

    Example:
        >>> from letsam.integrations import EndlessBatches
        >>> batches = EndlessBatches([1, 2, 3])
        >>> [next(batches) for _ in range(5)]
        [1, 2, 3, 1, 2]
        >>> batches.state_dict()
        {'epoch': 1, 'position': 2}
    """

    def __init__(self, loader: Iterable[Batch], *, seed: int = 0) -> None:
        iterable = isinstance(loader, Iterable)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not iterable or isinstance(loader, Iterator):
            raise TypeError(f"`loader` must be a DataLoader or another iterable, got {checks.shown(loader)}")
        if _length(loader) == 0:
            raise ValueError(EMPTY)
        self.loader = loader
        self.seed = checks.whole("seed", seed, 0)
        self._epoch = self._position = 0
        self._batches: Iterator[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while (batch := self._read()) is _END:
            if self._position == 0:
                again = f" in epoch {self._epoch}, after earlier ones (it can be iterated only once)"
                raise ValueError(EMPTY if self._epoch == 0 else f"{EMPTY}{again}")
            self._epoch, self._position, self._batches = self._epoch + 1, 0, None
        self._position += 1
        return cast(Batch, batch)

    def state_dict(self) -> dict[str, int]:
        """The position: epoch, and number of batches read in it."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a saved position; reads the earlier batches of that epoch again and drops them."""
        self._epoch, self._position = state["epoch"], state["position"]
        self._batches = None

    def _read(self) -> object:
        owners: list[Any] = [self.loader, getattr(self.loader, "sampler", None)]
        own = [g for g in (getattr(owner, "generator", None) for owner in owners) if isinstance(g, torch.Generator)]
        if self._batches is not None:
            with _restored(own):  # samplers may draw random numbers when they end
                return next(self._batches, _END)
        self._set_epoch()
        with _restored([torch.default_generator, *own]) as generators:
            for generator in generators:
                generator.manual_seed(self.seed + self._epoch)
            self._batches = iter(self.loader)
            first = next(self._batches, _END)  # samplers draw their permutation with the first batch
            for _ in range(1, self._position):
                next(self._batches, _END)
        return self._read() if self._position else first

    def _set_epoch(self) -> None:
        owners: list[Any] = [self.loader, *(getattr(self.loader, name, None) for name in ("sampler", "batch_sampler"))]
        for owner in owners:
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(self._epoch)


@contextmanager
def _restored(generators: list[torch.Generator]) -> Generator[list[torch.Generator]]:
    """Restore the states of the generators on exit."""
    states = [generator.get_state() for generator in generators]
    try:
        yield generators
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _length(loader: Iterable[Any]) -> int | None:
    """The number of batches; None where the loader does not know it, as with an `IterableDataset`."""
    try:
        return len(loader)  # pyright: ignore[reportArgumentType]
    except (TypeError, NotImplementedError):
        return None
