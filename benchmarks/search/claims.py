"""What the search was meant to show, each claim in a form that the record answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.search.record import Row

ACCURACY, FROM_ONE, SPREAD, RADIUS = "accuracy", "accuracy from the start 1", "spread", "radius"
LOWER, HIGHER, NOT_HIGHER = "lower", "higher", "not higher"


@dataclass(frozen=True)
class Claim:
    """An idea against another, usually the default.

    Attributes:
        text: the claim.
        idea: the one it is about.
        measure: ACCURACY (refit, mean over the starts), FROM_ONE, SPREAD (between the starts, of one seed) or RADIUS
            (at half of the run; one value a start).
        direction: LOWER, HIGHER or NOT_HIGHER.
        settings: where it should show.
        than: the idea that it is compared with.
    """

    text: str
    idea: str
    measure: str
    direction: str
    settings: tuple[str, ...]
    than: str = "default"


@dataclass(frozen=True)
class Answer:
    """What the record says to a claim on one setting.

    Attributes:
        setting: the setting.
        change: mean difference in points; for RADIUS the mean factor.
        agree: comparisons that go the way claimed.
        count: comparisons: seeds, or starts for RADIUS.
    """

    setting: str
    change: float
    agree: int
    count: int

    @property
    def seen(self) -> bool:
        """All go the way claimed."""
        return self.agree == self.count


NOISY = ("digits-0.2", "digits-0.4", "fashion-0.4", "deep-0.4")
ROUNDING = 0.01  # points; less than one answer of the test set
CLAIMS = (
    Claim("Cosines make late slopes count under noise; plain ones fade", "not normalized", ACCURACY, LOWER, NOISY),
    Claim("Without a prior the start shows more in the end", "no prior", SPREAD, HIGHER, ("digits-0.0", *NOISY)),
    Claim("A quadratic prior is too strong under noise", "quadratic prior", ACCURACY, LOWER, NOISY),
    Claim("With one weight of 0.1 the radius is smaller", "one weight, 0.1", RADIUS, LOWER, NOISY),
    Claim("That costs accuracy under noise", "one weight, 0.1", ACCURACY, LOWER, NOISY),
    Claim("One weight of 0.7 holds it down under noise", "one weight, 0.7", ACCURACY, LOWER, NOISY),
    Claim("Without a burn-in a deep network may never start from 1", "no burn-in", FROM_ONE, LOWER, ("deep-0.4",)),
    Claim("A ramp helps the dead start too", "ramp instead of burn-in", FROM_ONE, HIGHER, ("deep-0.4",), "no burn-in"),
    Claim(
        "The burn-in is no worse than the ramp",
        "ramp instead of burn-in",
        ACCURACY,
        NOT_HIGHER,
        ("digits-0.4", "fashion-0.4", "deep-0.4"),
    ),
    Claim(
        "A prior that is whole at once drives the starts apart",
        "whole prior in the burn-in",
        SPREAD,
        HIGHER,
        ("fashion-0.0", "fashion-0.4", "deep-0.4"),
    ),
    Claim(
        "A calibrated loss weakens the signal under noise: smaller radii",
        "calibrated validation loss",
        RADIUS,
        LOWER,
        NOISY,
    ),
    Claim("A calibrated loss costs accuracy under noise", "calibrated validation loss", ACCURACY, LOWER, NOISY),
    Claim("Steering by the expected error costs accuracy under noise", "expected error", ACCURACY, LOWER, NOISY),
    Claim(
        "A prior by relative ascent is better on digits with noise",
        "prior by relative ascent",
        ACCURACY,
        HIGHER,
        ("digits-0.2", "digits-0.4"),
    ),
    Claim(
        "A prior by relative ascent is worse on clean Fashion-MNIST and the deep network",
        "prior by relative ascent",
        ACCURACY,
        LOWER,
        ("fashion-0.0", "deep-0.4"),
    ),
    Claim(
        "Without length invariance the radius grows on clean data",
        "not length-invariant",
        RADIUS,
        HIGHER,
        ("digits-0.0", "fashion-0.0"),
    ),
    Claim(
        "That costs accuracy on Fashion-MNIST and with the deep network",
        "not length-invariant",
        ACCURACY,
        LOWER,
        ("fashion-0.0", "fashion-0.4", "deep-0.4"),
    ),
    Claim("That helps on clean digits", "not length-invariant", ACCURACY, HIGHER, ("digits-0.0",)),
    Claim(
        "The paper's objective in the place of the validation loss is no better",
        "squared gap",
        ACCURACY,
        NOT_HIGHER,
        ("digits-0.0", "digits-0.4"),
    ),
    Claim(
        "A held-out share of 20% is no better", "held-out share 20%", ACCURACY, NOT_HIGHER, ("digits-0.0", "digits-0.4")
    ),
)


def answer(claim: Claim, rows: Sequence[Row]) -> list[Answer]:
    """The answer of every setting of the claim on which both ideas are measured."""
    found = {(row.setting, row.name): row for row in rows}
    answers: list[Answer] = []
    for setting in claim.settings:
        row, base = found.get((setting, claim.idea)), found.get((setting, claim.than))
        if row is None or base is None:
            continue
        pairs = list(zip(values(row, claim.measure), values(base, claim.measure), strict=True))
        margin = 0 if claim.measure == RADIUS else ROUNDING
        ups, downs = sum(a > b + margin for a, b in pairs), sum(a < b - margin for a, b in pairs)
        agree = {HIGHER: ups, NOT_HIGHER: len(pairs) - ups, LOWER: downs}[claim.direction]
        changes = [a / b if claim.measure == RADIUS else a - b for a, b in pairs]
        answers.append(Answer(setting, sum(changes) / len(changes), agree, len(pairs)))
    return answers


def values(row: Row, measure: str) -> list[float]:
    """One number a seed; for RADIUS one a start."""
    if measure == RADIUS:
        return [moments[1] for moments in row.rho]
    by_seed = list(zip(*row.accuracy, strict=True))
    if measure == FROM_ONE:
        return [starts[-1] for starts in by_seed]
    if measure == SPREAD:
        return [max(starts) - min(starts) for starts in by_seed]
    return [sum(starts) / len(starts) for starts in by_seed]
