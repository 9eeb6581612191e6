"""Validation data that do not fit, with and without the guard: `python tools/validation_faults.py [SEEDS]`.

Digits with 0, 40 and 60% wrong labels, `lets-sam` from 0.05. Prints the table of docs/how-to/radii.md.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys

import torch
from torch.utils.data import TensorDataset

from letsam.optimizer import SharpnessAware
from letsam.radius import LearnedRadius, LogAdam
from letsam.tasks import load_task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import KINDS, Kind, Method, register
from letsam.training.sampling import make_splits
from letsam.variants import SAM

KINDS_OF_DATA = ("held out", "clean labels", "random labels", "other inputs", "40% wrong labels more")


def validation(kind: str, held_out: TensorDataset, clean: TensorDataset, seed: int) -> TensorDataset:
    """The held-out samples, changed."""
    inputs, labels = held_out.tensors
    generator = torch.Generator().manual_seed(1000 + seed)
    drawn = torch.randint(10, labels.shape, generator=generator)
    if kind == "clean labels":
        return clean
    if kind == "random labels":
        return TensorDataset(inputs, drawn)
    if kind == "other inputs":
        return TensorDataset(torch.randn(inputs.shape, generator=generator), labels)
    if kind == "40% wrong labels more":
        return TensorDataset(inputs, torch.where(torch.rand(labels.shape, generator=generator) < 0.4, drawn, labels))
    return held_out


def run(kind: str, noise: float, seed: int, method: str) -> tuple[float, float, float]:
    """Test accuracy in percent, the final radius and the ratio of the guard."""
    task = load_task("digits")
    config = TrialConfig(task="digits", label_noise=noise).for_task(task)
    splits = make_splits(task, seed, **config.split_options, hold_out=True)
    kept, total = splits.order
    held = torch.ones(total, dtype=torch.bool)
    held[kept] = False
    assert isinstance(task.train, TensorDataset) and isinstance(splits.validation, TensorDataset)  # noqa: PT018
    clean = TensorDataset(*(tensor[held] for tensor in task.train.tensors))
    splits = dataclasses.replace(splits, validation=validation(kind, splits.validation, clean, seed))
    training = Training(task, Method.parse(method), seed, config, make_fabric("cpu"), splits=splits)
    while not training.finished:
        training.advance()
    assert isinstance(training.optimizer, SharpnessAware)
    rule = training.optimizer.radius.rule  # pyright: ignore[reportAttributeAccessIssue]
    ratio = float("nan") if rule.guard is None else float(rule.guard.ratio)
    return 100 * training.result().test_accuracy, float(training.optimizer.rho), ratio


def unguarded(rho: float) -> LearnedRadius:
    """A learned radius that trusts any validation data."""
    return LearnedRadius(rho, rule=LogAdam(guard=None))


def main(seeds: int = 2) -> None:
    """Measure, and print each row as it is finished."""
    torch.set_num_threads(1)
    if "lets-sam-unguarded" not in KINDS:
        register(
            "lets-sam-unguarded", Kind("", SAM, lambda rho, **o: LearnedRadius(rho, rule=LogAdam(guard=None), **o))
        )
    print("| wrong training labels | validation data | ratio | without the guard | with it |\n|---|---|---|---|---|")
    for noise in (0.0, 0.4, 0.6):
        for kind in KINDS_OF_DATA:
            if kind == "clean labels" and not noise:
                continue
            cells, ratios = [], []
            for method in ("lets-sam-unguarded", "lets-sam"):
                found = [run(kind, noise, seed, method) for seed in range(seeds)]
                accuracy, rho, ratio = (statistics.mean(values) for values in zip(*found, strict=True))
                cells.append(f"{accuracy:.1f} ({rho:.2g})")
                ratios.append(ratio)
            print(f"| {noise:.0%} | {kind} | {ratios[-1]:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
