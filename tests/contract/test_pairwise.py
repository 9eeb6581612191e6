"""The pairwise cover has every pair that can occur, nothing else, and is small."""

from __future__ import annotations

import itertools

from contract.pairwise import pairs_of, pairwise

FACTORS = [[f"{name}{i}" for i in range(count)] for name, count in (("a", 15), ("b", 9), ("c", 14), ("d", 2))]


def fits(a: str, b: str, *others: str) -> bool:
    """a0 fits b0 alone, and a1 fits nothing."""
    return a != "a1" and (a != "a0" or b == "b0")


def test_every_pair_that_is_allowed_occurs() -> None:
    for factors in (FACTORS, FACTORS[:3], FACTORS[::-1]):
        for allowed in (lambda *values: True, lambda *values: fits(*sorted(values))):
            whole = [values for values in itertools.product(*factors) if allowed(*values)]
            cover = pairwise(factors, allowed)
            assert set(cover) <= set(whole)
            assert set[object]().union(*map(pairs_of, cover)) == set[object]().union(*map(pairs_of, whole))
            assert len(set(cover)) == len(cover) < 1.3 * 15 * 14
            assert pairwise(factors, allowed) == cover


def test_another_order_of_values_is_another_cover() -> None:
    turned = [FACTORS[0], FACTORS[1][::-1], FACTORS[2]]
    common = set(pairwise(FACTORS[:3])) & set(pairwise(turned))
    assert len(common) < 0.3 * len(pairwise(FACTORS[:3]))


def test_a_pair_is_an_ordered_pair_of_factors() -> None:
    assert pairs_of(("x", "x", "y")) == {((0, "x"), (1, "x")), ((0, "x"), (2, "y")), ((1, "x"), (2, "y"))}
    assert len(pairwise([["x", "y"], ["x", "y"]])) == 4
