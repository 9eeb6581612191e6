"""Training, validation and deployed data as rows of numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from letsam import checks
from letsam.tasks import targets_of
from letsam.tasks.subset import evenly_spaced
from letsam.validation.drift.drift_features import features_of, hashed_texts
from letsam.validation.drift.feature_names import feature_names
from letsam.validation.drift.inputs import InputForm, check_finite, unlabelled_inputs
from letsam.validation.drift.permutation_test import rareness, with_deviations

MOST = 20_000  # samples of a part
WIDEST = 512  # numbers in a row
COMPARED = 1000  # samples of each part in two-sample tests


@dataclass(frozen=True)
class AuditedPart:
    """One of the data sets.

    Args:
        features: what two-sample tests compare, a row for each sample.
        rows: the inputs themselves, at most 512 numbers each: of larger ones a random projection, columns of tables in
            standard deviations, of texts hashed parts of words.
        digests: of the inputs, the same for equal inputs.
        targets: of the samples; None for deployed data.
        places: of the samples in the data set.
        texts: strings or rows of tokens, where the inputs are texts.
    """

    features: Tensor
    rows: Tensor
    digests: list[str]
    targets: Tensor | None
    places: Tensor
    texts: list[Any] | None = None

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.digests)


def audited_part(
    name: str, dataset: Dataset[Any], form: InputForm, most: int = MOST, *, labelled: bool = True
) -> AuditedPart:
    """Read a data set: all its samples, or at most so many of them, evenly spaced.

    Raises:
        TypeError: it is no map-style data set.
        ValueError: it is empty, or its targets are not numbers.
    """
    samples = cast("Any", dataset)
    if not hasattr(samples, "__getitem__") or not hasattr(samples, "__len__"):
        raise TypeError(f"`{name}` must be a map-style data set, got {checks.shown(dataset)}")
    count = len(samples)
    if not count:
        raise ValueError(f"`{name}` must have at least 1 sample, got 0")
    places = evenly_spaced(count, most)
    read = [samples[place] for place in places]
    inputs = form.batch(read, f"`{name}`") if labelled else unlabelled_inputs(read, form)
    form.check_same(f"`{name}`", inputs, labelled=labelled)
    opened = form.opened(inputs)
    if isinstance(opened, Tensor):
        check_finite(f"`{name}`", opened, places)
        rows = projected(_in_deviations(opened.flatten(1).cpu(), form.rows))
        digests = [hashlib.sha1(one.contiguous().numpy().tobytes()).hexdigest() for one in _bytes(inputs)]
    else:
        rows = hashed_texts(opened)
        digests = [hashlib.sha1(repr(one).encode()).hexdigest() for one in opened]
    features = features_of(opened, form.modality)
    targets = None
    if labelled:  # not of the data set, which might decode all its samples once more
        targets = targets_of(cast("Any", read)).detach().cpu() if form.key == 0 else _targets(read)
    texts = None if isinstance(opened, Tensor) else opened
    return AuditedPart(features, rows, digests, targets, torch.tensor(places), texts)


def compared(first: AuditedPart, second: AuditedPart) -> tuple[list[Tensor], list[Tensor]]:
    """What the two-sample tests of two parts see, of at most 1,000 samples of each.

    Of texts these are the features and how rare their parts are among the other texts; of other inputs the features and
    their distances to the median.

    Returns:
        What the classifier sees of both parts, and what the permutation test does: of texts without the hashed parts of
        words, which would hide the rest from it.
    """
    kept = [evenly_spaced(len(part), COMPARED) for part in (first, second)]
    rows = [part.features[chosen] for part, chosen in zip((first, second), kept, strict=True)]
    if first.texts is None or second.texts is None:
        both = list(with_deviations(rows[0], rows[1]))
        return both, both
    texts = [[part[place] for place in chosen] for part, chosen in zip((first.texts, second.texts), kept, strict=True)]
    named = len(feature_names("text", rows[0].shape[1]))
    rare = rareness(texts[0], texts[1])
    every, few = (
        [torch.cat([row[:, :width], new], dim=1) for row, new in zip(rows, rare, strict=True)]
        for width in (rows[0].shape[1], named)
    )
    return every, few


def _in_deviations(rows: Tensor, known: Tensor | None) -> Tensor:
    """Columns of a table in standard deviations of the training data, as they may have any unit."""
    if known is None:
        return rows
    known = known.flatten(1).double()
    mean, deviation = known.mean(0), known.std(0, correction=0)
    varies = deviation > 1e-6 * mean.abs()  # else it is rounding
    return ((rows.double() - mean) / torch.where(varies, deviation, 1.0)).float()


def projected(rows: Tensor) -> Tensor:
    """Rows of at most 512 numbers, whose distances are about those of the given ones (Johnson and Lindenstrauss)."""
    if rows.shape[1] <= WIDEST:
        return rows
    stream = torch.Generator().manual_seed(0)
    return rows @ (torch.randn(rows.shape[1], WIDEST, generator=stream) / WIDEST**0.5)


def _bytes(inputs: Any) -> Tensor:
    """The inputs on the CPU; 0 and -0 are equal."""
    found = inputs.detach().cpu()
    return found + 0 if found.is_floating_point() else found


def _targets(read: list[Any]) -> Tensor:
    for name in ("labels", "label", "target", "targets"):
        if name in read[0]:
            return torch.stack([torch.as_tensor(one[name]) for one in read])
    raise ValueError(f"samples that are dicts must have `labels`, got {', '.join(map(str, read[0]))}")
