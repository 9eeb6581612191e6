"""Which method of a trial is trained again by ``--refit-best``, and what chose it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from letsam.results import Results, Run, finite_mean


@dataclass(frozen=True)
class Winner:
    """The best method of a trial.

    Args:
        method: its name, as in the results.
        seed: the model is trained with it.
        chosen_by: in words, as in "The method was chosen ...".
    """

    method: str
    seed: int
    chosen_by: str


def winner_of(results: Results) -> Winner:
    """The method with the best mean over seeds: of the loss on the task's validation data, or else of the test metric.

    What a learned radius holds out is no such data: the other methods train on it.

    A method that diverged with one of its seeds cannot win. The seed is the first of the method, not its best: the best
    seed on the test data would only be luck.

    Raises:
        ValueError: no run has finished, or all methods diverged.
    """
    runs = {method: results.runs_of(method) for method in results.methods}
    finite = {method: found for method, found in runs.items() if not any(run.diverged for run in found)}
    if not finite:
        raise ValueError("`refit_best` needs a method that has not diverged, and there is none")
    samples = (results.config.get("data") or {}).get("samples") or (0, 0, 0)
    validated = samples[1] > 0 and all(_validated(run) for found in finite.values() for run in found)
    values = {m: finite_mean([_measure(run, validated) for run in found]) for m, found in finite.items()}
    lower = validated or results.runs[0].lower_is_better
    best = min(values, key=lambda method: values[method] if lower else -values[method])
    seeds = len(finite[best])
    over = f"over {seeds} seeds" if seeds > 1 else "of one seed"
    if len(values) == 1:
        return Winner(best, finite[best][0].seed, "because it was the only one")
    measure = (
        "lowest mean validation loss" if validated else f"{'lowest' if lower else 'highest'} mean test {results.metric}"
    )
    return Winner(best, finite[best][0].seed, f"among {len(values)} by the {measure} {over}")


def _validated(run: Run) -> bool:
    return run.validation_loss is not None and math.isfinite(run.validation_loss)


def _measure(run: Run, validated: bool) -> float:
    return run.validation_loss if validated and run.validation_loss is not None else run.test_accuracy
