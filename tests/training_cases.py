"""Small tasks and helpers for the tests of training, trials and the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from letsam.results import Run
from letsam.tasks import Task
from letsam.training.config import TrialConfig
from letsam.training.devices import make_fabric
from letsam.training.loop import Training
from letsam.training.methods import Method

CLASSES = 3
METHODS = ("sgd", "sam", "asam", "lets-sam", "lets-asam", "lets-paper-sam", "lets-paper-asam")
LEARNED = tuple(name for name in METHODS if Method.parse(name).is_learned)
TRAINING_PASSES = {"sgd": 1, "lets-paper-sam": 3, "lets-paper-asam": 3}  # for each step; 2 for the others


class Items(Dataset[tuple[Tensor, int]]):
    """A map-style dataset that is no `TensorDataset`; its targets are plain numbers."""

    def __init__(self, tensors: TensorDataset) -> None:
        self.inputs, self.targets = tensors.tensors

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.inputs[index], int(self.targets[index])


def blobs(samples: int, seed: int, first_id: int = 0) -> TensorDataset:
    """Overlapping clouds around three points; the first feature is the sample's id, which `Network` ignores."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, CLASSES, (samples,), generator=g)
    centres = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
    inputs = centres[targets] + 0.8 * torch.randn(samples, 4, generator=g)
    ids = torch.arange(first_id, first_id + samples, dtype=torch.float32).unsqueeze(1)
    return TensorDataset(torch.cat([ids, inputs], dim=1), targets)


class Passes(list[list[int]]):
    """Of every pass: a list of another class is not a plain value, so that a step does not put it back."""


class Network(nn.Module):
    """4 -> 16 -> 3, with dropout if asked for; `seen` holds the sample ids of each pass in training mode."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES))
        self.seen = Passes()

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.seen.append(inputs[:, 0].int().tolist())
        return self.layers(inputs[:, 1:])


TRAIN, TEST, VALIDATION = blobs(60, 1), blobs(45, 2, 1000), blobs(21, 3, 2000)


def task(*, dropout: float = 0.0, items: bool = False, **changes: Any) -> Task:
    """60 training and 45 test samples in batches of 8, 3 epochs."""
    wrap: Callable[[TensorDataset], Dataset[Any]] = Items if items else lambda tensors: tensors
    fields: dict[str, Any] = {
        "name": "blobs",
        "model": functools.partial(Network, dropout),
        "train": wrap(TRAIN),
        "test": wrap(TEST),
        "epochs": 3,
        "batch_size": 8,
    }
    return Task(**{**fields, **changes})


def config(*, methods: Sequence[str] | None = None, **changes: Any) -> TrialConfig:
    """Options of a trial; `methods` by their names."""
    if methods is not None:
        changes["methods"] = tuple(map(Method.parse, methods))
    return TrialConfig(**{"task": "blobs", "seeds": (0, 1), **changes})


@functools.cache
def fabric() -> Fabric:
    return make_fabric("cpu")


def start(of: Task, method: str = "sgd", seed: int = 0, *, searched: Run | None = None, **options: Any) -> Training:
    """A run that has not begun."""
    return Training(of, Method.parse(method), seed, config(**options), fabric(), searched)


def finish(run: Training) -> Training:
    while not run.finished:
        run.advance()
    return run


def validation_passes(steps: int) -> int:
    """Of a default `LearnedRadius`: one a step in the burn-in of 100 steps, one in 4 steps after it."""
    return sum((step + 1) % (1 if step < 100 else 4) == 0 for step in range(steps))


def learned_passes(steps: int) -> int:
    """Gradient passes of `lets-sam` and `lets-asam`: two a step and a validation pass for each update of the radius."""
    return 2 * steps + validation_passes(steps)


def updates(method: str, steps: int) -> int:
    """How often the radius moves, with one validation pass each."""
    if not Method.parse(method).is_learned:
        return 0
    return steps if "paper" in method else validation_passes(steps)


def passes(method: str, steps: int) -> int:
    """Gradient passes of any method in `METHODS`."""
    return TRAINING_PASSES.get(method, 2) * steps + updates(method, steps)


def search(of: Task, method: str = "lets-sam", **options: Any) -> Run:
    """The record of a finished run."""
    return finish(start(of, method, **options)).result()


def weights(run: Training) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()]).clone()


def same(a: Any, b: Any) -> bool:
    """Whether two nests of tensors and plain values are equal bit for bit; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7e30), b.nan_to_num(7e30))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def without_seconds(run: Run) -> dict[str, Any]:
    """The fields of a run that must be the same each time."""
    return {name: value for name, value in vars(run).items() if name != "seconds"}
