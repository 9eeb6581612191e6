"""The permutation test is calibrated, and sees other scales and typing errors in small sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from letsam.validation import shifted
from letsam.validation.drift.permutation_test import permutation_test, rareness, with_deviations
from letsam.validation.drift.two_sample import two_sample_test


def test_without_a_difference_all_p_values_are_as_likely() -> None:
    values: list[float] = []
    for seed in range(100):
        rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed)) ** 3
        values.append(permutation_test(*with_deviations(rows[:40], rows[40:]), seed))
    assert np.mean(np.array(values) < 0.1) < 0.2
    assert 0.35 < np.mean(np.array(values) < 0.5) < 0.65
    assert permutation_test(torch.ones(20, 3), torch.ones(20, 3)) == 1.0


def test_more_features_than_samples() -> None:
    rows = torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    assert permutation_test(rows[:30], rows[30:]) > 0.05
    assert permutation_test(rows[:30], rows[30:] + 0.5) < 0.001


def test_another_scale_is_seen_in_36_rows_on_each_side() -> None:
    """The area of a classifier needs more of them."""
    found = 0
    for seed in range(5):
        rows = torch.randn(72, 10, generator=torch.Generator().manual_seed(seed))
        rows[36:, :6] *= 2
        found += permutation_test(*with_deviations(rows[:36], rows[36:]), seed) < 0.001
        assert two_sample_test(rows[:36], rows[36:], seed).p_value > 0.001
    assert found >= 4


def sentences(seed: int, count: int) -> list[str]:
    """Words that are made of syllables, as in a language."""
    random = np.random.default_rng(7)
    syllables = ["".join(random.choice(list("bdfklmnprst"), 1)) + one for one in "aeiou" for _ in range(6)]
    words = ["".join(random.choice(syllables, random.integers(1, 4))) for _ in range(300)]
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(words, 12)) for _ in range(count)]


def test_typing_errors_make_rare_parts() -> None:
    texts: Any = sentences(0, 240)
    mistyped: Any = shifted([(text, 0) for text in texts[120:]], "typos:2", modality="text")  # pyright: ignore[reportArgumentType]
    changed = [mistyped[place][0] for place in range(120)]
    assert permutation_test(*rareness(texts[:120], texts[120:])) > 0.01
    assert permutation_test(*rareness(texts[:120], changed)) < 0.001


def test_the_rareness_of_words_and_tokens() -> None:
    words, others = rareness(["one two", "two two"], ["two six one"])
    assert words.shape == (2, 12)
    assert words[0, 9:].tolist() == [0.0, 1.0, float(np.float32(np.log([2, 3]).mean()))]
    assert others[0, 9] == np.float32(1 / 3)  # six
    tokens, rows = rareness([[1, 2], [2, 2]], [[2, 6, 1]])
    assert tokens.shape == (2, 6)
    assert torch.equal(torch.cat([tokens, rows])[:, :3], torch.cat([words, others])[:, 9:])
