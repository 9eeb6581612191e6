"""How often audits find what is planted in real data, and that they find nothing in clean data."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from site_cases import tool

TOOL: Any = tool("audit_faults")
SEEDS = range(100, 102)  # others than those of the table in docs/how-to/validation-data.md


@cache
def data(name: str) -> Any:
    return TOOL.DATA[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "breast cancer"])
@pytest.mark.parametrize(
    "fault",
    [
        "single samples",
        "other shares",
        "a tenth of all labels",
        "a fifth of the validation labels",
        "drift of validation",
        "drift of operation",
        "twelve samples",
    ],
)
def test_every_fault_is_found(name: str, fault: str) -> None:
    for seed in SEEDS:
        seen, others = TOOL.found_in(data(name), fault, seed)
        assert seen == set(TOOL.FAULTS[fault][0])
        assert not any("wrong-labels" in one for one in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wine", "digits", "diabetes"])
def test_nothing_is_found_in_clean_data(name: str) -> None:
    for seed in SEEDS:
        assert TOOL.found_in(data(name), "nothing", seed) == (set(), [])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a fifth of the validation labels", "drift of validation"])
def test_faults_are_found_in_a_set_of_178_rows(fault: str) -> None:
    for seed in SEEDS:
        assert TOOL.found_in(data("wine"), fault, seed)[0] == set(TOOL.FAULTS[fault][0])
