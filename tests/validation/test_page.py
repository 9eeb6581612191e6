"""The code of docs/how-to/validation-data.md, and the shifts that it names."""

from __future__ import annotations

from typing import Any

import torch

from letsam.validation import available_shifts
from page_code import ROOT, blocks_of, run_code

PAGE = "docs/how-to/validation-data.md"


def test_the_code_runs() -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for code in blocks_of(PAGE):
        run_code(code, PAGE, names)
    assert len(names["held_out"]) == 80
    assert len(names["like_operation"]) == 400
    assert not torch.equal(names["noisy"][:][0], names["data"][:][0])


def test_the_page_names_all_shifts() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for name, _, _ in available_shifts():
        assert f"`{name}`" in text
