"""Near repeats among real rows, whatever their units and lengths; none among rows that are merely alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from letsam.validation.auditing.audited import AuditedPart, audited_part
from letsam.validation.auditing.repeats import Repeats, repeats
from letsam.validation.drift.inputs import InputForm

LEVEL = 0.002


def compared(train: Any, validation: Any) -> Repeats:
    form = InputForm.of(train, None)
    first, second = (audited_part("data", part, form) for part in (train, validation))
    return repeats(first, second, LEVEL)


def rows_of(values: Tensor) -> TensorDataset:
    return TensorDataset(values, torch.arange(len(values)) % 2)


def table_of(name: str) -> Tensor:
    import sklearn.datasets

    return torch.tensor(getattr(sklearn.datasets, f"load_{name}")().data, dtype=torch.float32)


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "diabetes"])
def test_rows_in_any_units(name: str) -> None:
    """One column of wines is a hundred times as wide as the others, which count all the same."""
    for seed in range(20):
        stream = torch.Generator().manual_seed(seed)
        values = table_of(name)
        values = values[torch.randperm(len(values), generator=stream)]
        border = len(values) // 4
        validation, train = values[:border].clone(), values[border:]
        assert compared(rows_of(train), rows_of(validation)).near == []
        noise = 0.01 * train.std(0) * torch.randn(3, train.shape[1], generator=stream)
        validation[:3] = train[10:13] + noise
        found = compared(rows_of(train), rows_of(validation))
        assert found.near == [(0, 10), (1, 11), (2, 12)]
        assert 2 < found.ratio < 1000


def test_rows_that_are_alike_in_a_part_of_the_data() -> None:
    """Half of the rows have two dimensions, the others ten; with a mean dimension, 4 of these 20 had findings."""
    for seed in range(20):
        stream = torch.Generator().manual_seed(seed)
        values = torch.randn(400, 10, generator=stream)
        values[::2, 2:] *= 1e-3
        assert compared(rows_of(values[100:]), rows_of(values[:100])).near == []


def test_texts_with_a_letter_less() -> None:
    stream = torch.Generator().manual_seed(0)
    drawn = torch.randint(97, 123, (300, 6), generator=stream).tolist()
    words = ["".join(map(chr, letters)) for letters in drawn]

    def sentence() -> str:
        return " ".join(words[i] for i in torch.randint(len(words), (12,), generator=stream).tolist())

    texts = [sentence() for _ in range(240)]
    held = [*texts[:60]]
    for place in range(3):
        copied = texts[100 + place]
        held[place] = copied[:20] + copied[21:]
    clean, planted = (
        compared([(text, 0) for text in texts[60:]], [(text, 0) for text in part]) for part in (texts[:60], held)
    )
    assert clean.near == []
    assert planted.near == [(place, 40 + place) for place in range(3)]


def test_constant_columns_and_many_copies_within_the_training_data() -> None:
    values = torch.cat([torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.ones(200, 2)], dim=1)
    train = torch.cat([values[50:], *[values[60:61]] * 6])
    found = compared(rows_of(train), rows_of(values[:50]))
    assert isinstance(found, Repeats)
    assert (found.exact, found.near) == ([], [])


def test_inputs_that_are_not_finite_are_refused() -> None:
    values = torch.randn(40, 3)
    values[[4, 9], 1] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(ValueError, match=r"finite inputs, got 2 of 40 that are not, .* sample 4(\n|$)"):
        compared(rows_of(torch.randn(50, 3)), rows_of(values))


def test_rows_of_tables_are_in_deviations_of_the_training_data() -> None:
    values = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e-4, 1e4]) + 7
    part: AuditedPart = audited_part("data", rows_of(values), InputForm.of(rows_of(values), None))
    assert torch.allclose(part.rows.std(0, correction=0), torch.ones(3), atol=1e-3)
