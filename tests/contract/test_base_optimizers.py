"""docs/base-optimizers.md says what the code does: its tables are made again, and its examples run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letsam.tangent import registered_rules
from page_code import ROOT, blocks_of, run_code
from site_cases import tool

PAGE = "docs/base-optimizers.md"


TOOL: Any = tool("base_optimizers")
WRITTEN: Any = TOOL.parsed((ROOT / PAGE).read_text(encoding="utf-8"))
SOME = (  # of pytorch_optimizer: one for each kind of state
    *("AdaBelief", "AdaFactor", "AdaHessian", "AdamMini", "AliG", "Alice", "DAdaptAdam", "FlashAdamW", "Kron", "Lion"),
    *("LOMO", "Lookahead", "Magma", "Muon", "Prodigy", "Ranger21", "SafeFP16Optimizer", "ScheduleFreeWrapper"),
    *("Shampoo", "SOAP", "SPAM", "TRAC"),
)


def rows(library: str, names: tuple[str, ...] | None = None) -> tuple[list[Any], list[Any]]:
    """The rows that the page has, and those that the code gives now."""
    pytest.importorskip(TOOL.LIBRARIES[library])
    with TOOL.quietly():
        made = [TOOL.row_of(library, kind) for kind in TOOL.kinds_of(library) if not names or kind.__name__ in names]
    written = [row for row in WRITTEN[library].values() if not names or row.name.split()[0] in names]
    return written, made


def test_the_page_has_the_versions_that_are_installed() -> None:
    """Others may have other optimizers."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    for library in TOOL.LIBRARIES:
        pytest.importorskip(TOOL.LIBRARIES[library])
        assert f"### {library} {TOOL.version(library)}\n" in text


@pytest.mark.parametrize("library", ["torch", "schedulefree", "torchao"])
def test_the_tables(library: str) -> None:
    written, made = rows(library)
    assert sorted(written, key=str) == sorted(made, key=str)
    assert len(made) >= 8


def test_the_table_of_pytorch_optimizer() -> None:
    written, made = rows("pytorch_optimizer", SOME)
    assert sorted(written, key=str) == sorted(made, key=str)
    assert len(made) == len(SOME)


@pytest.mark.slow
def test_the_whole_table_of_pytorch_optimizer() -> None:
    written, made = rows("pytorch_optimizer")
    assert sorted(written, key=str) == sorted(made, key=str)
    assert len(made) > 120


def test_the_measures_see_a_fault() -> None:
    """An optimizer that forgets its moments in a file, keeps them elsewhere, or draws from a generator of its own."""

    class Forgets(torch.optim.Adam):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "state": {}}

    noise = torch.Generator().manual_seed(0)

    class Draws(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            for group in self.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * (p.grad + torch.randn(p.shape, generator=noise))

    row = TOOL.row_of("torch", Forgets)
    assert (row.fixed, row.derivative, row.checkpoint, row.undone) == ("exact", "approximate", "differs", "exact")
    row = TOOL.row_of("torch", Draws)
    assert (row.fixed, row.checkpoint, row.undone) == ("differs", "differs", "not exact")


def test_the_page_is_parsed_as_it_is_written() -> None:
    some = [TOOL.Row("SGD", "exact", "exact", "exact", "exact"), TOOL.Row("LBFGS", refused="TypeError: a closure")]
    page = f"# Title\n\n### torch 1.0\n\n{TOOL.table(some)}"
    assert TOOL.parsed(page) == {"torch": {row.name: row for row in some}}
    assert TOOL.with_tables(page, ["### torch 2.0\n"]) == "# Title\n\n### torch 2.0\n"


@pytest.mark.parametrize("number", range(3))
def test_the_examples_run(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RULES", "_SAME_AS"):
        monkeypatch.setattr(registered_rules, name, dict(getattr(registered_rules, name)))
    code = blocks_of(PAGE)[number]
    if "schedulefree" in code:
        pytest.importorskip("schedulefree")
    names = run_code(code, PAGE, {})
    if number == 2:
        assert registered_rules.is_differentiated(names["Smooth"]([torch.nn.Parameter(torch.ones(1))]))
        assert not registered_rules.is_differentiated(names["Lion"]([torch.nn.Parameter(torch.ones(1))]))
