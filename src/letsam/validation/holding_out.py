"""Hold out samples for any kind of target, and keep groups and times apart."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from letsam.validation.split import stratified_split

BINS = 10  # of numbers to predict, by their quantiles
PER_BIN = 20  # samples; with fewer, a stratum would hold out none

CLOSE = 0.02  # folds of groups whose sizes differ by less, as a share of all samples, are equally good


def strata_of(targets: Tensor, kind: str) -> Tensor:
    """A whole number for each sample; samples with the same number are spread evenly over both sides of a split.

    Args:
        targets: shape ``(n,)`` or ``(n, columns)``.
        kind: "classification" (the classes themselves), "multilabel" (the rarest label that a sample has, as rare
            labels are lost most easily) or "regression" (tenths of the range by rank, of the first column).

    Returns:
        Shape ``(n,)``, int64; `targets` unchanged for classification.

    Example:
        >>> strata_of(torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]), "multilabel")
        tensor([1, 0, 2])
    """
    if kind == "multilabel":
        present = targets > 0
        counts = present.sum(dim=0).expand_as(present)
        rarest = torch.where(present, counts, len(targets) + 1).argmin(dim=1)
        return torch.where(present.any(dim=1), rarest, targets.shape[1])
    if kind == "regression":
        first = targets.reshape(len(targets), -1)[:, 0]
        bins = max(1, min(BINS, len(first) // PER_BIN))
        ranks = torch.empty(len(first), dtype=torch.int64)
        ranks[first.argsort(stable=True)] = torch.arange(len(first))
        return ranks * bins // max(len(first), 1)
    return targets


def held_out_split(
    targets: Tensor,
    share: float,
    generator: torch.Generator,
    *,
    kind: str = "classification",
    groups: Tensor | None = None,
    times: Tensor | None = None,
    name: str = "share",
) -> tuple[Tensor, Tensor]:
    """Divide sample indices into those kept and those held out.

    Args:
        targets: one target for each sample, first dimension ``n``.
        share: the fraction held out, between 0 and 1, both excluded.
        generator: CPU generator; the only source of randomness.
        kind: of the targets, as for `strata_of`.
        groups: a number for each sample; samples with the same number stay together. The share is met as closely as
            whole groups allow.
        times: a number for each sample; the latest are held out, and samples of one time stay together.
        name: the name of `share` in the interface of the caller, for the errors.

    Returns:
        Indices that are kept and that are held out: disjoint, ascending, together ``0 .. n-1``.

    Raises:
        ValueError: `share` is out of range, or there is too little to divide.

    Example:
        >>> times = torch.tensor([3.0, 1.0, 2.0, 3.0])
        >>> held_out_split(torch.zeros(4), 0.3, torch.Generator(), times=times)[1]
        tensor([0, 3])
    """
    if groups is None and times is None:
        return stratified_split(strata_of(targets, kind), share, generator, name=name)
    if not 0.0 < share < 1.0:
        raise ValueError(f"`{name}` must be between 0 and 1 (both excluded), got {share}")
    _, units = torch.unique(times if groups is None else groups, return_inverse=True)
    count = int(units.max()) + 1 if len(units) else 0
    if count < 2:
        what = "times" if groups is None else "groups"
        raise ValueError(f"`{name}` = {share} needs at least 2 {what} to divide, got {count}")
    if times is not None:
        held = _latest(units, times, share)
    else:
        held = _whole_groups(units, strata_of(targets, kind), share, generator)
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def _latest(units: Tensor, times: Tensor, share: float) -> Tensor:
    """Whether each sample is in the latest units, as many as meet the share most closely; a unit has its last time."""
    sizes = torch.bincount(units)
    last = torch.full((len(sizes),), -torch.inf, dtype=torch.float64)
    last.scatter_reduce_(0, units, times.double(), "amax")
    latest_first = last.argsort(descending=True, stable=True)
    held = sizes[latest_first].cumsum(0)[:-1]  # never all of them
    number = int((held - share * len(units)).abs().argmin()) + 1
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[latest_first[:number]] = True
    return chosen[units]


def _whole_groups(groups: Tensor, strata: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Whether each sample is in a fold of scikit-learn: one at random of those whose size is close to the share."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(max(2, round(1 / min(share, 1 - share))), int(groups.max()) + 1)
    classes = torch.unique(strata if strata.ndim == 1 else torch.zeros(len(groups)), return_inverse=True)[1]
    if int(torch.bincount(classes).max()) < folds:  # no class has a member for each fold
        classes = torch.zeros_like(classes)
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer members than folds
        parts = [part for _, part in splitter.split(np.zeros(len(groups)), classes.numpy(), groups.numpy())]
    wanted = min(share, 1 - share) * len(groups)
    misses = {i: abs(len(part) - wanted) for i, part in enumerate(parts) if 0 < len(part) < len(groups)}
    close = [i for i, miss in misses.items() if miss <= min(misses.values()) + CLOSE * len(groups)]
    held = torch.zeros(len(groups), dtype=torch.bool)
    held[torch.from_numpy(parts[close[int(torch.randint(len(close), (), generator=generator))]])] = True
    return held if share <= 0.5 else ~held
