"""Expected accuracy without labels: right where confidence stays right, with an interval that says how sure it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import letsam
from letsam.model_folder.reference import ModelReference
from letsam.operation.expected_accuracy import ConfidenceScale, right_answers
from watch_cases import digits_table, noisy


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_how_sure_the_network_is(kind: str, factor: float) -> None:
    stream = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 3, generator=stream)
    if kind == "classification":
        targets = torch.multinomial(logits.softmax(1), 1, generator=stream).flatten()
    else:
        targets = torch.bernoulli(logits.sigmoid(), generator=stream)
    scale = ConfidenceScale.fitted(factor * logits, targets, kind)
    assert scale.temperature == pytest.approx(factor, rel=0.1)
    assert scale.confidences.mean() == pytest.approx(scale.right.mean(), abs=0.02)
    assert scale.right.mean() == pytest.approx(right_answers(logits, targets, kind).mean())


def test_the_accuracy_of_other_samples_lies_within_the_interval() -> None:
    """With an easier and a harder mix of samples, where the probabilities stay right."""
    stream = torch.Generator().manual_seed(0)
    hits, widths = 0, []
    for place in range(60):
        spread = torch.tensor([0.5, 3.0])
        held_out, later = (
            spread[(torch.rand(count, 1, generator=stream) < share).long()] * torch.randn(count, 4, generator=stream)
            for count, share in ((400, 0.5), (300, [0.2, 0.8][place % 2]))
        )
        truth = [torch.multinomial(rows.softmax(1), 1, generator=stream).flatten() for rows in (held_out, later)]
        found = ConfidenceScale.fitted(2 * held_out, truth[0], "classification").expected(2 * later)
        accuracy = right_answers(later, truth[1], "classification").mean()
        noise = np.sqrt(accuracy * (1 - accuracy) / 300)  # the interval is for the accuracy that is to be expected
        hits += found.low - 1.5 * noise <= accuracy <= found.high + 1.5 * noise
        widths.append(found.high - found.low)
        assert found.low <= found.value <= found.high
    assert hits >= 54
    assert 0.04 < np.mean(widths) < 0.2


def test_real_digits(trained_digits: Path) -> None:
    """Right for a new mix of classes; far too high under strong noise, as the documentation says."""
    model = letsam.load(trained_digits)
    reference = ModelReference.load(model.folder)
    assert reference is not None
    scale = ConfidenceScale.fitted(reference.outputs, reference.targets, model.kind)
    later = digits_table()[1]

    def both(frame: object) -> tuple[float, float]:
        outputs, truth = model.predict(frame).outputs, model.targets(frame).values
        return scale.expected(outputs).value, float(right_answers(outputs, truth, model.kind).mean())

    for rows in (later, later[later["target"].isin(["d0", "d6"])], later[later["target"].isin(["d1", "d8", "d9"])]):
        expected, accuracy = both(rows)
        assert expected == pytest.approx(accuracy, abs=0.04)
    expected, accuracy = both(noisy(later, 2.0))
    assert expected > accuracy + 0.1
    assert expected < both(later)[0] - 0.1  # that something is wrong is seen all the same
