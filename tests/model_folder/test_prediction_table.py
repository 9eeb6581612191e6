"""The predictions of a model as labels, probabilities and CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from letsam.model_folder import PredictionTable

LOGITS = torch.tensor([[0.0, 1.0, -1.0], [3.0, 0.5, 0.2]])


def rows(table: PredictionTable, path: Path) -> list[list[str]]:
    table.save(path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_classes(tmp_path: Path) -> None:
    table = PredictionTable("classification", LOGITS, ("a,b", 'c"d', "é"), ("x.png", "y.png"))
    probabilities = LOGITS.double().softmax(1)
    head, *found = rows(table, tmp_path / "p.csv")
    assert head == ["sample", "prediction", "probability of a,b", 'probability of c"d', "probability of é"]
    assert [row[:2] for row in found] == [["x.png", 'c"d'], ["y.png", "a,b"]]
    numbers = torch.tensor([[float(value) for value in row[2:]] for row in found], dtype=torch.float64)
    torch.testing.assert_close(numbers, probabilities, rtol=1e-6, atol=1e-7)


def test_labels_of_a_multilabel_model(tmp_path: Path) -> None:
    table = PredictionTable("multilabel", LOGITS, ("a", "b", "c"))
    assert table.labels == ["a;b", "a;b;c"]
    torch.testing.assert_close(table.probabilities, LOGITS.double().sigmoid())
    assert rows(table, tmp_path / "p.csv")[1][:2] == ["0", "a;b"]


@pytest.mark.parametrize(
    ("outputs", "names", "head"),
    [
        ([[1.5], [2.0]], (), ["sample", "prediction"]),
        ([[1.5], [2.0]], ("price",), ["sample", "price"]),
        ([[1.5, 1.0], [2.0, 0.1]], ("x", "y"), ["sample", "x", "y"]),
        ([[1.5, 1.0], [2.0, 0.1]], (), ["sample", "0", "1"]),
    ],
)
def test_numbers(outputs: list[list[float]], names: tuple[str, ...], head: list[str], tmp_path: Path) -> None:
    table = PredictionTable("regression", torch.tensor(outputs), names)
    first, *found = rows(table, tmp_path / "p.csv")
    assert first == head
    assert [[float(value) for value in row[1:]] for row in found] == [pytest.approx(row) for row in outputs]
    with pytest.raises(ValueError, match="`probabilities` need a model of classes"):
        _ = table.probabilities


def test_an_empty_table(tmp_path: Path) -> None:
    assert len(rows(PredictionTable("classification", torch.empty(0, 3)), tmp_path / "p.csv")) == 1
