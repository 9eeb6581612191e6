"""What should a learned radius do once the held-out data are given back? `python tools/after_release.py [SEEDS]`.

On digits with 0, 40 and 60% wrong labels: learned to the end, with its refit, and given back after 50% or 70% of the
epochs with a radius that stays, goes to its prior, or goes on as it has moved before. Prints a table for
docs/how-to/refit.md.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import torch
from torch import Tensor

from letsam.radius import Ascent, LearnedRadius
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind, Method, register
from letsam.variants import SAM


class ToThePrior(LearnedRadius):
    """After `until`, the radius of the prior."""

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        rho = super().at(ascent)
        if self.until is not None and ascent.step >= self.until:
            log_radius, _ = self.rule.log_highest(self.reach, ascent.step, False)  # pyright: ignore[reportAttributeAccessIssue]
            self._used = rho = log_radius.exp().clamp(*self.rule.bounds)
        return rho


class AsItMoved(LearnedRadius):
    """After `until`, log(rho) goes on at its mean rate in the second half of the steps before."""

    halfway: Tensor | None = None

    def at(self, ascent: Ascent) -> Tensor:
        """The radius of this step."""
        rho = super().at(ascent)
        if self.until is None:
            return rho
        half = self.until // 2
        if ascent.step == half:
            self.halfway = rho
        if ascent.step >= self.until and self.halfway is not None:
            slope = (rho / self.halfway).log() / (self.until - half)
            self._used = rho = (rho * (slope * (ascent.step - self.until)).exp()).clamp(*self.rule.bounds)
        return rho


AFTER = {"stays": "lets-sam", "goes to its prior": "lets-sam-prior", "goes on as before": "lets-sam-moving"}


def accuracy(
    noise: float, seed: int, method: str = "lets-sam", release: float | None = None, refit: bool = False
) -> float:
    """Test accuracy in percent."""
    task = load_task("digits")
    config = TrialConfig(task="digits", label_noise=noise, release=release).for_task(task)
    searched = None
    for again in (False, True) if refit else (False,):
        training = Training(task, Method.parse(method), seed, config, make_fabric("cpu"), searched if again else None)
        while not training.finished:
            training.advance()
        searched = training.result()
    assert searched is not None
    return 100 * searched.test_accuracy


def main(seeds: int = 5) -> None:
    """Measure, and print each row as it is finished."""
    torch.set_num_threads(1)
    for name, radius in (("lets-sam-prior", ToThePrior), ("lets-sam-moving", AsItMoved)):
        if name not in KINDS:
            register(name, Kind(name, SAM, radius))
    rows: dict[str, dict[str, Any]] = {"learned to the end": {}, "learned to the end, refit": {"refit": True}}
    for share in (0.5, 0.7):
        for after, method in AFTER.items():
            rows[f"given back after {share:.0%}, the radius {after}"] = {"method": method, "release": share}
    print("| | 0% | 40% | 60% wrong labels |\n| --- | ---: | ---: | ---: |")
    for title, options in rows.items():
        cells = []
        for noise in (0.0, 0.4, 0.6):
            found = [accuracy(noise, seed, **options) for seed in range(seeds)]
            cells.append(f"{statistics.mean(found):.1f} ± {statistics.stdev(found) if seeds > 1 else 0:.1f}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
