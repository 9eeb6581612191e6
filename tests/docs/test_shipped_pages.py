"""`letsam docs`, and the pages that errors and findings name."""

from __future__ import annotations

import io
import os
import pty
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

import letsam
from letsam import docs
from letsam.docs.explaining import PAGES
from letsam.doctor import PAGES as PAGES_OF_FINDINGS
from page_code import ROOT

ALL = docs.pages()


def test_the_pages_are_those_of_the_documentation() -> None:
    written = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    assert ALL.keys() == {name for name in written if not name.startswith("reference/")}
    assert {"how-to/doctor", "overview", "evidence"} <= ALL.keys()
    assert [name for name in ALL if "/" not in name] == list(ALL)[: sum("/" not in name for name in ALL)]


def test_the_list_has_every_page_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    docs.print_pages()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Read one: letsam docs PAGE"
    assert [line.split()[0] for line in lines[:-2]] == list(ALL)
    assert next(line for line in lines if line.startswith("how-to/doctor ")).endswith("  Checking a training loop")
    assert [line for line in lines[:-2] if len(line.split()) < 2] == []


@pytest.mark.parametrize("asked", ["concepts", "concepts/"])
def test_a_folder_is_answered_with_its_pages(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    docs.print_page(asked)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == [name for name in ALL if name.startswith("concepts/")]
    assert lines[-1] == "Read one: letsam docs PAGE"


@pytest.mark.parametrize("asked", ["how-to/doctor", "doctor", "how-to/doctor.md", "how-to/doctor/"])
def test_a_page_is_printed_as_it_is_where_stdout_is_no_terminal(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    docs.print_page(asked)
    assert capsys.readouterr().out == (ROOT / "docs" / "how-to" / "doctor.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("how-to/doctr", "did you mean 'how-to/doctor'?"), ("docter", "did you mean 'doctor'?"), ("zzz", "'zzz'")],
)
def test_an_unknown_page_is_answered_with_the_nearest(asked: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^`page` must be one of those that `letsam docs` lists, got ") as raised:
        docs.print_page(asked)
    assert str(raised.value).endswith(hint)


def on_a_terminal(page: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is printed of a page where stdout is a terminal."""
    outer, inner = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with os.fdopen(inner, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        docs.print_page(page)
        terminal.flush()
        return os.read(outer, 1 << 16).decode()


def test_a_terminal_shows_it_formatted_with_links_as_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n**bold**, [radii](radii.md#x), [top](../speed.md), ![a figure](a.png), [web](http://w)\n"
    )
    monkeypatch.setattr(docs, "pages", lambda: {"how-to/page": page})
    shown = on_a_terminal("page", monkeypatch)
    assert "\x1b[" in shown
    assert "**bold**" not in shown
    for text in ("letsam docs how-to/radii", "letsam docs speed", "a figure", "web"):
        assert text in shown, shown
    monkeypatch.setitem(sys.modules, "rich.console", None)
    plain = on_a_terminal("page", monkeypatch)
    assert "**bold**, radii (`letsam docs how-to/radii`), top (`letsam docs speed`)" in plain


def test_without_a_terminal_nothing_of_rich_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    docs.print_page("overview")
    assert capsys.readouterr().out.startswith("# ")


@pytest.mark.parametrize("page", sorted({*PAGES.values(), *PAGES_OF_FINDINGS.values(), "how-to/doctor"}))
def test_the_pages_of_errors_and_findings_exist(page: str) -> None:
    assert page in ALL


def test_errors_belong_to_modules_that_exist() -> None:
    source = Path(letsam.__file__).parent
    for name in PAGES:
        place = source.joinpath(*name.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


def network_and_optimizer(**options: Any) -> tuple[torch.nn.Module, letsam.SAM]:
    model = torch.nn.Linear(2, 1)
    return model, letsam.SAM(torch.optim.SGD(model.parameters(), lr=0.1), **options)


def raised_by(call: Any) -> str:
    try:
        call()
    except Exception as error:
        written = io.StringIO()
        traceback.print_exception(error, file=written)
        return written.getvalue()
    pytest.fail("nothing was raised")


def test_an_error_of_the_optimizer_names_its_page_below_the_traceback() -> None:
    model, opt = network_and_optimizer(rho=letsam.LearnedRadius(0.05))

    def closure() -> Any:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    cases = {
        "how-to/plain-loop": lambda: opt.step(closure),
        "base-optimizers": lambda: letsam.SAM(model.parameters(), rho=0.1),  # pyright: ignore[reportArgumentType]
        "how-to/radii": lambda: network_and_optimizer(rho="large"),
        "how-to/distributed": lambda: network_and_optimizer(process_group=3),
    }
    for page, call in cases.items():
        last = raised_by(call).splitlines()[-1]
        assert last == f"explained by: letsam docs {page}"
    by_hand = network_and_optimizer()[1]
    assert raised_by(by_hand.descent_step).splitlines()[-1] == "explained by: letsam docs how-to/plain-loop"


def test_an_error_of_the_users_own_code_is_left_as_it_is() -> None:
    _, opt = network_and_optimizer()

    def closure() -> Any:
        raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="own") as raised:
        opt.step(closure)
    assert not any("letsam docs" in note for note in raised.value.__notes__)


def test_findings_name_their_page() -> None:
    model, opt = network_and_optimizer(rho=letsam.LearnedRadius(0.05))

    def closure() -> Any:
        loss = model(torch.ones(4, 2)).square().mean()
        loss.backward()
        return loss

    found = {finding.code: finding for finding in letsam.check(opt, closure)}
    assert found["no-validation-closure"].page == "how-to/plain-loop"
    assert found["gradients-not-cleared"].page == "how-to/doctor"
    assert str(found["gradients-not-cleared"]).endswith(" [gradients-not-cleared; letsam docs how-to/doctor]")
