"""Wrong labels are told from classes that overlap, and a classifier that knows nothing stays silent."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letsam.validation.auditing.label_checks import SuspectedLabels, suspected

LEVEL = 0.001


def classes(seed: int, distance: float, count: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    """Two normal distributions; which samples are in validation."""
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=stream)
    rows = torch.randn(count, 6, generator=stream)
    rows[:, 0] += distance * labels
    rows[:, 1] -= distance * labels
    return rows, labels, torch.arange(count) % 4 == 0


def found(rows: Tensor, labels: Tensor, validation: Tensor, seed: int) -> bool:
    return suspected(rows, labels, validation, seed).contradicted(LEVEL)


@pytest.mark.slow
@pytest.mark.parametrize("distance", [0.0, 1.0, 1.5, 4.0])
def test_classes_that_overlap_have_no_wrong_labels(distance: float) -> None:
    """Before, three of four such data sets had findings at a distance of 1."""
    assert not any(found(*classes(seed, distance), seed) for seed in range(20))


@pytest.mark.slow
def test_wrong_labels_are_found_in_each_of_twenty_sets() -> None:
    for seed in range(20):
        rows, labels, validation = classes(seed, 4.0, 600)
        drawn = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
        assert found(rows, torch.where(drawn < 0.15, 1 - labels, labels), validation, seed)
        assert found(rows, torch.where(validation & (drawn < 0.3), 1 - labels, labels), validation, seed)


def test_rare_classes_that_cannot_be_predicted_are_not_wrong() -> None:
    """All samples are predicted to be of the common class, so 5% are missed wherever the classifier is sure."""
    stream = torch.Generator().manual_seed(0)
    labels = (torch.rand(600, generator=stream) < 0.05).long()
    rows = torch.randn(600, 4, generator=stream)
    told = suspected(rows, labels, torch.arange(600) % 4 == 0, 0)
    assert float(told.missed.float().mean()) < 0.1
    assert told.skill < 0.1
    assert not told.contradicted(LEVEL)


def test_the_skill_is_cohens_kappa() -> None:
    from sklearn.metrics import cohen_kappa_score

    stream = torch.Generator().manual_seed(0)
    labels, predicted = (torch.randint(0, 4, (200,), generator=stream) for _ in range(2))
    predicted = torch.where(torch.rand(200, generator=stream) < 0.6, labels, predicted)
    places = torch.arange(200)
    told = SuspectedLabels(places[:0], places, predicted, labels)
    assert told.skill == pytest.approx(cohen_kappa_score(labels, predicted))
    alone = SuspectedLabels(places[:0], places, torch.zeros(200).long(), torch.zeros(200).long())
    assert alone.skill == 0
