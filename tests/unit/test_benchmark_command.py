"""The command line that the benchmarks share."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from benchmarks import command

PROGRAMS = sorted(path.parent.name for path in Path(command.__file__).parent.glob("*/__main__.py"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], list("abc")), (["x"], ["a", "b"]), (["x/2", "x"], ["b", "a"]), (["y/1"], ["c"])],
)
def test_a_part_stands_for_its_pieces(names: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("sys.argv", ["speed", "run", *names])
    pieces = {"x/1": "a", "x/2": "b", "y/1": "c"}
    command.main("benchmarks.speed", "Docs.", "pieces", pieces, lambda *told: seen.append(told), lambda: None)
    assert seen == [(expected, False)]


def test_a_part_that_there_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["speed", "run", "few", "few-large"])
    with pytest.raises(SystemExit):
        command.main("benchmarks.speed", "Docs.", "pieces", {"few-large/SAM": 1}, lambda *told: None, lambda: None)
    assert "unknown pieces few, expected few-large/SAM" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--again", "x"], ["x", "--again"]])
def test_again_stands_before_or_after_the_names(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("sys.argv", ["speed", "run", *arguments])
    command.main("benchmarks.speed", "Docs.", "pieces", {"x": 1}, lambda *told: seen.append(told), lambda: None)
    assert seen == [([1], True)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_benchmark_has_its_help(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{program}", run_name="__main__")
    assert not ended.value.code
    assert f"usage: python -m benchmarks.{program}" in capsys.readouterr().out


def test_a_name_with_a_percent_sign_and_a_comma_in_the_help() -> None:
    assert command.of(["share 20%", "one weight, 0.1"]) % {} == "of share 20%; one weight, 0.1"
