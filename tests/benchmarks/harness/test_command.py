"""The command line that the benchmarks share."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.evidence.benchmark import Evidence
from benchmarks.harness import Unit, main
from benchmarks.harness.command import chosen
from benchmarks.search.benchmark import Search
from benchmarks.speed.benchmark import Speed

PROGRAMS = sorted(path.parent.name for path in Path(harness.__file__).parents[1].glob("*/__main__.py"))
UNITS = [Unit(name, (name,)) for name in ("x/1", "x/2", "xy/1", "z/1/0")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ["x/1", "x/2", "xy/1", "z/1/0"]),
        (["x"], ["x/1", "x/2"]),  # the first part, not how another one begins
        (["x/2", "x"], ["x/2", "x/1"]),
        (["xy", "x/1"], ["xy/1", "x/1"]),
        (["z/1"], ["z/1/0"]),
        (["x/"], ["x/1", "x/2"]),
    ],
)
def test_a_name_stands_for_the_units_that_begin_with_it(names: list[str], expected: list[str]) -> None:
    assert [unit.name for unit in chosen(names, UNITS)] == expected


def test_a_name_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(Speed, ["run", "large", "few-large"])
    assert "unknown name 'large', expected how one begins: whole, forward, few-large" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--again", "default"], ["default", "--again"]])
def test_again_stands_before_or_after_the_names(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[Unit], bool]] = []
    monkeypatch.setattr(Search, "run", lambda self, units, again, jobs: seen.append((units, again)))
    main(Search, ["run", *arguments])
    ((units, again),) = seen
    assert again
    assert [unit.name for unit in units] == [f"default/{name}" for name in Search.settings]


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--seeds", "0"]])
def test_numbers_that_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(Evidence, ["run", *arguments])
    assert f"`{arguments[0][2:]}` must be a whole number >= 1, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_benchmark_has_its_help(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"benchmarks.{program}", run_name="__main__")
    assert not ended.value.code
    text = capsys.readouterr().out
    assert f"usage: python -m benchmarks.{program}" in text
    assert f"python -m benchmarks.{program} table" in text
    kind = getattr(importlib.import_module(f"benchmarks.{program}.benchmark"), program.capitalize())
    assert f"docs/{kind.page or program}.md" in text
