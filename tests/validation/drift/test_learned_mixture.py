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
    learned = learn_mixture(task.train, deployed[:400][0], form)
    found = learned.mixture
    assert learned.auc <= learned.clean_auc
    assert learned.auc < 0.65
    assert learned.deployed == 400
    weights = dict(zip(found.alternatives, found.weights, strict=True))
    for steps, weight in zip(
        *(getattr(Mixture.parse(true, "image"), n) for n in ("alternatives", "weights")), strict=True
    ):
        near = sum(w for other, w in weights.items() if [n for n, _ in other] == [n for n, _ in steps])
        assert near == pytest.approx(weight, abs=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_without_drift_the_data_stay_clean(seed: int) -> None:
    """In sets of 60, a mixture nearly always fits a little better, by chance."""
    rows = torch.randn(120, 4, generator=torch.Generator().manual_seed(seed))
    data = TensorDataset(rows[:60], torch.zeros(60))
    assert str(learn_mixture(data, rows[60:], InputForm.of(data, None), seed=seed).mixture) == "clean"


def test_texts_and_tables() -> None:
    words = ["a", "film", "that", "is", "as", "good", "as", "any", "other", "of", "its", "kind", "and", "never"]
    texts = [" ".join(words[(i * k) % 14] for k in range(1, 9)) for i in range(200)]
    data = [(text, i % 2) for i, text in enumerate(texts)]
    deployed = [text for text, _ in shifted(data, "casing:4", seed=3)]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    found = shifted(data, "auto", deployed=deployed)  # pyright: ignore[reportArgumentType]
    assert {name for steps in found.mixture.alternatives for name, _ in steps} == {"casing"}  # pyright: ignore[reportAttributeAccessIssue]


def test_what_was_learned_is_told_for_data_in_memory() -> None:
    rows = torch.randn(600, 4, generator=torch.Generator().manual_seed(0)) ** 3
    data, other = (TensorDataset(part, torch.zeros(300)) for part in rows.split(300))
    found: Any = shifted(data, "auto", deployed=shifted(other, "noisy:5", seed=3)[:][0])
    assert {name for steps in found.mixture.alternatives for name, _ in steps} == {"noisy"}
    assert torch.equal(found[:][0], shifted(data, found.mixture)[:][0])


def test_drift_of_another_kind_is_told() -> None:
    rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(rows[:200], torch.zeros(200))
    learned = learn_mixture(data, rows[200:] + 20, InputForm.of(data, None))
    assert learned.auc > 0.9
    assert str(learned).endswith("most of this drift is of another kind than the known shifts")


def test_what_cannot_be_learned_is_refused() -> None:
    data: Any = TensorDataset(torch.rand(50, 4), torch.zeros(50))
    with pytest.raises(ValueError, match='`shift` = "auto" needs 20 samples or more, got 50, and 3 of `deployed`'):
        shifted(data, "auto", deployed=torch.rand(3, 4))
    with pytest.raises(TypeError, match="`deployed` must be"):
        shifted(data, "auto", deployed=3)  # pyright: ignore[reportArgumentType]
    for deployed, message in (
        (torch.rand(30, 5), r"`deployed` must have inputs of the shape \(4,\), got the shape \(5,\)"),
        (["a text"] * 30, "`deployed` must have tensors as inputs, got 'a text'"),
        (torch.rand(30, 4).index_fill(0, torch.tensor(7), float("nan")), "`deployed` must have finite .* sample 7"),
        ([], "needs 20 samples or more, got 50, and 0 of `deployed`"),
    ):
        with pytest.raises(ValueError, match=message):
            shifted(data, "auto", deployed=deployed)


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
