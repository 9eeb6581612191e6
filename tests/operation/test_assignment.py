"""Who is served by the challenger: the share that was asked for, the same ones everywhere, and never back again."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

import warm
from letsam.operation import assigned

SHARES = (0.0, 0.01, 0.1, 0.5, 1.0)
KEYS = [f"user-{number}" for number in range(20_000)]


def served(share: float, salt: str = "") -> set[str]:
    return {key for key in KEYS if assigned(key, share, salt)}


def test_the_share_is_met_and_only_grows() -> None:
    groups = [served(share, "july") for share in SHARES]
    for share, group in zip(SHARES, groups, strict=True):
        assert stats.binomtest(len(group), len(KEYS), share).pvalue > 1e-4
    assert (len(groups[0]), len(groups[-1])) == (0, len(KEYS))
    for smaller, larger in itertools.pairwise(groups):
        assert smaller <= larger


def test_another_salt_is_another_draw() -> None:
    one, other = served(0.5, "july"), served(0.5, "august")
    table = [[len(one & other), len(one - other)], [len(other - one), len(KEYS) - len(one | other)]]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    ones = np.array([assigned(key, 0.1, "july") for key in range(5_000)])  # of consecutive ids, none follows another
    assert abs(np.corrcoef(ones[:-1], ones[1:])[0, 1]) < 0.06


def test_it_is_the_same_everywhere() -> None:
    """A service in another language needs SHA-256 alone."""
    place = hashlib.sha256(hashlib.sha256(b"july").digest() + b"user-7").digest()[:8]
    share = int.from_bytes(place, "big") / 2**64
    assert not assigned("user-7", share * 0.999, "july")
    assert assigned("user-7", share * 1.001, "july")
    assert assigned(7, 0.3) == assigned("7", 0.3) == assigned(b"7", 0.3)
    code = "from letsam.operation import assigned; print([k for k in range(300) if assigned(k, 0.1, 'july')])"
    done = subprocess.run([sys.executable, "-c", code], env=warm.environment(PYTHONHASHSEED="5"), capture_output=True)
    assert done.stdout.decode().strip() == str([key for key in range(300) if assigned(key, 0.1, "july")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3.5, 0.1), "`key` must be text, bytes or a whole number, got 3.5"),
        ((True, 0.1), "`key` must be text, bytes or a whole number, got True"),
        (("a", 10), "`share` must be between 0 and 1, got 10"),
        (("a", float("nan")), "`share` must be between 0 and 1, got nan"),
        (("a", "10%"), "`share` must be a number, got '10%'"),
        (("a", 0.1, 3), "`salt` must be text, got 3"),
    ],
)
def test_what_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
        assigned(*arguments)
