"""How often audits find what is planted in real data, and that they find nothing in clean data."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SEEDS = range(100, 102)  # others than those of the table in docs/how-to/validation-data.md


@cache
def tool() -> Any:
    """tools/audit_faults.py as a module."""
    spec = importlib.util.spec_from_file_location("audit_faults", ROOT / "tools/audit_faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its data classes look themselves up there
    spec.loader.exec_module(module)
    return module


@cache
def data(name: str) -> Any:
    return tool().DATA[name]()


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
        seen, others = tool().found_in(data(name), fault, seed)
        assert seen == set(tool().FAULTS[fault][0])
        assert not any("wrong-labels" in one for one in others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wine", "digits", "diabetes"])
def test_nothing_is_found_in_clean_data(name: str) -> None:
    for seed in SEEDS:
        assert tool().found_in(data(name), "nothing", seed) == (set(), [])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a fifth of the validation labels", "drift of validation"])
def test_faults_are_found_in_a_set_of_178_rows(fault: str) -> None:
    for seed in SEEDS:
        assert tool().found_in(data("wine"), fault, seed)[0] == set(tool().FAULTS[fault][0])
