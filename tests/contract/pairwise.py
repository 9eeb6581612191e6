"""A small set of combinations in which every pair of values of two factors occurs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

Combination = tuple[str, ...]
Pair = tuple[tuple[int, str], tuple[int, str]]


def pairwise(factors: Sequence[Sequence[str]], allowed: Callable[..., bool] = lambda *_: True) -> list[Combination]:
    """Combinations that cover every pair that any allowed combination has.

    Greedy and deterministic: pairs are taken in the order of the factors. A pair that is not covered yet is completed
    by the values that cover the most further ones. Another order of the values gives another cover.

    Args:
        factors: the values of each factor.
        allowed: whether a combination, given as positional arguments, may occur.
    """
    pairs = [
        ((i, left), (j, right))
        for i, j in itertools.combinations(range(len(factors)), 2)
        for left in factors[i]
        for right in factors[j]
    ]
    missing, cover = set(pairs), list[Combination]()
    for pair in pairs:
        if pair not in missing:
            continue
        fixed = dict(pair)
        free = [[fixed[i]] if i in fixed else values for i, values in enumerate(factors)]
        candidates = [values for values in itertools.product(*free) if allowed(*values)]
        if candidates:
            best = max(candidates, key=lambda values: len(missing & pairs_of(values)))
            missing -= pairs_of(best)
            cover.append(best)
    return cover


def pairs_of(values: Combination) -> set[Pair]:
    """All pairs of a combination, each value with the number of its factor."""
    return set(itertools.combinations(enumerate(values), 2))
