"""Whether a challenger replaces the model in use: chosen by validation data, decided by the paired test.

The challenger with the lowest mean validation loss is compared with the model in use on the held-out test data. With
shifted tests, the same is done for the mean of the metric over the shifts; it is no go if the challenger is shown to be
worse there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from letsam.decision import FEWEST_SEEDS, Decision, decide
from letsam.operation.champion import CHAMPION
from letsam.results import Results, finite_mean
from letsam.results.predicted import Predictions
from letsam.results.shift_names import mean_over_shifts
from letsam.training.predictions import measure_of

__all__ = ["Promotion", "promotion"]


@dataclass(frozen=True)
class Promotion:
    """The verdict on a challenger.

    Args:
        candidate: its method.
        chosen_by: in words, as in "The method was chosen ...".
        held_out: the verdict on the held-out test data.
        shifted: the verdict on the shifted test data; None: there were none.
    """

    candidate: str
    chosen_by: str
    held_out: Decision
    shifted: Decision | None

    @property
    def verdict(self) -> str:
        """Go or no-go, as a word."""
        return "go" if self.held_out.verdict == "go" and not self.worse_under_shift else "no-go"

    @property
    def worse_under_shift(self) -> bool:
        """Whether the shifted tests show a loss."""
        return self.shifted is not None and self.shifted.upper is not None and self.shifted.upper < 0

    def as_json(self, against: str) -> dict[str, Any]:
        """The field ``verdict`` of ``version.json``; `against` is the fingerprint of the model in use."""
        return {
            "verdict": self.verdict,
            "candidate": self.candidate,
            "against": against,
            "held_out": self.held_out.as_json(),
            "shifted": None if self.shifted is None else self.shifted.as_json(),
        }


def promotion(
    results: Results, predictions: Sequence[Predictions], candidates: Sequence[str], minimum_effect: float
) -> Promotion:
    """Choose among the challengers and decide.

    Args:
        results: with runs of the model in use, `CHAMPION`, and of the challengers, for the same seeds.
        predictions: of these runs.
        candidates: the methods of the challengers.
        minimum_effect: the gain that is worth having, as `letsam.decision.decide` takes it.

    Returns:
        The verdict. It is final: the seeds were planned beforehand.
    """
    losses = {name: _validation_loss(results, name) for name in candidates}
    best = min(losses, key=lambda name: losses[name])
    seeds = len(results.runs_of(best))
    options: dict[str, Any] = {
        "baseline": CHAMPION,
        "candidate": best,
        "minimum_effect": minimum_effect,
        "planned_seeds": max(seeds, FEWEST_SEEDS),
    }
    held_out = decide(results, predictions=predictions, measure=measure_of(results, predictions), **options)
    shifted = None
    if all(run.shifted for run in (*results.runs_of(best), *results.runs_of(CHAMPION))):
        shifted = decide(_under_shifts(results), **{**options, "minimum_effect": 0.0})
    why = f"among {len(losses)} by the lowest mean validation loss over {seeds} seeds"
    return Promotion(best, why, held_out, shifted)


def _validation_loss(results: Results, method: str) -> float:
    runs = results.runs_of(method)
    losses = [math.inf if run.validation_loss is None or run.diverged else run.validation_loss for run in runs]
    return finite_mean(losses) if all(map(math.isfinite, losses)) else math.inf


def _under_shifts(results: Results) -> Results:
    """The results with the mean over the shifts in the place of the metric; each kind of shift counts the same."""
    runs = tuple(dataclasses.replace(run, test_accuracy=_mean_metric(run.shifted)) for run in results.runs)
    return dataclasses.replace(results, runs=runs, decision=None)


def _mean_metric(shifted: Mapping[str, Mapping[str, float | None]]) -> float:
    values = {name: math.nan if test["metric"] is None else test["metric"] for name, test in shifted.items()}
    return mean_over_shifts({name: float(value) for name, value in values.items()})
