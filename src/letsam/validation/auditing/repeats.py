"""Samples that occur in training and in validation, exactly or nearly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from letsam.validation.auditing.audited import AuditedPart

NEIGHBOURS = 5
USUAL = 0.9  # of the training samples, whose ratios say how the others are distributed
LEAST = 2.0  # times as far, below which nothing is near


@dataclass(frozen=True)
class Repeats:
    """Validation samples that repeat training samples.

    Args:
        exact: (validation, training) places of equal inputs.
        near: the same for inputs that are nearly equal.
        differing: how many of the exact ones have another target.
        ratio: how much farther than the nearest the fifth nearest neighbour of the near ones is at least.
    """

    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]
    differing: int
    ratio: float


def repeats(train: AuditedPart, validation: AuditedPart, level: float) -> Repeats:
    """Find exact and near duplicates.

    For points of a density in D dimensions, the ratio r of the distances to the fifth and the first neighbour has the
    distribution ``(1 - r^-D)^4``, whatever the density is. A near duplicate has a ratio that is exceeded with a
    probability of at most ``level`` in the whole validation set. D is that of the upper tail: it follows from the 90%
    quantile of the ratios among the training samples. A mean over all of them is too large where some samples, such as
    images of the sky, have fewer dimensions than others. The tenth above it may be repeats within the training data.

    Reference:
        Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood information", 2017.
    """
    from sklearn.neighbors import NearestNeighbors

    known = dict(zip(train.digests, range(len(train)), strict=True))
    exact, differing = [], 0
    for place, digest in enumerate(validation.digests):
        if digest in known:
            other = known[digest]
            exact.append((int(validation.places[place]), int(train.places[other])))
            if validation.targets is not None and train.targets is not None:
                differing += int(not torch.equal(validation.targets[place], train.targets[other]))
    repeated = {place for place, digest in enumerate(validation.digests) if digest in known}
    if len(train) <= 2 * NEIGHBOURS or len(repeated) == len(validation):
        return Repeats(exact, [], differing, float("inf"))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train.rows.numpy())
    own = torch.from_numpy(search.kneighbors()[0])  # without the sample itself
    distances, places = (torch.from_numpy(part) for part in search.kneighbors(validation.rows.numpy()))
    chance = level / len(validation) / (NEIGHBOURS - 1)  # (1 - r^-D)^4 is about 1 - 4 r^-D
    needed = max(math.log(LEAST), -math.log(chance) / _dimensions(_log_ratios(own)))
    ratios = _log_ratios(distances)
    close = [v for v in (ratios > needed).nonzero().flatten().tolist() if v not in repeated]
    near = [(int(validation.places[v]), int(train.places[int(places[v, 0])])) for v in close]
    return Repeats(exact, near, differing, float(ratios[close].min().exp()) if close else float("inf"))


def _log_ratios(distances: Tensor) -> Tensor:
    """Logarithms of how much farther than the first neighbour the fifth is."""
    logs = distances.double().clamp(min=1e-30).log()
    return logs[:, -1] - logs[:, 0]


def _dimensions(logs: Tensor) -> float:
    """The dimension whose 90% quantile is that of these logarithms, of samples that have a first neighbour."""
    usual = float(logs[logs < 30].quantile(USUAL)) if bool((logs < 30).any()) else 0.0
    return -math.log(1 - USUAL ** (1 / (NEIGHBOURS - 1))) / max(usual, 1e-9)
