"""What the evidence consists of: settings x methods x seeds, cheapest setting first."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.evidence.ablation import CHANGES
from benchmarks.evidence.late_peers import TITLES
from benchmarks.evidence.validation_kinds import KINDS, RELEASED, applies

SAM_GRID = ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0")
ASAM_GRID = ("0.05", "0.1", "0.2", "0.5", "1", "2", "5")
SAM_STARTS = ("0.01", "0.05", "0.2", "1.0")
ASAM_STARTS = ("0.05", "0.2", "1", "5")
PAPER_START = "0.05"
SCHEDULED = ("0.05", "0.2", "0.5")  # largest radii of GSAM's schedule
BUDGETS = ("0.05", "0.1", "0.2")  # sigma of LE-SAM's loss budget
FAMILIES = ("sam", "sam-learned", "asam", "asam-learned", "released", "validation", "ablation", "peers", "late")
ALL_FAMILIES = (*FAMILIES, "tried")
TRIED = ("lets-sam-whole-prior", "lets-sam-length", "lets-sam-length-squared")  # see tried.py
TRIED_ON, TRIED_SEEDS = ("digits", "fashion", "snippets", "ding-de-en"), 3  # from the first and the last start
SPARSE_SAM, SPARSE_ASAM = ("0.01", "0.05", "0.2", "1.0"), ("0.05", "0.2", "1", "5")  # grids of the expensive settings
START, VALIDATION_SEEDS = "0.2", 3  # of the runs with other validation data
ABLATION_SEEDS = 2  # of the runs with a rule left out
FORKED, REPLAYED = "forks", ("replayed", "smooth", "harmless")  # after the `@`, see whole_runs.py
LATE_GRID = ("0.05", "0.1", "0.2", "0.5")  # radii of the methods that climb late, see late_peers.py
QUICK = f"lets-sam-quick:{START}@{RELEASED}"  # what they are compared with at equal cost
RELEASE = 0.5  # share of a run after which the held-out data are trained on, where the method's name has an `@`
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
    adaptive: bool = False  # whether the base optimizer is Adam or AdamW, not SGD
    domain: str | None = None  # kind of data, where it is neither text nor images: not one of the suite's 24 settings
    max_grad_norm: float | None = None  # at which the gradients of all methods are clipped; None: nowhere

    @property
    def config(self) -> dict[str, object]:
        """What a record depends on, except method and seed."""
        names = ("task", "noise", "train_size", "model", "epochs")
        clipped = {} if self.max_grad_norm is None else {"max_grad_norm": self.max_grad_norm}
        return {name: getattr(self, name) for name in names} | clipped

    @property
    def in_suite(self) -> bool:
        """Whether the tables over all settings, and their counts, have it."""
        return self.max_grad_norm is None and self.domain is None

    def full(self) -> Setting | None:
        """The setting at its full size, for a GPU; None where there is none."""
        if self.gpu_size is None:
            return None
        names = {"name": f"{self.name}-full", "title": f"{self.title}, full size", "group": f"{self.group}-full"}
        model = self.gpu_model or self.model
        return replace(self, train_size=self.gpu_size, model=model, epochs=self.gpu_epochs, **names)

    def quick(self) -> Setting:
        """The setting at a tiny size, to check that everything runs."""
        radii = {name: getattr(self, name)[1:3] for name in ("sam_grid", "asam_grid", "sam_starts", "asam_starts")}
        return replace(self, train_size=100, epochs=2, seeds=1, peers=FEW_PEERS, **radii)


def methods(setting: Setting) -> Iterator[tuple[str, str]]:
    """(family, method) of a setting, the most informative first."""
    yield "sam", "sgd"
    yield from (("sam", f"sam:{rho}") for rho in setting.sam_grid)
    released = [("released", f"lets-sam:{rho}@{RELEASED}") for rho in setting.sam_starts]
    if setting.domain:
        yield from released
        return
    yield from (("sam-learned", f"lets-sam:{rho}") for rho in setting.sam_starts)
    yield from (("asam", f"asam:{rho}") for rho in setting.asam_grid)
    yield from (("asam-learned", f"lets-asam:{rho}") for rho in setting.asam_starts)
    yield from (("peers", peer) for peer in setting.peers)
    yield from released
    if not setting.in_suite:
        return
    if not setting.text:
        kinds = (kind for kind in KINDS if applies(kind, setting.noise))
        yield from (("validation", f"lets-sam:{START}@{kind}") for kind in kinds)
    if setting.adaptive:
        yield "ablation", f"lets-preconditionedsam:{START}@{RELEASED}"
    yield from (("ablation", f"{change}:{START}@{RELEASED}") for change in CHANGES)
    yield from (("ablation", f"lets-sam:{START}@{name}") for name in (FORKED, REPLAYED[0]))
    yield from (("late", f"{peer}:{rho}") for peer in TITLES for rho in LATE_GRID)
    yield "late", QUICK
    if setting.name.startswith(TRIED_ON):
        ends = dict.fromkeys((setting.sam_starts[0], setting.sam_starts[-1]))
        yield from (("tried", f"{idea}:{rho}") for idea in TRIED for rho in ends)


FEW: dict[str, Any] = {"asam_grid": SPARSE_ASAM, "asam_starts": ("0.05", "1"), "peers": FEW_PEERS}
DOMAIN: dict[str, Any] = {"seeds": 3, "sam_grid": SPARSE_SAM}
TEXT: dict[str, Any] = {"adaptive": True, "seeds": 3, "sam_grid": SPARSE_SAM, "sam_starts": ("0.01", "0.2")}


def _settings(name: str, title: str, **fields: Any) -> Iterator[Setting]:
    """The settings of an entry in settings.toml."""
    text, sparse = fields.get("text", False), fields.pop("sparse", False)
    noises, clipped = fields.pop("noises", []), fields.pop("clipped", [])
    options = (FEW if sparse or text else {}) | (TEXT if text else {}) | (DOMAIN if "domain" in fields else {}) | fields
    if not noises:
        yield Setting(name, title, name, **options)
    for noise in noises:
        plain = Setting(f"{name}-{noise}", f"{title}, {noise:.0%} label noise", name, noise=noise, **options)
        yield plain
        if noise in clipped:
            names = {field: f"{getattr(plain, field)}-clipped" for field in ("name", "group")}
            more = FEW | {"peers": (), "seeds": 3, "gpu_size": None, "max_grad_norm": 1.0}
            yield replace(plain, title=f"{plain.title}, clipped", **names, **more)


_READ = tomllib.loads(Path(__file__).with_name("settings.toml").read_text("utf-8"))["settings"]
_MADE = [setting for entry in _READ for setting in _settings(**entry)]
SETTINGS = [setting for setting in _MADE if setting.in_suite]
CLIPPED = [setting for setting in _MADE if setting.max_grad_norm is not None]
"""The network whose training fails now and then, with gradients clipped. It is not a part of the suite."""
DOMAINS = [setting for setting in _MADE if setting.domain is not None]
"""Data of other kinds, used for no choice. They are not a part of the suite either, and have a table of their own."""
EVERY = [*SETTINGS, *CLIPPED, *DOMAINS]
