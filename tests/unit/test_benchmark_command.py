"""The command line that the benchmarks share."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks import command


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
