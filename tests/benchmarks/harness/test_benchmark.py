"""Running, resuming, forgetting and the page, on a benchmark made up for the purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.harness import Benchmark, Unit
from benchmarks.harness.benchmark import missing
from letsam.tasks import TaskError

SETTINGS = {"near": (1, 2), "far": (0,), "away": (3,)}


@dataclass(frozen=True)
class Row:
    key: str
    value: float


class Squares(Benchmark[Row]):
    """Pairs of squares; `far` fails, and for `away` there is no data."""

    name, row, head, digits = "squares", Row, {"schema": 1}, 3
    settings = SETTINGS

    def __init__(self, docs: Path) -> None:
        super().__init__(docs)
        self.measured: list[str] = []

    def units(self) -> list[Unit]:
        pairs = [(name, number) for name, numbers in self.settings.items() for number in numbers]
        return [Unit(f"{n}/{i}", (f"{n}/{i}/plain", f"{n}/{i}/negative"), i) for n, i in pairs]

    def measure(self, unit: Unit) -> list[Row]:
        self.measured.append(unit.name)
        if unit.name.startswith("away"):
            raise TaskError("the data is away")
        value = 2 / (3 * unit.work)
        return [Row(key, sign * value) for key, sign in zip(unit.keys, (1, -1), strict=True)]

    def sections(self, rows: Sequence[Row]) -> Mapping[str, object]:
        return {}


@pytest.fixture
def squares(tmp_path: Path) -> Squares:
    return Squares(tmp_path)


NEAR = ["near/1", "near/2"]


def test_every_unit_is_kept_at_once_and_what_is_kept_is_not_measured_again(squares: Squares) -> None:
    units = squares.units()
    squares.run(units[1:2])
    assert [row.key for row in squares.read()] == ["near/2/plain", "near/2/negative"]
    squares.run(units[:2])
    assert squares.measured == ["near/2", "near/1"]
    content = json.loads((squares.docs / "evidence" / "squares.json").read_text())
    assert content["schema"] == 1
    assert [row["key"] for row in content["runs"]] == [key for unit in units[:2] for key in unit.keys]
    assert content["runs"][0]["value"] == 0.667
    squares.run(units[:2], again=True)
    assert squares.measured == ["near/2", "near/1", "near/1", "near/2"]
    assert len(squares.read()) == 4


def test_a_unit_half_of_which_is_missing_is_measured(squares: Squares) -> None:
    units = squares.units()
    squares.run(units[:2])
    squares.write([row for row in squares.read() if row.key != "near/1/negative"])
    assert missing(units[:2], squares.read()) == units[:1]


def test_what_fails_is_named_once_and_the_rest_is_measured(
    squares: Squares, capsys: pytest.CaptureFixture[str]
) -> None:
    units = squares.units()
    assert squares.run([units[3], units[2], units[3], *units[:2]]) == 3
    errors = capsys.readouterr().err.splitlines()
    reasons = ["not measured: the data is away", "not measured: far/0: ZeroDivisionError: division by zero"]
    assert errors == [*reasons, "3 units could not be measured"]
    assert {row.key.rpartition("/")[0] for row in squares.read()} == set(NEAR)


def test_status_and_forgetting(squares: Squares) -> None:
    units = squares.units()
    squares.run(units[:2])
    assert [line.split() for line in squares.status(units)] == [["near", "2/2"], ["far", "0/1"], ["away", "0/1"]]
    assert squares.forget(units[1:2]) == 2
    assert [unit.name for unit in missing(units, squares.read())] == ["near/2", "far/0", "away/3"]
    assert squares.forget(units[:1]) == 2
    assert not list((squares.docs / "evidence").iterdir())


def test_rows_that_do_not_fit_count_as_missing(squares: Squares, monkeypatch: pytest.MonkeyPatch) -> None:
    units = squares.units()
    squares.run(units[:2])
    monkeypatch.setattr(Squares, "fits", lambda self, row: row.key.startswith("near/1"))
    assert [unit.name for unit in missing(units[:2], squares.read())] == ["near/2"]
