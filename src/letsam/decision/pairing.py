"""The runs of two methods, paired by seed, and which two methods a verdict is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from letsam.results import MethodName, Results, Run, finite_mean
from letsam.results.metric_units import metric_scale
from letsam.results.nearest import did_you_mean

__all__ = ["Choice", "Pairs", "choose_methods", "paired"]


@dataclass(frozen=True)
class Pairs:
    """Two methods on the seeds that both have finished.

    Args:
        baseline: runs of what is done today.
        candidate: runs of what may replace it, with the same seeds.
        gains: by how much each candidate run is better, in the unit in which the metric is shown; positive is better
            for errors as well.
        diverged: the seeds of candidate runs that diverged.
        baseline_diverged: the seeds of baseline runs that diverged. They are left out, unless the candidate diverged
            with the same seed: that cannot favour the candidate.
    """

    baseline: tuple[Run, ...]
    candidate: tuple[Run, ...]
    gains: tuple[float, ...]
    diverged: tuple[int, ...]
    baseline_diverged: tuple[int, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the pairs."""
        return tuple(run.seed for run in self.candidate)


@dataclass(frozen=True)
class Choice:
    """The methods that a verdict is about.

    Args:
        baseline: what is done today.
        candidate: what may replace it.
        among: the methods of which the candidate was chosen; the error rate is shared between them.
        chosen: "named" by the user, "only": there was no other, or "validation": it has the lowest validation loss.
    """

    baseline: str
    candidate: str
    among: tuple[str, ...]
    chosen: str


def paired(results: Results, candidate: str, baseline: str) -> Pairs:
    """Pair the runs of two methods by seed."""
    scale = metric_scale(results).factor
    sign = -scale if results.lower_is_better else scale
    theirs = {run.seed: run for run in results.runs_of(baseline)}
    both = [(theirs[run.seed], run) for run in results.runs_of(candidate) if run.seed in theirs]
    kept = [(old, new) for old, new in both if not (old.diverged or new.diverged)]
    return Pairs(
        baseline=tuple(old for old, _ in kept),
        candidate=tuple(new for _, new in kept),
        gains=tuple(sign * (new.test_accuracy - old.test_accuracy) for old, new in kept),
        diverged=tuple(new.seed for _, new in both if new.diverged),
        baseline_diverged=tuple(old.seed for old, _ in both if old.diverged),
    )


def choose_methods(results: Results, baseline: str | None, candidate: str | None) -> Choice:
    """Find the two methods that are compared.

    Args:
        results: the trial.
        baseline: the name of a method; None: the base optimizer, or else the first method without a learned radius.
        candidate: the name of a method; None: the method with a learned radius, its refit if there is one. Of several,
            the one with the lowest mean validation loss.

    Raises:
        ValueError: the results lack such a method, or both are the same.
    """
    methods = results.methods
    for name, given in (("baseline", baseline), ("candidate", candidate)):
        if given is not None and given not in methods:
            hint = did_you_mean(given, methods)
            listed = ", ".join(methods) or "(none has finished)"
            raise ValueError(f"`{name}` must be a method of these results: {listed}; got {given!r}{hint}")
    if baseline is None:
        baseline = _default_baseline(results, candidate)
    if candidate is not None:
        if candidate == baseline:
            raise ValueError(f"`candidate` and `baseline` must be two methods, got {candidate!r} for both")
        return Choice(baseline, candidate, (candidate,), "named")
    learned = _learned(results, baseline)
    if not learned:
        raise ValueError("`candidate` must be given, as no other method of these results has a learned radius")
    best = min(learned, key=lambda name: _validation_loss(results, name, learned))
    return Choice(baseline, best, tuple(learned), "only" if len(learned) == 1 else "validation")


def _default_baseline(results: Results, candidate: str | None) -> str:
    plain = [m for m in results.methods if not MethodName.parse(m).learned and m != candidate]
    if not plain:
        raise ValueError("`baseline` must be given, as no method of these results is without a learned radius")
    alone = [m for m in plain if all(run.rho_initial is None for run in results.runs_of(m))]
    return (alone or plain)[0]


def _learned(results: Results, baseline: str) -> list[str]:
    """The methods with a learned radius, each with its refit in its place if there is one."""
    names = [MethodName.parse(method) for method in results.methods]
    found = [name.refitted if name.refitted in results.methods else name.text for name in names if name.learned]
    return [name for name in dict.fromkeys(found) if name != baseline]


def _validation_loss(results: Results, method: str, among: Sequence[str]) -> float:
    """The mean over the seeds that all of these methods have; those of a refit are of its search."""
    losses = {name: _validation_losses(results, MethodName.parse(name).search) for name in among}
    shared = set.intersection(*(set(found) for found in losses.values()))
    mean = finite_mean([losses[method][seed] for seed in sorted(shared)]) if shared else float("nan")
    return mean if mean == mean else float("inf")  # of a run that diverged, or without validation data


def _validation_losses(results: Results, search: str) -> dict[int, float]:
    return {run.seed: run.validation_loss for run in results.runs_of(search) if run.validation_loss is not None}
