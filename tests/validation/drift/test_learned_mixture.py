"""`shift="auto"` finds the shifts of deployed data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from letsam.tasks import load_task
from letsam.validation import Mixture, shifted
from letsam.validation.drift.inputs import InputForm
from letsam.validation.drift.learned_mixture import learn_mixture
from letsam.validation.drift.two_sample import two_sample_test


@pytest.mark.parametrize("true", ["noise:3", "clean", "blur:3@0.5,clean@0.5"])
def test_the_shifts_of_deployed_digits_are_found(true: str) -> None:
    task = load_task("digits")
    form = InputForm.of(task.train, None)
    assert form.low is not None
    assert form.high is not None
    deployed = shifted(task.test, true, seed=8, value_range=(form.low.item(), form.high.item()))
    found = learn_mixture(task.train, deployed[:400][0], form)
    weights = dict(zip(found.alternatives, found.weights, strict=True))
    for steps, weight in zip(
        *(getattr(Mixture.parse(true, "image"), n) for n in ("alternatives", "weights")), strict=True
    ):
        near = sum(w for other, w in weights.items() if [n for n, _ in other] == [n for n, _ in steps])
        assert near == pytest.approx(weight, abs=0.2)


def test_texts_and_tables() -> None:
    words = ["a", "film", "that", "is", "as", "good", "as", "any", "other", "of", "its", "kind", "and", "never"]
    texts = [" ".join(words[(i * k) % 14] for k in range(1, 9)) for i in range(200)]
    data = [(text, i % 2) for i, text in enumerate(texts)]
    deployed = [text for text, _ in shifted(data, "casing:4", seed=3)]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    found = shifted(data, "auto", deployed=deployed)  # pyright: ignore[reportArgumentType]
    assert {name for steps in found.mixture.alternatives for name, _ in steps} == {"casing"}  # pyright: ignore[reportAttributeAccessIssue]


def test_what_cannot_be_learned_is_refused() -> None:
    data: Any = TensorDataset(torch.rand(50, 4), torch.zeros(50))
    with pytest.raises(ValueError, match='`shift` = "auto" needs 20 samples or more, got 50, and 3 of `deployed`'):
        shifted(data, "auto", deployed=torch.rand(3, 4))
    with pytest.raises(TypeError, match="`deployed` must be"):
        shifted(data, "auto", deployed=3)  # pyright: ignore[reportArgumentType]


def test_the_two_sample_test_finds_no_difference_where_there_is_none() -> None:
    """A level of 5% gives few false alarms, and a difference of half a deviation is seen."""
    values = []
    for seed in range(8):
        stream = torch.Generator().manual_seed(seed)
        rows = torch.randn(120, 6, generator=stream)
        values.append(two_sample_test(rows[:70], rows[70:], seed).p_value)
    assert sum(value < 0.05 for value in values) <= 1
    test = two_sample_test(rows[:70], rows[70:] + 0.7)
    assert test.p_value < 0.001
    assert 0.6 < test.low < test.auc < test.high <= 1.0
    with pytest.raises(ValueError, match="at least 10 samples on each side, got 4"):
        two_sample_test(rows[:4], rows)
