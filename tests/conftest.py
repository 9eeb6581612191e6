"""Shared by all tests of the core: one thread, no global seed, and the tiny problem as fixtures."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from frozen_imports import freeze
from oracle.problems import network

MANY = 200  # modules

_frozen = 0  # how many modules were imported at the last freeze


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take what large imports have made out of garbage collections, see `frozen_imports`."""
    global _frozen
    if len(sys.modules) >= _frozen + MANY:
        freeze()
        _frozen = len(sys.modules)


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
