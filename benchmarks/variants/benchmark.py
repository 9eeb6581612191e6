"""The runs, their results, and the page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from benchmarks.evidence.suite import SETTINGS, Setting
from benchmarks.harness import DOCS, ROOT, Benchmark, Row, Unit
from benchmarks.harness.page import filled, spread, table
from benchmarks.harness.training import loaded, with_refit
from benchmarks.variants.errors import ESTIMATORS, RADII, Errors, errors_of
from letsam.training.methods import REFIT, Method
from letsam.variants import VARIANTS

SEEDS = 3
YARDSTICK = "sam"
EMPTY = "Not measured yet."


def _methods(*variants: str) -> tuple[str, ...]:
    return ("sgd", *(prefix + name for name in variants for prefix in ("", "lets-")))


METHODS = dict.fromkeys(("digits-0.0", "digits-0.4", "fashion-cnn-0.4"), _methods(*VARIANTS))
METHODS["fashion-resnet-0.4"] = _methods("sam", "samon")
"""The methods of each setting. The networks of the first three have no normalisation layers, which SAM-ON perturbs."""


@dataclass(frozen=True)
class Trained(Row):
    """One run."""

    setting: str  # of `METHODS`
    method: str  # a method's name; "+refit" for the training on all data with what was learned
    seed: int  # as for a trial
    epochs: int | None  # of the run; None: the task's own number
    accuracy: float = 0.0  # of the test set, in [0, 1]
    passes: int = 0  # of training, those of the search included in a refit
    seconds: float = 0.0
    rho: float | None = None  # at the end; None without one
    not_run_because: str | None = None  # why it could not be run; None where it was


class Variants(Benchmark[Trained | Errors]):
    """Trainings, and errors of hypergradients."""

    name, digits = "variants", None

    def __init__(self, docs: Path = DOCS, *, quick: bool = False) -> None:
        super().__init__(ROOT / "runs" / "variants-quick" if quick else docs)
        found = {one.name: one for one in SETTINGS}
        self.settings: Mapping[str, Setting] = {name: found[name] for name in METHODS}
        self.seeds = SEEDS
        if quick:
            self.settings, self.seeds = {"digits-0.0": replace(found["digits-0.0"], epochs=1)}, 1

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add `--quick`."""
        parser.add_argument("--quick", action="store_true", help="tiny, and kept apart")

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Variants:
        """The benchmark, tiny with `--quick`."""
        return cls(quick=options.quick)

    def units(self) -> list[Unit]:
        """A training, with its refit, for each setting, seed and method; errors for each variant and radius."""
        units: list[Unit] = []
        for name in self.settings:
            for seed in range(self.seeds):
                for method in METHODS[name]:
                    methods = (method, method + REFIT) if Method.parse(method).is_learned else (method,)
                    keys = tuple(f"{name}/{one}/{seed}" for one in methods)
                    units.append(Unit(f"{name}/{method}/{seed}", keys, (name, method, seed)))
        errors = [(variant, rho) for variant in VARIANTS for rho in RADII]
        return units + [Unit(key := f"errors/{variant}/{rho}", (key,), (variant, rho)) for variant, rho in errors]

    def measure(self, unit: Unit) -> list[Trained | Errors]:
        """Train, or compare hypergradients; a method that does not fit the model has the reason in its row."""
        if unit.name.startswith("errors/"):
            return [errors_of(*unit.work)]
        name, method, seed = unit.work
        setting = self.settings[name]
        task = loaded(setting.task, setting.train_size, setting.model)
        try:
            runs = with_refit(task, method, seed, label_noise=setting.noise, epochs=setting.epochs)
        except ValueError as error:
            return [
                Trained(name, key.split("/")[1], seed, setting.epochs, not_run_because=str(error)) for key in unit.keys
            ]
        return [
            Trained(
                name,
                one.method,
                seed,
                setting.epochs,
                one.test_accuracy,
                one.gradient_passes,
                one.seconds,
                one.rho_final,
            )
            for one in runs
        ]

    def fits(self, row: Trained | Errors) -> bool:
        """Whether it was trained for the epochs of its setting."""
        return isinstance(row, Errors) or row.epochs == self.settings[row.setting].epochs

    def from_json(self, content: dict[str, Any]) -> list[Trained | Errors]:
        """Trainings and errors, one per line."""
        return [*(Trained(**fields) for fields in content["runs"]), *(Errors(**fields) for fields in content["errors"])]

    def to_json(self, rows: Sequence[Trained | Errors]) -> dict[str, Any]:
        """Trainings by setting and name, errors in the order of the variants."""
        runs, errors = _apart(rows)
        settings, variants = list(METHODS), list(VARIANTS)
        runs.sort(key=lambda row: (settings.index(row.setting), row.method, row.seed))
        errors.sort(key=lambda row: (variants.index(row.variant), row.rho))
        return {"runs": list(map(asdict, runs)), "errors": list(map(asdict, errors))}

    def sections(self, rows: Sequence[Trained | Errors]) -> Mapping[str, object]:
        """The registry, the errors, and a table for each setting."""
        runs, errors = _apart(rows)
        comparisons = [_comparison([row for row in runs if row.setting == name]) for name in METHODS]
        return {
            "variants": _registry(),
            "errors": _errors(errors) if errors else EMPTY,
            "seeds": SEEDS,
            "comparisons": "\n\n".join(f"### {n}\n\n{text}" for n, text in zip(METHODS, comparisons, strict=True)),
        }


