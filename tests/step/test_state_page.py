"""The code of the pages on state, BatchNorm and dropout runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from page_code import blocks_of, run_code


@pytest.mark.parametrize(("page", "count"), [("state-of-modules", 3), ("batchnorm-and-dropout", 3)])
def test_the_code_of_the_page_runs(page: str, count: int) -> None:
    blocks = blocks_of(f"docs/how-to/{page}.md")
    assert len(blocks) == count
    for block in blocks:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        names = {"letsam": __import__("letsam"), "model": model, "base": torch.optim.SGD(model.parameters(), lr=0.1)}
        run_code(block, page, names)
