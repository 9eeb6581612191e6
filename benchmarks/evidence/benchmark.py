"""The work, the result files and the page."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.evidence import domains, figures, late_table, tables
from benchmarks.evidence import tried as tried  # its methods are known by name
from benchmarks.evidence.late_peers import TITLES, late_runs
from benchmarks.evidence.suite import (
    ABLATION_SEEDS,
    ALL_FAMILIES,
    EVERY,
    FAMILIES,
    FORKED,
    LATE_GRID,
    RELEASE,
    REPLAYED,
    TRIED_SEEDS,
    VALIDATION_SEEDS,
    Setting,
    methods,
)
from benchmarks.evidence.summary import BELOW, COST, SPREAD, Measured, Record
from benchmarks.evidence.validation_kinds import RELEASED, splits_of
from benchmarks.evidence.whole_runs import forked, replayed
from benchmarks.harness import DOCS, ROOT, Benchmark, Unit
from benchmarks.harness.training import loaded, trained, with_refit
from letsam.results import Run
from letsam.tasks import Task
from letsam.training.devices import make_fabric
from letsam.training.methods import REFIT
from letsam.training.sampling import make_splits
from letsam.training.trial import environment

TRIALS, VALIDATION_SHARE = 7, 0.1
MOST_SEEDS = {"tried": TRIED_SEEDS, "validation": VALIDATION_SEEDS, "ablation": ABLATION_SEEDS}
RANGES = {"sam": (0.01, 1.0), "asam": (0.05, 5.0)}

Train = Callable[[Task, str, float], Run]
"""Train a task, given the name of a method and a share of label noise."""


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


class Evidence(Benchmark[Record]):
    """Settings x methods x seeds, one result file per setting; without `seeds` each setting's own number of them."""

    name, digits = "evidence", 5

    def __init__(
        self,
        docs: Path = DOCS,
        settings: Iterable[Setting] = EVERY,
        *,
        families: Sequence[str] = FAMILIES,
        seeds: int | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(docs)
        self.settings: Mapping[str, Setting] = {setting.name: setting for setting in settings}
        self.families, self.seeds, self.device = families, seeds, device

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Which methods, how many seeds, where and how large."""
        parser.add_argument("--family", action="append", choices=ALL_FAMILIES, help="may be repeated; all but tried")
        parser.add_argument("--seeds", type=int, help="how many; each setting's own number without")
        parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps")
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--quick", action="store_true", help="tiny runs of digits, under runs/evidence-quick")
        size.add_argument("--full", action="store_true", help="full sizes, for a GPU")

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Evidence:
        """The settings in the size that the options ask for."""
        if options.seeds is not None and options.seeds < 1:
            raise ValueError(f"`seeds` must be a whole number >= 1, got {options.seeds}")
        settings, docs = EVERY, DOCS
        if options.full:
            settings = [full for setting in settings if (full := setting.full())]
        if options.quick:
            settings = [setting.quick() for setting in settings if setting.group == "digits"]
            docs = ROOT / "runs" / "evidence-quick"
        families = options.family or FAMILIES
        return cls(docs, settings, families=families, seeds=options.seeds, device=options.device)

    @property
    def known(self) -> Mapping[str, Setting]:
        """The settings, and their full sizes, whose results are on the page too."""
        full = [large for setting in self.settings.values() if (large := setting.full())]
        return {**self.settings, **{setting.name: setting for setting in full}}

    def units(self) -> list[Unit]:
        """Seed by seed, so that what is finished is always balanced."""
        most = max((setting.seeds for setting in self.settings.values()), default=0)
        found = (
            self.unit(setting, family, method, seed)
            for seed in range(self.seeds or most)
            for setting in self.settings.values()
            if seed < (self.seeds or setting.seeds)
            for family, method in methods(setting)
            if family in self.families and seed < MOST_SEEDS.get(family, math.inf)
        )
        return list({unit.name: unit for unit in found}.values())  # one for all radii of a method that climbs late

    @staticmethod
    def unit(setting: Setting, family: str, method: str, seed: int) -> Unit:
        """One method with one seed; a learned radius also has a refit, unless it is trained on all data in one run.

        A method that climbs late is measured at all its radii together.
        """
        refits = method.startswith("lets-") and "@" not in method
        name, _, kind = method.partition("@")
        rows = (method, method + REFIT) if refits else (method,)
        if kind in REPLAYED:
            rows = tuple(f"{name}@{one}" for one in REPLAYED)
        if (peer := name.partition(":")[0]) in TITLES:
            method, rows = peer, tuple(f"{peer}:{rho}" for rho in LATE_GRID)
        keys = tuple(f"{setting.name}/{row}/{seed}" for row in rows)
        return Unit(f"{setting.name}/{family}/{method}/{seed}", keys, (setting, method, seed))

    def measure(self, unit: Unit) -> list[Record]:
        """Train; a learned radius is replayed in a second training on all data."""
        setting, method, seed = unit.work
        task = loaded(setting.task, setting.train_size, setting.model)
        options = {"epochs": setting.epochs, "max_grad_norm": setting.max_grad_norm, "device": self.device}

        def train(task: Task, method: str, noise: float) -> Run:
            return trained(task, method, seed, label_noise=noise, **options).result()

        name, _, kind = method.partition("@")
        if kind == FORKED:
            run = forked(task, name, seed, label_noise=setting.noise, release=RELEASE, **options)
            runs = [dataclasses.replace(run, method=method)]
        elif kind in REPLAYED:
            runs = replayed(task, name, seed, label_noise=setting.noise, **options)
        elif kind:
            run = trained(
                *(task, name, seed),
                splits=lambda config: splits_of(task, seed, config, kind),
                label_noise=setting.noise,
                release=RELEASE,
                **options,
            ).result()
            runs = [dataclasses.replace(run, method=method)]
        elif method.startswith("optuna-"):
            runs = [search(task, method.removeprefix("optuna-"), seed, setting.noise, VALIDATION_SHARE, train)]
        elif method in TITLES:
            runs = late_runs(task, method, LATE_GRID, seed, label_noise=setting.noise, **options)
        else:
            runs = with_refit(task, method, seed, label_noise=setting.noise, **options)
        where = {"metric": task.metric_name, **environment(make_fabric(self.device))}
        del where["command"]
        return [Record.of(run, setting.name, where) for run in runs]

    def stems(self) -> Iterable[str]:
        """One file per setting."""
        return self.known

    def stem(self, row: Record) -> str:
        """The setting."""
        return row.setting

    def from_json(self, content: dict[str, Any]) -> list[Record]:
        """One run per line; no runs if the options of the setting have changed."""
        name, where = content["setting"], content["environment"]
        if content["config"] != self.known[name].config:
            return []
        return [replace(Record.from_json(run), setting=name, environment=where) for run in content["runs"]]

    def to_json(self, rows: Sequence[Record]) -> dict[str, Any]:
        """Method by method; the environment is that of the last row that was measured."""
        setting, where = self.known[rows[0].setting], rows[-1].environment
        names = [name for _, method in methods(setting) for name in (method, method + REFIT)]
        order = {name: place for place, name in enumerate(names)}
        ordered = sorted(rows, key=lambda row: (order.get(row.method, len(order)), row.seed))
        head = {"setting": setting.name, "config": setting.config, "environment": where}
        return head | {"runs": [row.as_json() for row in ordered]}

    def measured(self, rows: Sequence[Record]) -> list[Measured]:
        """The settings with results, those of the suite first."""
        by_setting: dict[str, list[Record]] = {}
        for row in rows:
            by_setting.setdefault(row.setting, []).append(row)
        found = [Measured(one, tuple(by_setting[name])) for name, one in self.known.items() if name in by_setting]
        return sorted(found, key=lambda one: not one.setting.in_suite)

    def sections(self, rows: Sequence[Record]) -> Mapping[str, object]:
        """Tables over all settings, and those of each."""
        every = self.measured(rows)
        found = [one for one in every if one.setting.in_suite]
        clipped = [one for one in every if one.setting.max_grad_norm is not None]
        kinds = ("sam", "asam")
        return {
            **{f"overview_{kind}": tables.overview(kind, found) for kind in kinds},
            **{f"clipped_{kind}": tables.verdicts(kind, clipped) for kind in kinds},
            **{f"untuned_{kind}": tables.untuned(kind, found) for kind in kinds},
            "below": BELOW,
            "spread": SPREAD,
            "cost": COST[""],
            "cost_refit": COST[REFIT],
            "cost_one_run": COST[f"@{RELEASED}"],
            "favours": tables.favours(found),
            "losses": tables.losses(found),
            "tuned": tables.tuned(found),
            "ideas": "\n".join(f"- {idea.title}: {idea.predicts}" for idea in tried.IDEAS.values()),
            "tried": tables.tried(found),
            "one_run": tables.one_run(found),
            "late": late_table.late(found),
            "domains": domains.domains([one for one in every if one.setting.domain]),
            "validation": tables.validation(found),
            "ablation": tables.ablation(found),
            "settings": "\n\n".join(map(tables.setting, every)),
        }

    def figures(self, rows: Sequence[Record]) -> Mapping[str, Figure]:
        """Three for SAM and three for ASAM."""
        found = [one for one in self.measured(rows) if one.setting.in_suite]
        return {f"evidence/{name}.svg": figure for name, figure in figures.make(found).items()}

    @mpl.rc_context(fname=Path(__file__).with_name("figures.mplstyle"))
    def make_page(self) -> None:
        """The style must be set both when the figures are made and when they are saved."""
        super().make_page()
