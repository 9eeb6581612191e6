"""What processes tell each other in a step: counted in real processes, against what the method needs."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.speed import messages
from benchmarks.speed.benchmark import Speed

GRADIENTS = 4 * messages.numbers()
NUMBER = 4  # bytes
SENT = {  # gradients, messages with numbers beside them, and these numbers
    "SAM written out": (2, 0, 0),
    "SAM": (2, 2, 2),  # the losses
    "ASAM": (2, 2, 2),
    "LETS-SAM": (3, 3, 4),  # a validation pass: its loss, and what random labels would add to it
    "LETS-ASAM": (3, 3, 4),
}


@pytest.fixture(scope="module", params=[1, 2])
def counted(request: pytest.FixtureRequest) -> tuple[int, Any]:
    return request.param, messages.measure(request.param)


pytestmark = pytest.mark.slow


def test_a_step_sends_gradients_once_a_pass_and_a_number_for_each_loss(counted: Any) -> None:
    ranks, found = counted
    for name, (gradients, beside, numbers) in SENT.items():
        expected = gradients * GRADIENTS + numbers * NUMBER if ranks > 1 else 0
        assert found[name]["bytes"] == expected
        assert found[name]["calls"] == (gradients + beside if ranks > 1 else 0)


def test_m_sharpness_does_not_send_the_gradients_of_the_ascent(counted: Any) -> None:
    ranks, found = counted
    fixed, learned = found["SAM, m_sharpness"], found["LETS-SAM, m_sharpness"]
    if ranks == 1:
        assert fixed["bytes"] == learned["bytes"] == 0
        return
    assert GRADIENTS < fixed["bytes"] <= GRADIENTS + 8 * NUMBER
    assert learned["bytes"] <= found["LETS-SAM"]["bytes"] + 8 * NUMBER  # the curvature in place of the gradients


def test_the_page_has_these_counts(counted: Any) -> None:
    ranks, found = counted
    assert {row.key: row.measured for row in Speed().read()}[f"ranks/{ranks}"] == found
