"""The benchmark of the expected accuracy: its methods against their definitions, and the page is what the rows say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.confidence import benchmark
from benchmarks.confidence.benchmark import CHANGED, MIXED, SAME, Confidence, Expected, errors
from benchmarks.confidence.estimators import average_thresholded, transported
from benchmarks.confidence.shifts import SETTINGS, Labelled, shifts_of
from benchmarks.harness import DOCS, Unit

RESULTS = "evidence/confidence.json"


def test_the_page_is_what_its_command_makes(tmp_path: Path) -> None:
    confidence = Confidence(tmp_path)
    rows = Confidence().read()
    confidence.write(rows)
    assert (tmp_path / RESULTS).read_bytes() == (DOCS / RESULTS).read_bytes()
    confidence.make_page()
    page = (tmp_path / "expected-accuracy.md").read_text()
    assert page == (DOCS / "expected-accuracy.md").read_text()
    assert {row.setting for row in rows} == set(SETTINGS)
    assert {row.key for row in rows} == {key for unit in Confidence().units() for key in unit.keys}


def test_the_numbers_of_the_how_to() -> None:
    text = " ".join((DOCS / "how-to" / "watch.md").read_text(encoding="utf-8").split())
    found = re.search(
        r"Over (\d+) batches of four tasks .* off by ([\d.]+) points on average and by up to (\d+),", text
    )
    assert found is not None
    off = errors([row for row in Confidence().read() if row.kind == CHANGED])
    assert found.groups() == (str(len(off)), f"{np.mean(np.abs(off)):.1f}", f"{max(off):.0f}")


def test_the_methods() -> None:
    stream = np.random.default_rng(0)
    held_out, right = np.linspace(0, 1, 101), (np.arange(101) >= 20).astype(float)
    assert average_thresholded(held_out, right, np.array([0.1, 0.19, 0.2, 0.5])) == 0.5
    assert average_thresholded(held_out, np.ones(101), held_out) == 1.0
    assert average_thresholded(held_out, np.zeros(101), held_out) == 0.0
    sure = np.eye(2)[stream.integers(0, 2, 200)]
    share = sure.mean(axis=0)
    assert transported(sure, share) == pytest.approx(1.0)
    assert transported(sure, share[::-1]) == pytest.approx(1 - abs(share[0] - share[1]), abs=0.01)
    assert transported(np.tile([0.9, 0.1], (200, 1)), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_a_unit_has_a_row_for_each_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is sure and wrong under a shift: the errors of each method are those of their formulas."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (400,), generator=generator)
    outputs = 4 * torch.nn.functional.one_hot(targets, 3) + torch.randn(400, 3, generator=generator)

    def predicted(name: str, seed: int) -> tuple[Labelled, Iterator[tuple[str, Labelled]]]:
        later = [("none", outputs), ("labels:1", outputs[:50]), ("noise:5", outputs.roll(1, 1))]
        return Labelled(outputs, targets), ((shift, Labelled(made, targets[: len(made)])) for shift, made in later)

    monkeypatch.setattr(benchmark, "predicted", predicted)
    rows = Confidence().measure(Unit("digits/0", (), ("digits", 0)))
    assert [row.kind for row in rows] == [SAME, MIXED, CHANGED]
    assert [row.samples for row in rows] == [400, 50, 400]
    assert rows[0].expected == pytest.approx(rows[0].accuracy)
    assert rows[2].accuracy < 0.1
    assert rows[2].expected == pytest.approx(rows[0].expected)
    assert rows[2].low > rows[2].accuracy
    assert errors(rows[2:])[0] > 80
    text = benchmark.conclusion(rows)
    assert "**The inputs have changed** (1 batches)" in text
    assert "in 0 of them" in " ".join(text.split())


def test_the_verdict_follows_from_the_rows() -> None:
    def row(shift: str, expected: float, thresholded: float, transport: float) -> Expected:
        return Expected("digits", shift, 0, 100, 0.5, expected, 0.4, 0.9, 0.99, thresholded, transport)

    rows = [row("none", 0.51, 0.52, 0.7), row("noise:5", 0.8, 0.9, 0.6)]
    assert benchmark.verdict(rows).startswith("No other method is better in both cases")
    assert "COT is off by 10.0 and 20.0" in benchmark.verdict(rows)
    rows = [row("none", 0.51, 0.51, 0.7), row("noise:5", 0.8, 0.6, 0.9)]
    assert benchmark.verdict(rows).startswith("ATC would be better")
    rows = [row("none", 0.51, 0.51, 0.5), row("noise:5", 0.5, 0.6, 0.9)]
    assert benchmark.verdict(rows).startswith("None of the others is better")


@pytest.mark.parametrize("name", SETTINGS)
def test_shifts_are_named_once(name: str) -> None:
    shifts = shifts_of(name)
    assert len(set(shifts)) == len(shifts) > 10
    assert all("/" not in shift for shift in shifts)
