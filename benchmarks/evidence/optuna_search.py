"""What one would do without a learned radius: search a fixed one with Optuna, then train on all the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from letsam.results import Run
from letsam.tasks import Task
from letsam.training.data import make_splits

TRIALS = 7
RANGES = {"sam": (0.01, 1.0), "asam": (0.05, 5.0)}

Train = Callable[[Task, str, float], Run]
"""Trains a task with a method's name and a share of label noise."""


def search(task: Task, kind: str, seed: int, noise: float, share: float, train: Train) -> Run:
    """7 runs with radii that Optuna proposes, compared on held-out data, and one on all the data with the best.

    The split is the one that a learned radius gets with this seed, which is also that of Optuna's TPE sampler. Returns
    the last run under the name `optuna-sam` or `optuna-asam`, with the passes and seconds of all eight.
    """
    import optuna

    splits = make_splits(task, seed, label_noise=noise, validation_share=share, hold_out=True)
    assert splits.validation is not None
    held_out = dataclasses.replace(task, train=splits.train, test=splits.validation, validation=None)
    runs: list[Run] = []

    def objective(trial: optuna.Trial) -> float:
        rho = trial.suggest_float("rho", *RANGES[kind], log=True)
        runs.append(train(held_out, f"{kind}:{rho}", 0.0))  # the noise is in the labels already
        accuracy = runs[-1].test_accuracy
        return accuracy if accuracy == accuracy else 0.0  # TPE refuses NaN

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)
    last = train(task, f"{kind}:{study.best_params['rho']}", noise)
    runs.append(last)
    passes, seconds = sum(run.gradient_passes for run in runs), sum(run.seconds for run in runs)
    return dataclasses.replace(last, method=f"optuna-{kind}", gradient_passes=passes, seconds=seconds)
