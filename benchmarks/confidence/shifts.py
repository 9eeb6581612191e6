"""Models and shifted data: the tasks of the benchmark of validation data, and flights in the order of their days."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.harness.training import trained
from benchmarks.operation.worlds import MONTHS, WORLDS
from benchmarks.operation.year import begun
from benchmarks.validation.data import task_named
from letsam import load
from letsam.model_folder.reference import ModelReference
from letsam.tasks import Task
from letsam.training.drifted import with_drift
from letsam.training.sampling import select
from letsam.validation import available_shifts

METHOD = "lets-sam:0.05"
SEVERITIES = (1, 3, 5)
CLEAN, MIX = "none", "labels"
LATER = 600  # samples that are shifted, at most
LEFT_OUT = ("groups", "colour")  # which need groups, and images in colour


@dataclass(frozen=True)
class Setting:
    """A task and the training of its model.

    Args:
        title: in words.
        options: of the training; empty: the flights, whose world has its own.
        seeds: of models.
    """

    title: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    seeds: int = 2


SETTINGS = {
    "digits": Setting("digits, perceptron", {"epochs": 20}),
    "letters": Setting("spoken letters (audio), CNN", {"epochs": 10}),
    "snippets": Setting("movie snippets (text), transformer", {"epochs": 6, "batch_size": 32}),
    "flights": Setting("flights (table), perceptron: the months of 2013"),
}


@dataclass(frozen=True)
class Labelled:
    """Outputs of a model, and the classes."""

    outputs: Tensor
    targets: Tensor


def shifts_of(name: str) -> tuple[str, ...]:
    """The shifts of a setting, none first; of the flights, the months."""
    if name == "flights":
        return tuple(f"month {number}" for number in range(1, MONTHS + 1))
    modality = {"digits": "image", "letters": "log-mel", "snippets": "text"}[name]
    names = [shift for shift, *_ in available_shifts(modality) if shift not in LEFT_OUT]
    return (CLEAN, *(f"{shift}:{severity}" for shift in names for severity in SEVERITIES))


def predicted(name: str, seed: int) -> tuple[Labelled, Iterator[tuple[str, Labelled]]]:
    """What a model gives for held-out samples, and for samples under each shift."""
    if name == "flights":
        return _flights(seed)
    task = task_named(name)
    model = trained(task, METHOD, seed, **SETTINGS[name].options).model
    count = len(task.test)  # pyright: ignore[reportArgumentType]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held_out, later = order[: count // 2], order[count // 2 :][:LATER]
    rows = select(task.test, later)

    def shifted() -> Iterator[tuple[str, Labelled]]:
        for shift in shifts_of(name):
            data = rows if shift == CLEAN else with_drift(task, rows, shift, seed)
            yield shift, _outputs(model, task, data)

    return _outputs(model, task, select(task.test, held_out)), shifted()


@torch.no_grad()
def _outputs(model: Any, task: Task, data: Dataset[Any]) -> Labelled:
    model.eval()
    collate = getattr(task.preparation, "collate", None) or default_collate
    batches = [(model(inputs), targets) for inputs, targets in DataLoader(data, batch_size=250, collate_fn=collate)]
    outputs = [getattr(made, "logits", made).float() for made, _ in batches]
    return Labelled(torch.cat(outputs), torch.cat([targets for _, targets in batches]))


def _flights(seed: int) -> tuple[Labelled, Iterator[tuple[str, Labelled]]]:
    year = begun(WORLDS["flights"], seed)
    model = load(year.model, device="cpu")
    reference = ModelReference.load(model.folder)
    assert reference is not None

    def months() -> Iterator[tuple[str, Labelled]]:
        for month, path in zip(shifts_of("flights"), year.months, strict=True):
            found = model.predict(str(path)).outputs
            yield month, Labelled(found, model.targets(str(path)).values)

    return Labelled(reference.outputs, reference.targets), months()
