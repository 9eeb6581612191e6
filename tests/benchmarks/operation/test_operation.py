"""The benchmark of a year of operation: what happens in a year, and the page is what the results say."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from benchmarks.harness import DOCS
from benchmarks.operation import findings, worlds, year
from benchmarks.operation.benchmark import Operation
from benchmarks.operation.worlds import CLASSES, MONTHS, WORLDS, World
from benchmarks.operation.year import BASE, COMMAND, MONTHLY, NEVER, OLD, POLICIES, RETUNED, Begun, Month

RESULTS = "evidence/operation.json"


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    operation = Operation(tmp_path)
    operation.write(Operation().read())
    operation.make_page()
    assert (tmp_path / "drifting-world.md").read_text() == (DOCS / "drifting-world.md").read_text()
    assert (tmp_path / "images" / "drifting-world.png").stat().st_size > 10_000


def test_the_results_survive_a_round_trip(tmp_path: Path) -> None:
    rows = Operation().read()
    operation = Operation(tmp_path)
    assert operation.read() == []
    operation.write(rows[::-1])
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()
    assert {row.key for row in rows} <= {key for unit in Operation().units() for key in unit.keys}


def test_every_policy_is_measured_in_both_worlds_and_the_watch_in_worlds_without_drift() -> None:
    units = {unit.work[:2] for unit in Operation().units()}
    assert {policy for name, policy in units if name == "images"} == set(POLICIES)
    assert {policy for name, policy in units if name == "flights"} == set(POLICIES)
    assert {policy for name, policy in units if name.startswith("calm")} == {NEVER}
    assert {BASE, OLD, RETUNED} == set(MONTHLY)


def table_of(folder: Path, seed: int, train: int, monthly: int) -> tuple[Path, list[Path]]:
    """Rows of two classes that a line divides; from the fourth month on, the other way round."""
    random = np.random.default_rng(seed)
    places = [folder / "training.csv", *(folder / f"month-{number:02}.csv" for number in range(1, MONTHS + 1))]
    for number, place in enumerate(places):
        size = monthly if number else train
        frame = pandas.DataFrame(random.normal(size=(size, 3)), columns=["a", "b", "c"])
        right = (frame["a"] > 0) == (number < 4)
        if number >= 4:
            frame["b"] += 4
        frame.assign(target=np.where(right, "yes", "no")).to_csv(place, index=False)
    return places[0], places[1:]


TINY = World("tiny", "rows", table_of, 200, 60, ("--target", "target", "--epochs", "10"), None, 1)


@pytest.fixture(scope="module")
def tiny() -> Begun:
    """A year that has begun."""
    return year.begun(TINY, 0)


def test_a_model_that_is_never_trained_again_is_watched(tiny: Begun) -> None:
    found = year.operated("tiny", NEVER, 0, dataclasses.replace(tiny, months=tiny.months[:6]))
    assert [row.month for row in found] == [*range(1, 7)]
    assert {row.version for row in found} == {1}
    assert [row.retuned for row in found] == [None] * 6
    assert found[0].accuracy > 0.85
    assert found[5].accuracy < 0.2
    assert found[2].drift == []
    assert "drift_auc" in (found[3].drift or [])
    assert found[0].late is None
    assert found[3].late == []
    assert "accuracy" in (found[4].late or []), "the labels of the fourth month come in the fifth"


def test_labels_are_late_and_three_months_of_them_are_seen(tiny: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def joined(parts: Any, place: Path) -> Path:
        seen.append([part.stem for part in parts])
        return worlds.joined(parts, place)

    monkeypatch.setattr(year, "joined", joined)
    found = year.operated("tiny", RETUNED, 0, dataclasses.replace(tiny, months=tiny.months[:6]))
    assert seen[0] == ["month-01"]
    assert seen[-1] == ["month-03", "month-04", "month-05"]
    assert [row.version for row in found] == [1, 1, 2, 3, 4, 5]
    assert found[0].drift is None
    assert found[1].retuned == "replaced"
    assert found[1].passes > 0
    assert found[2].rho is not None


@pytest.mark.parametrize("policy", [BASE, OLD])
def test_a_policy_trains_its_challenger_alone(policy: str, tiny: Begun) -> None:
    found = year.operated("tiny", policy, 0, dataclasses.replace(tiny, months=tiny.months[:4]))
    first = found[0].rho
    assert found[-1].version == 3
    assert found[-1].rho == (None if policy == BASE else pytest.approx(first, rel=1e-3))


def test_the_command_waits_for_an_alarm_and_for_three_months_after_a_verdict(tiny: Begun) -> None:
    found = year.operated("tiny", COMMAND, 0, dataclasses.replace(tiny, months=tiny.months[2:10]))
    asked = [row.month for row in found if row.retuned]
    assert asked[0] == 2, "the first month with drift"
    assert all(later - earlier >= 3 for earlier, later in itertools.pairwise(asked))
    assert {row.retuned for row in found if row.retuned} <= {"go", "no-go"}
    for before, after in itertools.pairwise(found):
        assert after.version - before.version == (before.retuned == "go")


def test_months_of_images_follow_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    pixels, targets = torch.rand(6000, 1, 8, 8, generator=generator), torch.arange(6000) % 10
    monkeypatch.setattr(worlds, "_clothes", lambda: (pixels, targets))
    training, months = worlds.images(tmp_path, 0, 50, 100)
    counts = [{name: len(list((place / name).glob("*.png"))) for name in CLASSES} for place in months]
    assert [sum(one.values()) for one in counts] == [100] * MONTHS
    assert len(list(training.rglob("*.png"))) == 50
    coats = [one["Coat"] - one["Dress"] for one in counts]
    assert sum(coats[6:]) > sum(coats[:6]) + 60
    calm = worlds.images(tmp_path / "calm", 0, 50, 100, calm=True)[1]
    assert (calm[0] / "Coat").exists()
    assert abs(sum(len(list((p / "Coat").glob("*"))) - len(list((p / "Dress").glob("*"))) for p in calm)) < 60
    assert len(list(worlds.joined(months[:3], tmp_path / "some").rglob("*.png"))) == 300


def test_flights_are_in_the_order_of_time_unless_without_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas.DataFrame({"hour": np.arange(1300), "late": "late", "period": np.arange(1300) // 100})
    monkeypatch.setattr(worlds, "_flights", lambda: frame)
    training, months = worlds.flights(tmp_path, 0, 20, 30)
    assert pandas.read_csv(training)["hour"].between(0, 99).all()
    assert pandas.read_csv(months[4])["hour"].between(500, 599).all()
    assert len(pandas.read_csv(months[4])) == 30
    (tmp_path / "calm").mkdir()
    mixed = pandas.read_csv(worlds.flights(tmp_path / "calm", 0, 20, 30, calm=True)[1][4])["hour"].tolist()
    assert min(mixed) < 400


def month(policy: str, number: int, accuracy: float, **more: Any) -> Month:
    values = {"drift": None, "late": None, "retuned": None, "expected": None, "rho": None, **more}
    return Month("images", policy, 0, number, 1, values.pop("rho"), 0.9, accuracy, passes=10, seconds=1.0, **values)


def test_tables_count_alarms_by_what_is_known_of_the_months() -> None:
    """A false alarm in month 2, true ones from month 5 on; the labels come a month later."""
    drift = [["drift_auc"] if number == 2 or number > 4 else [] for number in range(1, 13)]
    late = [None, *([["accuracy"] if number > 5 else [] for number in range(2, 13)])]
    rows = [
        month(NEVER, n, 0.5 + n / 100, drift=d, late=one) for n, d, one in zip(range(1, 13), drift, late, strict=True)
    ]
    rows += [month(BASE, n, 0.6 + n / 100, retuned="replaced") for n in range(1, 13)]
    years = findings.Years.of("images", WORLDS["images"], rows)
    lines = findings.alarm_table([years]).splitlines()
    assert lines[2].endswith("| 1 | 3 | 1 of 3 | 0 of 3 | 0 of 3 |")
    assert lines[3].endswith("| 1 | 9 | 8 of 9 | 0 of 9 | 7 of 8 |")
    assert years.gains(BASE, NEVER) == pytest.approx([10] * 12)
    assert "| base optimizer minus never | 12 | **+10.0" in findings.pairs_table(years)
    assert "| base optimizer | 1 | **66.5** | 62.0 | 65.0 | 68.0 | 71.0 | 0.0 | 120 | 12 |" in (
        findings.accuracy_table(years)
    )
    assert findings.Years.of("images", WORLDS["images"], rows[1:]).found.keys() == {BASE}, "an unfinished year"


def test_false_alarms_are_counted_in_worlds_without_drift() -> None:
    rows = [month(NEVER, n, 0.9, drift=["drift_auc"] if n == 7 else [], late=[]) for n in range(1, 13)]
    rows = [dataclasses.replace(row, world="calm-images") for row in rows]
    calm = findings.Years.of("calm-images", WORLDS["calm-images"], rows)
    assert "1 in 12 months without drift; 1 of 1 watches had any" in findings.conclusion([], [calm]).replace("\n ", "")


def test_the_first_paragraph_follows_from_the_rows() -> None:
    """Its words turn with the numbers, so that new rows cannot contradict it."""

    def told(base: float, command: float) -> str:
        noise = [0.002 * (-1) ** n for n in range(1, 13)]
        shares = {NEVER: 0.7, BASE: base, OLD: base, RETUNED: base, COMMAND: command}
        rows = [
            month(policy, n, share + (0 if policy == NEVER else noise[n - 1]), expected=0.8)
            for policy, share in shares.items()
            for n in range(1, 13)
        ]
        return " ".join(str(findings.sections(rows, {"images": WORLDS["images"]})["lead"]).split())

    assert told(0.75, 0.7).startswith(
        "**Re-training each month paid among the clothes (+5.0 points of accuracy).** The re-tuned radius did not "
        "differ from the base optimizer by more than chance (+0.0 points) among the clothes."
    )
    assert "cost accuracy among the clothes (-5.0 points)" in told(0.65, 0.7)
    assert "brought nothing that could be shown among the clothes (+0.0 points)" in told(0.7, 0.7)
    assert "`letsam retune` did not change beyond chance the accuracy of the clothes (+0.0 points)." in told(0.7, 0.7)
    assert "`letsam retune` changed the accuracy of the clothes (+4.0 points)." in told(0.7, 0.74)
    rows = [month(NEVER, n, 0.7, expected=0.8, drift=["drift_auc"] if n > 6 else []) for n in range(1, 13)]
    years = findings.Years.of("images", WORLDS["images"], rows)
    assert findings.watched(years) == (
        "- **The watch of the clothes** had an alarm of the inputs in 0 of the 3 months before the drift and 6 of the "
        "9 months with drift. The accuracy that it expected without labels was too high in 12 of 12 months, by +10.0 "
        "points as a mean over all of them."
    )
    assert findings.sections([], WORLDS)["lead"] == "**Nothing is measured yet.**"
