"""Fixed subsets, the same in every trial: stratified, or evenly spaced."""

import torch
from torch import Tensor

from letsam.tasks.errors import TaskError


def stratified_order(targets: Tensor, seed: int) -> Tensor:
    """A random order in which the classes are evenly interleaved, so that every prefix is a stratified subset.

    The samples of a class are shuffled, and sample ``r`` of ``n_c`` (from 0) gets the position ``(r + 1/2) / n_c``; all
    samples are sorted by position. Prefixes are nested: the first 1,000 samples are among the first 2,000.

    Args:
        targets: Classes, shape ``(n,)``.
        seed: Constant of the task, not the seed of a trial, with which the test set would change.

    Returns:
        A permutation of ``0 .. n-1``.

    Example:
        >>> targets = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> targets[stratified_order(targets, seed=0)[:3]].sort().values.tolist()
        [0, 0, 1]
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    position = torch.empty(len(targets), dtype=torch.float64)
    for label in torch.unique(targets):
        members = shuffled[targets[shuffled] == label]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    # A stable sort of the shuffled positions keeps ties between classes in random order.
    return shuffled[torch.argsort(position[shuffled], stable=True)]


def evenly_spaced(count: int, most: int) -> list[int]:
    """Up to `most` places among `count`, from the first on.

    Example:
        >>> evenly_spaced(10, 4)
        [0, 2, 5, 7]
    """
    return [place * count // min(most, count) for place in range(min(most, count))]


def check_train_size(train_size: int | None, smallest: int, largest: int) -> int:
    """The number of training samples to use.

    Args:
        train_size: The requested number; None: all.
        smallest: The smallest number that the task allows, such as one per class.
        largest: The number of available samples.

    Returns:
        ``train_size``, or ``largest`` for None.

    Raises:
        TaskError: If it is not a whole number from ``smallest`` to ``largest``.

    Example:
        >>> check_train_size(100, 10, 1000), check_train_size(None, 10, 1000)
        (100, 1000)
    """
    if train_size is None:
        return largest
    if isinstance(train_size, bool) or not isinstance(train_size, int) or not smallest <= train_size <= largest:
        raise TaskError(f"`train_size` must be a whole number from {smallest} to {largest}, got {train_size!r}")
    return train_size
