"""Shared by all tests of the core: one thread, no global seed, and the tiny problem as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from oracle.problems import network


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads cost more than they bring, and results must not depend on the machine's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> torch.nn.Sequential:
    return network()
