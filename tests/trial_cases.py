"""What the tests of trials share: a callback that can interrupt, and short forms of what they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from letsam.results import Results
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.methods import PlannedRun
from letsam.training.trial import environment, open_results, run_trial
from training_cases import fabric, without_seconds

METHODS = ("sgd", "sam:0.1", "lets-sam")
ROWS = [(row, seed) for seed in (0, 1) for row in ("sgd", "sam:0.1", "lets-sam", "lets-sam+refit")]


class Recorder:
    """A callback that records the epochs, and interrupts after `stop_after` of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.epochs: list[tuple[str, int, int, int]] = []

    def __call__(self, one: PlannedRun, epoch: int, epochs: int) -> None:
        self.epochs.append((one.name, one.seed, epoch, epochs))
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt

    @property
    def rows(self) -> list[tuple[str, int]]:
        """The runs that were trained."""
        return list(dict.fromkeys((row, seed) for row, seed, *_ in self.epochs))


def run(
    task: Task, options: TrialConfig, out: Path, recorder: Recorder | None = None, *, resume: bool = False
) -> Results:
    """Run a trial to its end."""
    results = open_results(out, options, environment(fabric()), resume=resume)
    for finished in run_trial(task, options, fabric(), results, out, recorder):
        results = finished
    return results


def saved(out: Path) -> Results:
    return Results.load(out / "results.json")


def rows(results: Results) -> list[tuple[str, int]]:
    return [record.key for record in results.runs]


def records(results: Results) -> list[dict[str, Any]]:
    return [without_seconds(record) for record in results.runs]