def _apart(rows: Sequence[Trained | Errors]) -> tuple[list[Trained], list[Errors]]:
    return [row for row in rows if isinstance(row, Trained)], [row for row in rows if isinstance(row, Errors)]


def _registry() -> str:
    lines: list[tuple[str, ...]] = []
    for name, kind in VARIANTS.items():
        facts, module = kind.facts, kind.made_of.__module__.removeprefix("letsam.")
        paper = f"[{facts.paper}](https://arxiv.org/abs/{facts.paper.removeprefix('arXiv:')})"
        what = f"`letsam.{kind.__name__}`", facts.title.partition(": ")[2], paper, f"`{module}`"
        lines.append((f"`{name}`", *what, facts.passes, str(facts.copies), facts.learned))
    return table(("method", "class", "what", "paper", "module", "passes", "copies", "learned radius"), lines, "l")


def _errors(errors: Sequence[Errors]) -> str:
    columns = [(estimator, rho) for estimator in ESTIMATORS for rho in sorted({row.rho for row in errors})]
    found = {(row.variant, row.rho): row for row in errors}
    lines = [
        [variant, *(_error(found.get((variant, rho)), estimator) for estimator, rho in columns)]
        for variant in dict.fromkeys(row.variant for row in errors)
    ]
    return table(["variant", *(f"{estimator}, rho {rho:g}" for estimator, rho in columns)], lines)


def _error(found: Errors | None, estimator: str) -> str:
    return "{error:.2g} ({signs:.2f})".format(**getattr(found, estimator)) if found else ""


def _comparison(rows: Sequence[Trained]) -> str:
    """One line per variant: fixed and learned, relative to SAM; then the difference, and the variants left out."""
    if not rows:
        return EMPTY
    ran: dict[str, list[Trained]] = {}
    for row in rows:
        ran.setdefault(row.method, []).extend([row] if row.not_run_because is None else [])
    lines: list[list[str]] = []
    for name in ("sgd", *VARIANTS):
        pair = name, f"lets-{name}{REFIT}"
        if any(method in ran for method in pair):
            cells = [cell for method in pair for cell in _cells(ran.get(method), ran.get(YARDSTICK))]
            radii = [row.rho for row in ran.get(pair[1], []) if row.rho is not None]
            lines.append([name, *cells, f"{geometric_mean(radii):.2g}" if radii else "-"])
    head = ("variant", "fixed", "passes", "seconds", "learned", "passes", "seconds", "final rho")
    return "\n\n".join([table(head, lines), *_difference(ran), *_left_out(rows)])


def _cells(rows: Sequence[Trained] | None, yardstick: Sequence[Trained] | None) -> tuple[str, str, str]:
    if not rows or not yardstick:
        return "-", "-", "-"
    passes, seconds = (
        fmean(getattr(row, what) for row in rows) / fmean(getattr(row, what) for row in yardstick)
        for what in ("passes", "seconds")
    )
    return spread([100 * row.accuracy for row in rows], ".1f", ".1f"), f"{passes:.2f}", f"{seconds:.2f}"


def _difference(ran: Mapping[str, Sequence[Trained]]) -> list[str]:
    """The difference between learned and fixed, over all variants."""
    pairs = {name: (ran.get(f"lets-{name}{REFIT}"), ran.get(name)) for name in VARIANTS}
    found = {
        name: fmean(100 * row.accuracy for row in learned) - fmean(100 * row.accuracy for row in fixed)
        for name, (learned, fixed) in pairs.items()
        if learned and fixed
    }
    if not found:
        return []
    least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    above = sum(value > 0 for value in found.values())
    return [
        f"Learned minus fixed: {found[least]:+.1f} (`{least}`) to {found[most]:+.1f} (`{most}`) points, above 0 for "
        f"{above} of {len(found)} variants."
    ]


def _left_out(rows: Sequence[Trained]) -> list[str]:
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.not_run_because:
            reasons.setdefault(row.not_run_because, {})[row.method.removesuffix(REFIT)] = None
    return [filled(f"Left out: {', '.join(methods)}: {reason}.") for reason, methods in reasons.items()]
