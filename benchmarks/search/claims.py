"""The results of an idea; the claims of the search (claims.toml), and whether the results agree with them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from benchmarks.harness import Row
from benchmarks.harness.page import filled

ACCURACY, FROM_ONE, SPREAD, RADIUS = "accuracy", "accuracy from the start 1", "spread", "radius"
LOWER, HIGHER, NOT_HIGHER = "lower", "higher", "not higher"
ROUNDING = 0.01  # points; less than one answer of the test set


@dataclass(frozen=True)
class Tried(Row):
    """One idea, or one radius of the grid, on one setting; [start][seed], and the grid has one "start"."""

    parts: ClassVar = ("name", "setting")

    setting: str
    name: str  # of the idea or of the radius
    epochs: int  # of every training
    accuracy: list[list[float]]  # test accuracy in percent after training on all data
    held_out: list[list[float]]  # the same after training on what is not held out; none for the grid
    rho: list[list[float]]  # [start][moment], geometric mean over the seeds at `MOMENTS`; none for the grid

    def values(self, measure: str) -> list[float]:
        """One number per seed; for RADIUS one per start."""
        if measure == RADIUS:
            return [moments[1] for moments in self.rho]
        by_seed = list(zip(*self.accuracy, strict=True))
        if measure == FROM_ONE:
            return [starts[-1] for starts in by_seed]
        if measure == SPREAD:
            return [max(starts) - min(starts) for starts in by_seed]
        return [fmean(starts) for starts in by_seed]

    @property
    def mean(self) -> float:
        """Accuracy over seeds and starts."""
        return fmean(self.values(ACCURACY))


@dataclass(frozen=True)
class Claim:
    """An idea compared with another, usually the default; claims.toml documents the fields."""

    text: str
    idea: str
    measure: str
    direction: str
    settings: list[str]
    than: str = "default"


@dataclass(frozen=True)
class Answer:
    """How far the results agree with a claim on one setting."""

    setting: str  # the setting
    change: float  # mean difference in points; for RADIUS the mean factor
    agree: int  # comparisons that go the way claimed
    count: int  # comparisons: seeds, or starts for RADIUS


CLAIMS = [Claim(**one) for one in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["claims"]]


def answers(claim: Claim, rows: Sequence[Tried]) -> list[Answer]:
    """An answer for every setting of the claim on which both ideas are measured."""
    found = {(row.setting, row.name): row for row in rows}
    said: list[Answer] = []
    for setting in claim.settings:
        row, base = found.get((setting, claim.idea)), found.get((setting, claim.than))
        if row is None or base is None:
            continue
        pairs = list(zip(row.values(claim.measure), base.values(claim.measure), strict=True))
        margin = 0 if claim.measure == RADIUS else ROUNDING
        ups, downs = sum(a > b + margin for a, b in pairs), sum(a < b - margin for a, b in pairs)
        agree = {HIGHER: ups, NOT_HIGHER: len(pairs) - ups, LOWER: downs}[claim.direction]
        change = fmean(a / b if claim.measure == RADIUS else a - b for a, b in pairs)
        said.append(Answer(setting, change, agree, len(pairs)))
    return said


def answered(rows: Sequence[Tried]) -> str:
    """A list item for each claim that the results can test."""
    lines: list[str] = []
    for claim in CLAIMS:
        if said := answers(claim, rows):
            seen = [one.agree == one.count for one in said]
            verdict = "seen" if all(seen) else "seen in part" if any(seen) else "not seen"
            than = "" if claim.than == "default" else f", against *{claim.than}*"
            numbers = "; ".join(_one(claim, one) for one in said)
            lines.append(filled(f"- **{claim.text}**: {verdict} ({claim.measure}{than}). {numbers}."))
    return "\n".join(lines)


def _one(claim: Claim, one: Answer) -> str:
    change = f"x{one.change:.2f}" if claim.measure == RADIUS else f"{one.change:+.1f}"
    return f"{one.setting} {change} ({one.agree} of {one.count})"
