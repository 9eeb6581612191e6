"""What tests of several adapters need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState, GradientState


@pytest.fixture
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps its state for the whole process, and the Trainer uses it, too."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
