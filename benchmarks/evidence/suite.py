"""What the evidence consists of: settings x methods x seeds, cheapest setting first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SAM_GRID = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0")
ASAM_GRID = ("0.05", "0.1", "0.2", "0.5", "1", "2", "5")
SAM_STARTS = ("0.01", "0.05", "0.2", "1.0")
ASAM_STARTS = ("0.05", "0.2", "1", "5")
PAPER_START = "0.05"
NOISES = (0.0, 0.2, 0.4, 0.6)
SCHEDULED = ("0.05", "0.2", "0.5")  # largest radii of GSAM's schedule
BUDGETS = ("0.05", "0.1", "0.2")  # sigma of LE-SAM's loss budget
FAMILIES = ("sam", "sam-learned", "asam", "asam-learned", "peers")
ALL_FAMILIES = (*FAMILIES, "tried")
TRIED = ("lets-sam-whole-prior", "lets-sam-length", "lets-sam-length-squared")  # see tried.py
TRIED_ON, TRIED_SEEDS = ("digits", "fashion", "snippets", "ding-de-en"), 3  # from the first and the last start
SPARSE_SAM, SPARSE_ASAM = ("0.01", "0.05", "0.2", "1.0"), ("0.05", "0.2", "1", "5")  # grids of the dear settings
PEERS = (
    f"lets-paper-sam:{PAPER_START}",
    *(f"sam-rising:{rho}" for rho in SAM_GRID),
    *(f"gsam-schedule:{rho}" for rho in SCHEDULED),
    *(f"sam-budget:{budget}" for budget in BUDGETS),
    "optuna-sam",
    *(f"asam-rising:{rho}" for rho in ASAM_GRID),
    "optuna-asam",
)
RISING = tuple(f"sam-rising:{rho}" for rho in SCHEDULED)
FEW_PEERS = (f"lets-paper-sam:{PAPER_START}", *RISING, "gsam-schedule:0.2", "sam-budget:0.1", "optuna-sam")


@dataclass(frozen=True)
class Setting:
    """A task with its options, and what is run on it."""

    name: str  # of the files that hold its results
    title: str  # for people
    group: str  # settings that differ in their label noise only share it
    task: str  # as `letsam trial` takes it
    noise: float = 0.0  # share of wrong training labels
    train_size: int | None = None  # the task's options; None: its defaults
    model: str | None = None
    epochs: int | None = None  # None: the task's
    seeds: int = 5  # how many at most
    sam_grid: tuple[str, ...] = SAM_GRID  # radii, as they are written in a method's name
    asam_grid: tuple[str, ...] = ASAM_GRID
    sam_starts: tuple[str, ...] = SAM_STARTS
    asam_starts: tuple[str, ...] = ASAM_STARTS
    peers: tuple[str, ...] = PEERS  # methods to compare with
    gpu_size: int | None = None  # what takes the place of `train_size`, `model` and `epochs` with `--full`
    gpu_model: str | None = None
    gpu_epochs: int | None = None
    text: bool = False  # whether the task is one of text, not of images
    max_grad_norm: float | None = None  # at which the gradients of all methods are clipped; None: nowhere

    @property
    def config(self) -> dict[str, object]:
        """What a record depends on beside method and seed."""
        names = ("task", "noise", "train_size", "model", "epochs")
        clipped = {} if self.max_grad_norm is None else {"max_grad_norm": self.max_grad_norm}
        return {name: getattr(self, name) for name in names} | clipped

    def full(self) -> Setting | None:
        """The setting at its full size, for a GPU; None where there is none."""
        if self.gpu_size is None:
            return None
        return dataclasses.replace(
            self,
            name=f"{self.name}-full",
            title=f"{self.title}, full size",
            group=f"{self.group}-full",
            train_size=self.gpu_size,
            model=self.gpu_model or self.model,
            epochs=self.gpu_epochs,
        )

    def quick(self) -> Setting:
        """The setting made tiny, to see that everything runs."""
        return dataclasses.replace(
            self,
            train_size=100,
            epochs=2,
            seeds=1,
            sam_grid=self.sam_grid[2:4],
            asam_grid=self.asam_grid[2:4],
            sam_starts=self.sam_starts[:2],
            asam_starts=self.asam_starts[:2],
            peers=FEW_PEERS,
        )


def methods(setting: Setting) -> Iterator[tuple[str, str]]:
    """(family, method) of a setting, the most telling first."""
    yield "sam", "sgd"
    yield from (("sam", f"sam:{rho}") for rho in setting.sam_grid)
    yield from (("sam-learned", f"lets-sam:{rho}") for rho in setting.sam_starts)
    yield from (("asam", f"asam:{rho}") for rho in setting.asam_grid)
    yield from (("asam-learned", f"lets-asam:{rho}") for rho in setting.asam_starts)
    yield from (("peers", peer) for peer in setting.peers)
    if setting.name.startswith(TRIED_ON):
        ends = dict.fromkeys((setting.sam_starts[0], setting.sam_starts[-1]))
        yield from (("tried", f"{idea}:{rho}") for idea in TRIED for rho in ends)


DEAR: dict[str, Any] = {"asam_grid": SPARSE_ASAM, "asam_starts": ("0.05", "1"), "peers": FEW_PEERS}
TEXT: dict[str, Any] = DEAR | {"seeds": 3, "text": True, "sam_grid": SPARSE_SAM, "sam_starts": ("0.01", "0.2")}


def _language(name: str, title: str, task: str, **options: Any) -> Setting:
    return Setting(name, title, name, task, **TEXT | options)


def _noisy(group: str, title: str, task: str, noises: tuple[float, ...] = NOISES, **options: Any) -> list[Setting]:
    titles = {noise: f"{title}, {noise:.0%} label noise" for noise in noises}
    return [Setting(f"{group}-{noise}", text, group, task, noise, **options) for noise, text in titles.items()]


def _fashion(
    model: str, name: str | None = None, size: int = 2000, noises: tuple[float, ...] = NOISES, **options: Any
) -> list[Setting]:
    group, title = f"fashion-{name or model}", f"Fashion-MNIST, {size:,} labels, {model}"
    more = {"train_size": size, "model": model, "gpu_size": 60000} | options
    return _noisy(group, title, "fashion-mnist", noises, **more)


SETTINGS: list[Setting] = [
    *_noisy("digits", "digits", "digits"),
    *_fashion("cnn"),
    _language("snippets-small", "movie snippets, small", "movie-snippets", model="small", gpu_size=8000),
    *_fashion("resnet", gpu_model="resnet18", **DEAR),
    *_fashion("vit", **DEAR),
    *_fashion("cnn", "10k", 10000, (0.0, 0.4), epochs=12, gpu_size=None, **DEAR),
    _language("ding-de-en", "Ding DE-EN translation", "ding-de-en", gpu_size=15000),
    _language("snippets-minilm", "movie snippets, MiniLM", "movie-snippets", model="minilm", gpu_size=8000),
    _language("reviews", "Amazon reviews, small (final check)", "benchmarks.evidence.reviews:reviews", model="small"),
    *_noisy("mnist", "MNIST, 4,000 labels (final check)", "benchmarks.evidence.mnist:mnist", (0.0, 0.4), **DEAR),
]
"""Cheapest first. Amazon reviews and MNIST come last: the method was not tuned on them."""


def _clipped(name: str) -> Setting:
    setting = next(setting for setting in SETTINGS if setting.name == name)
    return dataclasses.replace(
        setting,
        name=f"{name}-clipped",
        title=f"{setting.title}, clipped",
        group=f"{setting.group}-clipped",
        max_grad_norm=1.0,
        seeds=3,
        gpu_size=None,
        **DEAR | {"peers": ()},
    )


CLIPPED = [_clipped(f"fashion-{name}") for name in ("cnn-0.0", "cnn-0.6", "10k-0.0", "10k-0.4")]
"""The network whose training breaks down now and then, with gradients clipped. Not a part of the suite."""
