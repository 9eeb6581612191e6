"""The shares that searches are told on held-out labels: by the library, and by least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.evidence import label_noise

YES = torch.tensor(True)


def made_up(share: float, known: float) -> list[label_noise.Seen]:
    """Losses of a network that gains `known` by the labels, with sampling errors, where a share of them is wrong."""
    generator = np.random.default_rng(0)
    seen: list[label_noise.Seen] = []
    for step in range(1, 121):
        training, validation = generator.standard_normal(2) * (0.005, 0.02)
        losses = 2.3 - known + share * known + training, 2.3 - known + validation
        seen.append((step, *map(torch.tensor, losses), torch.tensor(known - validation), YES))
    return seen


def test_both_tell_a_share_that_is_there() -> None:
    seen = made_up(0.4, 1.0)
    assert label_noise.told(seen) == pytest.approx(0.4, abs=0.01)
    assert label_noise.by_least_squares(seen) == pytest.approx(0.4, abs=0.01)


def test_only_least_squares_tells_a_share_of_a_network_that_knows_little() -> None:
    seen = made_up(0.0, 0.01)
    assert label_noise.told(seen) == 0
    assert label_noise.by_least_squares(seen) > 0.5
    unknown = [(step, training, validation, None, usable) for step, training, validation, _, usable in seen]
    assert label_noise.by_least_squares(unknown) == 0


def test_a_line_for_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    label_noise.main(["digits-0.0", "digits-0.2"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "digits-0.0: 4 runs, a share is told in 0 (0.00 at most), by least squares in 0 (0.00 at most)"
    assert second.startswith("digits-0.2: 4 runs, ")
