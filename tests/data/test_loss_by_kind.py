"""The loss of each kind of target, against plain torch."""

from __future__ import annotations

import pytest
import torch

from letsam.data import loss_by_kind
from letsam.data.loss_by_kind import KindLoss
from letsam.tasks.weighted import WeightedTarget

G = torch.Generator().manual_seed(0)
OUTPUTS = torch.randn(6, 3, generator=G, dtype=torch.float64)
CLASSES = torch.tensor([0, 1, 2, 1, 1, 0])
LABELS = (torch.rand(6, 3, generator=G) < 0.5).double()
WEIGHTS = torch.tensor([0.0, 1.0, 2.0, 0.5, 1.5, 1.0], dtype=torch.float64)


def test_classes() -> None:
    expected = -(OUTPUTS.softmax(1).log())[torch.arange(6), CLASSES]
    torch.testing.assert_close(KindLoss("classification")(OUTPUTS, CLASSES), expected.mean())
    torch.testing.assert_close(KindLoss("classification")({"logits": OUTPUTS}, CLASSES), expected.mean())
    weighted = WeightedTarget(CLASSES, WEIGHTS)
    torch.testing.assert_close(KindLoss("classification")(OUTPUTS, weighted), (expected * WEIGHTS).mean())
    of_class = (0.5, 2.0, 1.0)
    factors = torch.tensor(of_class, dtype=torch.float64)[CLASSES]
    both = KindLoss("classification", of_class)(OUTPUTS, weighted)
    torch.testing.assert_close(both, (expected * WEIGHTS * factors).mean())


def test_labels() -> None:
    p = OUTPUTS.sigmoid()
    expected = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean(1)
    torch.testing.assert_close(KindLoss("multilabel")(OUTPUTS, LABELS), expected.mean())
    weighted = WeightedTarget(LABELS, WEIGHTS)
    torch.testing.assert_close(KindLoss("multilabel")(OUTPUTS, weighted), (expected * WEIGHTS).mean())


@pytest.mark.parametrize("scale", [(2.0,), (2.0, 1.0, 4.0)])
def test_numbers(scale: tuple[float, ...]) -> None:
    columns = len(scale)
    outputs, targets = OUTPUTS[:, :columns], torch.arange(18.0, dtype=torch.float64).reshape(6, 3)[:, :columns]
    expected = ((outputs - targets) / torch.tensor(scale, dtype=torch.float64)).square().mean(1)
    torch.testing.assert_close(KindLoss("regression", scale=scale)(outputs, targets), expected.mean())
    if columns == 1:  # outputs of shape (batch, 1), targets of shape (batch,)
        weighted = WeightedTarget(targets[:, 0], WEIGHTS)
        torch.testing.assert_close(KindLoss("regression", scale=scale)(outputs, weighted), (expected * WEIGHTS).mean())


def test_constants_are_copied_to_the_device_once() -> None:
    """A copy from the host in every step would make the host wait for the device."""
    loss = KindLoss("classification", (0.25, 2.0, 1.75))
    for expected in (0, 1):
        before = loss_by_kind._on_device.cache_info()
        loss(OUTPUTS, CLASSES).item()
        after = loss_by_kind._on_device.cache_info()
        assert (after.hits - before.hits, after.misses - before.misses) == (expected, 1 - expected)
