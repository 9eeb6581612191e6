"""Samples that occur in training and in validation, exactly or nearly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from letsam.validation.auditing.audited import AuditedPart

NEIGHBOURS = 5


@dataclass(frozen=True)
class Repeats:
    """Validation samples that repeat training samples.

    Args:
        exact: (validation, training) places of equal inputs.
        near: the same for inputs that are nearly equal.
        differing: how many of the exact ones have another target.
        ratio: how much farther than the nearest the fifth nearest neighbour must be, to count as nearly equal.
    """

    exact: list[tuple[int, int]]
    near: list[tuple[int, int]]
    differing: int
    ratio: float


def repeats(train: AuditedPart, validation: AuditedPart, level: float) -> Repeats:
    """Find exact and near duplicates.

    For points of a density in D dimensions, the ratio of the distances to the fifth and to the first neighbour exceeds
    r with a probability of about ``4 r^-D``, whatever the density is (Facco et al., 2017, estimate D in this way). A
    near duplicate has a ratio that is exceeded with a probability of at most ``level`` in the whole validation set.
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
    scale = train.rows.std().clamp(min=1e-12)
    if train.rows.shape[1] <= 64:  # columns of a table may have different units; nearly constant ones count little
        own_scale = train.rows.std(0)
        scale = torch.where(own_scale > 0.1 * scale, own_scale, scale)
    search = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit((train.rows / scale).numpy())
    own = torch.from_numpy(search.kneighbors()[0]).double()  # without the sample itself
    dimensions = _dimensions(own)
    ratio = max(2.0, ((NEIGHBOURS - 1) * len(validation) / level) ** (1 / dimensions))
    distances, places = search.kneighbors((validation.rows / scale).numpy(), NEIGHBOURS)
    first, fifth = (torch.from_numpy(distances[:, i]) for i in (0, NEIGHBOURS - 1))
    close = (fifth > ratio * first).nonzero().flatten().tolist()
    near = [(int(validation.places[v]), int(train.places[int(places[v, 0])])) for v in close if v not in repeated]
    return Repeats(exact, near, differing, ratio)


def _dimensions(distances: Tensor) -> float:
    """The intrinsic dimension, from the ratios of the distances to the second and first neighbour.

    The tenth with the largest ratios is left out, as these may be repeats within the training data.
    """
    kept = distances[distances[:, 0] > 0]
    if len(kept) < 10:
        return 1.0
    logs = (kept[:, 1] / kept[:, 0]).log().sort().values
    count = len(logs)
    most = int(0.9 * count)
    censored = logs[:most].sum() + (count - most) * logs[most - 1]  # the estimate of a censored exponential
    return max(1.0, float(most / censored.clamp(min=1e-9)))
