"""How often the gate `max_drop` passes and fails by the watches: `python tools/rollout_power.py`.

Simulates roll-outs with an accuracy of 90% and looks at them as `letsam rollout` does. Prints the table of
docs/how-to/rollout.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from letsam.operation.watch_difference import MOST_TIMES, DifferenceLook, MeasuredBatch, look_at

ACCURACY, MARGIN, LEVEL = 0.90, 0.02, 0.05
FIRST, LOOKS = 50, 7  # `min_samples`; the last look has 3,200 samples
ROLLOUTS = 3000
GAINS = {-0.02: "-2 points, just too bad", -0.03: "-3 points", 0.0: "none", 0.01: "+1 point"}
SHARES = (0.1, 0.5)


@dataclass(frozen=True)
class Rates:
    """How often the gate has passed and failed, from 0 to 1; else it waits."""

    passes: float
    fails: float


def rates(gain: float, share: float, rollouts: int = ROLLOUTS) -> Rates:
    """Simulate one cell.

    Args:
        gain: true gain of the challenger in accuracy.
        share: of the traffic that it has.
        rollouts: that are simulated.
    """
    stream = np.random.default_rng(0)
    sizes = (round(FIRST * min(max((1 - share) / share, 1.0), MOST_TIMES)), FIRST)
    ends = {"passed": 0, "failed": 0, "waits": 0}
    for _ in range(rollouts):
        old, new = (
            [
                MeasuredBatch(size, int(right) / size, 0.0, 1.0)
                for right in stream.binomial(size, chance, 2 ** (LOOKS - 1))
            ]
            for size, chance in zip(sizes, (ACCURACY, ACCURACY + gain), strict=True)
        )
        ends[_end(old, new, share)] += 1
    return Rates(ends["passed"] / rollouts, ends["failed"] / rollouts)


def _end(old: list[MeasuredBatch], new: list[MeasuredBatch], share: float) -> str:
    for batches in (2**look for look in range(LOOKS)):  # a call in between gives the look before
        found = look_at(old[:batches], new[:batches], "accuracy", first=FIRST, share=share, level=LEVEL)
        assert isinstance(found, DifferenceLook)
        if found.gain[1] >= -MARGIN:
            return "passed"
        if found.gain[2] < -MARGIN:
            return "failed"
    return "waits"


def main() -> None:
    """Print the table."""
    print("| true gain of the challenger | share 10 %: passes | fails | share 50 %: passes | fails |")
    print("|---|---:|---:|---:|---:|")
    for gain, title in GAINS.items():
        cells = [f"{100 * one:.1f} %" for share in SHARES for one in vars(rates(gain, share)).values()]
        print(f"| {' | '.join([title, *cells])} |")


if __name__ == "__main__":
    sys.exit(main())
