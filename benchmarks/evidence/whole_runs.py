"""What is tried around a learned run: forks that compare the metric itself, a smoothed replay, and "do no harm".

Each takes a task, a seed and the options of `TrialConfig`, and returns runs under names of their own.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.evidence.ablation import power_law
from benchmarks.harness.training import begun, trained
from letsam import LogAdam, SharpnessAware
from letsam.results import Run
from letsam.tasks import Task
from letsam.tasks.model_outputs import of_outputs
from letsam.training.config import TrialConfig
from letsam.training.evaluation import outputs_in_batches
from letsam.training.loop import Training
from letsam.training.sampling import Splits, make_splits

FORKS, ARM = (0.15, 0.25, 0.35, 0.45), 0.05  # where in a run, and how long an arm is, as shares of its steps
FACTORS = (2.0, 0.5)
PAIR = 10  # samples whose mean metric is one of the pairs that are compared
WINS = 1.0  # standard errors by which the base optimizer must be ahead to take the place of the learned radius


def forked(task: Task, method: str, seed: int, **options: Any) -> Run:
    """A learned run that now and then tries twice and half the radius on equal batches, and moves towards the better.

    log rho and the log of the prior move by log(2) tanh(t), t = the mean difference of the metric on the held-out
    samples between the two arms, divided by its standard error. The passes of the arms are counted.
    """
    training = begun(task, method, seed, **options)
    epochs = training.epochs
    due = {max(1, round(share * epochs)) for share in FORKS} & set(range(training.release or epochs))
    length, passes = max(1, round(ARM * epochs * training.steps_per_epoch)), 0.0
    while not training.finished:
        if training.epoch in due:
            state = training.state_dict()
            found = [_arm(task, method, seed, options, state, factor, length) for factor in FACTORS]
            passes += sum(count for _, count in found)
            scores = [values for values, _ in found]
            change_radius(training, 2.0 ** math.tanh(standardized(*scores)))
        training.advance()
    run = training.result()
    return dataclasses.replace(run, gradient_passes=run.gradient_passes + round(passes))


def _arm(
    task: Task, method: str, seed: int, options: dict[str, Any], state: dict[str, Any], factor: float, steps: int
) -> tuple[list[float], float]:
    """The metric on the held-out samples after so many steps with a changed radius that stays; and the passes."""
    arm = begun(task, method, seed, state=state, **options)
    change_radius(arm, factor)
    assert isinstance(arm.optimizer, SharpnessAware)
    arm.optimizer.radius._times.until = 0  # pyright: ignore[reportAttributeAccessIssue]
    before, last = arm.passes, arm.step + steps
    while arm.step < last:
        arm.advance(last - arm.step)
    return scores_of(task, arm), arm.passes - before


def change_radius(training: Training, factor: float) -> None:
    """Multiply the radius and its prior."""
    assert isinstance(training.optimizer, SharpnessAware)
    radius: Any = training.optimizer.radius
    rule, change = radius.rule, math.log(factor)
    assert isinstance(rule, LogAdam)
    assert rule.prior is not None
    low, high = map(math.log, rule.bounds)
    rule._values[0] = (rule._values[0] + change).clamp(low, high)
    radius.rho = rule._values[0].exp()
    rule.prior._given = rule.prior._given + change
    rule.prior._log_reach = None


@torch.no_grad()
def scores_of(task: Task, training: Training) -> list[float]:
    """The metric on the held-out samples, a value for each few of them; minus the loss where it needs all samples."""
    assert training.validation is not None
    by_batch = task.score is None and task.metric_name not in {metric.name for metric in task.metrics}
    small = dataclasses.replace(task, evaluation_batch=PAIR)
    batches: Iterator[Any] = outputs_in_batches(small, training.model, training.validation)
    if by_batch:
        return [float(of_outputs(task.metric, outputs, targets)) for _, outputs, targets in batches]
    return [-float(of_outputs(task.loss, outputs, targets)) for _, outputs, targets in batches]


def standardized(left: list[float], right: list[float]) -> float:
    """The mean of left - right by pairs, divided by its standard error; 0 where nothing differs."""
    apart = [one - other for one, other in zip(left, right, strict=True)]
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return statistics.fmean(apart) / error if error > 0 else 0.0


def smoothed(run: Run, burn_in: int) -> Run:
    """The run with a power law (t + 1)^b in place of its learned radii, fitted to their logarithms."""
    radii = run.mean_radii
    known = [(math.log(step + 1), math.log(rho)) for step, rho in enumerate(radii) if step >= burn_in and rho > 0]
    if len(known) < 2:
        return run
    a, b = power_law(known)
    schedule = [math.exp(a + b * math.log(step + 1)) for step in range(len(radii))]
    return dataclasses.replace(run, history={**run.history, "rho_schedule": schedule})


def replayed(task: Task, method: str, seed: int, **options: Any) -> list[Run]:
    """Three ways to go on from one search: as learned, smoothed, and only where the base optimizer is not ahead."""
    search = trained(task, method, seed, **options)
    run = search.result()

    def held_out(config: TrialConfig) -> Splits:
        return make_splits(task, seed, **config.split_options, hold_out=True)

    base = trained(task, "sgd", seed, splits=held_out, **options)
    ahead = standardized(scores_of(task, base), scores_of(task, search))
    refit = trained(task, method, seed, searched=run, **options).result()
    smooth = trained(task, method, seed, searched=smoothed(run, search.method.kind.burn_in), **options).result()
    chosen, passes = refit, refit.gradient_passes + base.result().gradient_passes
    if ahead > WINS:
        chosen = trained(task, "sgd", seed, **options).result()
        passes = run.gradient_passes + base.result().gradient_passes + chosen.gradient_passes
    harmless = dataclasses.replace(chosen, gradient_passes=passes)
    found: dict[str, Run] = {"replayed": refit, "smooth": smooth, "harmless": harmless}
    return [dataclasses.replace(one, method=f"{method}@{name}") for name, one in found.items()]
