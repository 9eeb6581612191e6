"""A permutation test of two samples, and the features of a pair of samples that it needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PERMUTATIONS = 3000
RIDGE = 1.0  # of the mean eigenvalue
WIDEST = 5.0  # deviations
LETTERS = 2000  # of a text
PLACES = 2**20  # for hashed parts of texts


def permutation_test(first: Tensor, second: Tensor, seed: int = 0) -> float:
    """The p-value of the hypothesis that rows of features come from one distribution.

    The statistic is how well a ridge regression on all other rows predicts the side of each row (its leave-one-out
    predictions have a closed form), compared with 3,000 permutations of the sides. It needs fewer samples than a
    classifier two-sample test whose variance has to be estimated.

    Args:
        first: shape ``(samples, features)``.
        second: the same number of features.
        seed: of the permutations.

    Reference:
        Harchaoui, Bach and Moulines, "Testing for Homogeneity with Kernel Fisher Discriminant Analysis", NeurIPS 2007.
    """
    stream = torch.Generator().manual_seed(seed)
    rows = torch.cat([first, second]).double()
    deviation = rows.std(0)
    rows = ((rows - rows.mean(0)) / deviation)[:, deviation > 1e-9].clamp(-WIDEST, WIDEST)
    count = len(rows)
    if not rows.shape[1]:
        return 1.0
    base, sizes, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    kept = sizes.square() / (sizes.square() + RIDGE * sizes.square().sum() / count)
    leverage = (base.square() * kept).sum(1).clamp(max=1 - 1e-6)
    side = (torch.arange(count) >= len(first)).double()
    side -= side.mean()
    orders = torch.rand(count, PERMUTATIONS, generator=stream).argsort(dim=0)
    sides = torch.cat([side[:, None], side[orders]], dim=1)
    predicted = base @ (kept[:, None] * (base.T @ sides)) - leverage[:, None] * sides
    found = (sides * predicted / (1 - leverage)[:, None]).sum(0)
    return float((found >= found[0] - 1e-12).double().mean())


def with_deviations(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Features with their distances to the median of both samples, so that linear models see other scales."""
    both = torch.cat([first, second])
    middle = both.median(0).values
    size = (both - middle).abs().mean(0).clamp(min=1e-9)
    found = torch.cat([both, (both - middle).abs() / size], dim=1)
    return found[: len(first)], found[len(first) :]


def rareness(first: list[Any], second: list[Any]) -> tuple[Tensor, Tensor]:
    """How rare the parts of each text are among all other texts of both samples: typing errors make parts that are new.

    Args:
        first: strings, of which words and groups of 2, 3 and 4 letters are counted; or rows of tokens, of which single
            ones and pairs are.
        second: the same.

    Returns:
        For each kind of part the share of those that no other text has, of those that at most two have, and the mean
        logarithm of one plus the number of texts that have it.
    """
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [one[:LETTERS] for one in (*first, *second)]
    if isinstance(texts[0], str):
        kinds: list[dict[str, Any]] = [{"analyzer": "char", "ngram_range": (n, n)} for n in (2, 3, 4)]
        kinds.append({"token_pattern": r"\S+"})
    else:
        kinds = [{"tokenizer": _named, "token_pattern": None, "ngram_range": (n, n)} for n in (1, 2)]
    found: list[Tensor] = []
    for kind in kinds:
        plain: dict[str, Any] = {"n_features": PLACES, "norm": None, "alternate_sign": False, "lowercase": False}
        counts: Any = HashingVectorizer(**plain, **kind).transform(texts)
        others = np.bincount(counts.indices, minlength=PLACES)[counts.indices] - 1
        total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
        for values in (others == 0, others <= 2, np.log1p(others)):
            weighted = counts.copy()
            weighted.data = counts.data * values
            found.append(torch.from_numpy(np.asarray(weighted.sum(axis=1)).ravel() / total))
    both = torch.stack(found, dim=1).float()
    return both[: len(first)], both[len(first) :]


def _named(row: Any) -> list[str]:
    return [str(token) for token in row]
