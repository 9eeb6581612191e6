"""`letsam doctor`, and the code of its pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from letsam.cli import run
from page_code import blocks_of, run_code

SCRIPT = """
import letsam, torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))

def closure_on(opt, seed):
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))
    def closure():
        opt.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss
    return closure

def optimizer(**options):
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    return letsam.SAM(base, rho=letsam.LearnedRadius(0.05), **options)

def good():
    opt = optimizer(model=model)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 1)
    return opt, closure_on(opt, 0), closure_on(opt, 1), model, scheduler

def by_name():
    opt = optimizer(model=model)
    return {"optimizer": opt, "closure": closure_on(opt, 0), "validation_closure": closure_on(opt, 1)}

def warned():
    opt = optimizer()
    return opt, closure_on(opt, 0), closure_on(opt, 1)

def wrong():
    opt = optimizer()
    return opt, closure_on(opt, 0), closure_on(opt, 0)

def nothing(): pass
def six(): return [1] * 6
def unknown(): return {"optimizer": optimizer(), "closure": None, "loader": 3}
def raising(): raise RuntimeError("no data")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    ("function", "status", "shown"),
    [
        ("good", 0, ["nothing is wrong"]),
        ("by_name", 0, ["nothing is wrong"]),
        ("warned", 0, ["warning", "buffers-move-in-each-pass", "running_mean"]),
        ("wrong", 1, ["error", "same-batch", "warning", "buffers-move-in-each-pass"]),
    ],
)
def test_the_command(
    script: Path, capsys: pytest.CaptureFixture[str], function: str, status: int, shown: list[str]
) -> None:
    assert run(["doctor", f"{script}:{function}"]) == status
    out = capsys.readouterr().out
    assert [out.find(text) for text in shown] == sorted(out.find(text) for text in shown)
    assert all(text in out for text in shown)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("nothing", "must return (optimizer, closure), optionally with more of"),
        ("six", "got [1, 1, 1, 1, 1, 1]"),
        ("unknown", "gives `loader`, expected optimizer, closure, validation_closure, model, scheduler"),
        ("raising", "raised RuntimeError: no data (script.py, line 40)"),
        ("missing", "has no function 'missing'; it has closure_on, optimizer, good"),
    ],
)
def test_the_command_fails_in_one_line(
    script: Path, capsys: pytest.CaptureFixture[str], function: str, says: str
) -> None:
    assert run(["doctor", f"{script}:{function}"]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_the_command_needs_a_file_and_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    for spec, says in (("digits", "must be written path/to/file.py:function"), ("no.py:f", "no.py does not exist")):
        assert run(["doctor", spec]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("page", ["doctor", "compile", "plain-loop"])
def test_the_code_of_the_pages_runs(page: str) -> None:
    blocks = blocks_of(f"docs/how-to/{page}.md")
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:  # each may use the names of those above it
        run_code(block, page, names)
