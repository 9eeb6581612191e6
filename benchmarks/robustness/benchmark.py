"""The settings, the work and the page of the benchmark."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.evidence.benchmark import Evidence
from benchmarks.evidence.suite import RELEASE, START, Setting
from benchmarks.evidence.suite import SETTINGS as SUITE
from benchmarks.evidence.validation_kinds import RELEASED
from benchmarks.harness import Benchmark, Row, Unit
from benchmarks.harness.page import filled, spread, table
from benchmarks.harness.training import trained
from benchmarks.robustness.treatments import (
    BITS,
    EPOCHS,
    IMAGES,
    LR_FACTOR,
    SEVERITIES,
    accuracy_on,
    corruptions,
    fine_tuned,
    task_of,
    turned,
    with_rounded_weights,
)

NAMES = (
    *("digits-0.0", "digits-0.4", "fashion-cnn-0.0", "fashion-cnn-0.4"),
    *("fashion-resnet-0.0", "fashion-resnet-0.4", "fashion-vit-0.0"),
)
SETTINGS = {setting.name: setting for setting in SUITE if setting.name in NAMES}
SEEDS = 3
BASE, GRID, LEARNED = "base", "grid", "learned"
ROLES = {BASE: "base optimizer", GRID: "best radius of the grid", LEARNED: "learned radius"}


@functools.cache
def method_of(setting: str, role: str) -> str:
    """The name of a method; the best radius of the grid is that of the evidence for this setting."""
    if role == BASE:
        return "sgd"
    if role == LEARNED:
        return f"lets-sam:{START}@{RELEASED}"
    evidence = Evidence(settings=[SETTINGS[setting]])
    best = evidence.measured(evidence.read())[0].best("sam")
    assert best is not None
    return best.name


@dataclass(frozen=True)
class Treated(Row):
    """One finished network: its accuracy, and that after each treatment. Accuracies are from 0 to 1."""

    parts: ClassVar[tuple[str, ...]] = ("setting", "role", "seed")

    setting: str
    role: str  # of `ROLES`
    seed: int
    method: str
    rho: float | None  # after the last step; None for the base optimizer
    clean: float  # nothing is done
    corrupted: dict[str, float]  # by the corruption and its severity, such as "noise:2"
    rounded: dict[str, float]  # by the number of bits
    forgotten: dict[str, float]  # on the first task, by the epochs on the second
    second: dict[str, float]  # on the second task, by the same


class Robustness(Benchmark[Treated]):
    """Train once, and treat the finished network in every way."""

    name = "robustness"
    row, head = Treated, {"schema": 1, "images": IMAGES, "lr_factor": LR_FACTOR}
    settings: Mapping[str, Setting] = SETTINGS

    def units(self) -> list[Unit]:
        """A network for each setting, role and seed; seed by seed, so that what is finished is always balanced."""
        work = [(name, role, seed) for seed in range(SEEDS) for name in self.settings for role in ROLES]
        return [Unit(key := "/".join(map(str, one)), (key,), one) for one in work]

    def measure(self, unit: Unit) -> list[Treated]:
        """Train as the evidence does."""
        name, role, seed = unit.work
        setting, method = self.settings[name], method_of(name, role)
        task = task_of(setting.task, setting.train_size, setting.model)
        options: dict[str, Any] = {"release": RELEASE} if role == LEARNED else {}
        plain = method.partition("@")[0]
        training = trained(task, plain, seed, label_noise=setting.noise, epochs=setting.epochs, **options)
        model = training.model.module
        images = corruptions(setting.task, setting.train_size)
        rotated = turned(task.test)
        tuned = {
            str(epochs): (accuracy_on(found, task, task.test), accuracy_on(found, task, rotated))
            for epochs, found in fine_tuned(model, task, seed)
        }
        return [
            Treated(
                *(name, role, seed, method, training.result().rho_final),
                clean=accuracy_on(model, task, task.test),
                corrupted={shift: accuracy_on(model, task, data) for shift, data in images.items()},
                rounded={str(bits): accuracy_on(with_rounded_weights(model, bits), task, task.test) for bits in BITS},
                forgotten={epochs: first for epochs, (first, _) in tuned.items()},
                second={epochs: second for epochs, (_, second) in tuned.items()},
            )
        ]

    def fits(self, row: Treated) -> bool:
        """Whether it is of a network that would be trained: the best of the grid may have become another."""
        known = row.setting in self.settings and row.role in ROLES
        return known and row.seed < SEEDS and row.method == method_of(row.setting, row.role)

    def sections(self, rows: Sequence[Treated]) -> Mapping[str, object]:
        """The conclusion, tables over all settings, and those of each; of seeds with all three networks."""
        rows = compared(rows)
        parts = [
            f"### {one.title}\n\nSeeds: {len(mine) // len(ROLES)}.\n\n{accuracy_table(mine)}\n\n{loss_table(mine)}"
            for name, one in self.settings.items()
            if (mine := [row for row in rows if row.setting == name])
        ]
        return {
            "verdict": verdict(rows),
            "conclusion": conclusion(rows),
            "unfinished": unfinished(rows),
            "losses": overview(rows),
            "counts": counts(rows),
            "corruptions": by_corruption(rows),
            "settings": "\n\n".join(parts),
            "images": f"{IMAGES:,}",
            "epochs": max(EPOCHS),
            "severities": " and ".join(map(str, SEVERITIES)),
            "kinds": len(kinds(rows)),
            "lr": f"{LR_FACTOR:g}",
        }


def compared(rows: Sequence[Treated]) -> list[Treated]:
    """Those whose setting and seed have a network of every role."""
    found = Counter((row.setting, row.seed) for row in rows)
    return [row for row in rows if found[row.setting, row.seed] == len(ROLES)]


def unfinished(rows: Sequence[Treated]) -> str:
    """The settings that lack seeds, and how many; nothing where all are measured."""
    seeds = {name: len([row for row in rows if row.setting == name and row.role == LEARNED]) for name in SETTINGS}
    lacking = {name: SEEDS - count for name, count in seeds.items() if count < SEEDS}
    told = [f"{SETTINGS[name].title} ({n} seed{'s' if n > 1 else ''})" for name, n in lacking.items()]
    return filled(f"Not measured yet: {'; '.join(told)}.") if told else ""


def corrupted(row: Treated) -> float:
    """The mean over all corruptions."""
    return statistics.fmean(row.corrupted.values())


def _rounded(bits: int) -> Callable[[Treated], float]:
    return lambda row: row.rounded[str(bits)]


def _forgotten(epochs: int) -> Callable[[Treated], float]:
    return lambda row: row.forgotten[str(epochs)]


TREATMENTS: dict[str, Callable[[Treated], float]] = {
    "corrupted images": corrupted,
    **{f"{bits}-bit weights": _rounded(bits) for bits in BITS},
    **{f"{n} epoch{'s' if n > 1 else ''} on a second task": _forgotten(n) for n in EPOCHS},
}
"""The accuracy after each treatment."""
SECOND = f"the second task, after {max(EPOCHS)} epochs"


def clean(row: Treated) -> float:
    """The accuracy before any treatment."""
    return row.clean


def on_second(row: Treated) -> float:
    """The accuracy on the second task at the end of the fine-tuning."""
    return row.second[str(max(EPOCHS))]


def on_both(row: Treated) -> float:
    """The mean accuracy on both tasks at the end of the fine-tuning."""
    return (row.forgotten[str(max(EPOCHS))] + on_second(row)) / 2


def lost(treated: Callable[[Treated], float]) -> Callable[[Treated], float]:
    """By how much a treatment lowers the accuracy of the same network."""
    return lambda row: row.clean - treated(row)


def kinds(rows: Sequence[Treated]) -> list[str]:
    """The corruptions without their severities."""
    return list(dict.fromkeys(shift.partition(":")[0] for row in rows for shift in row.corrupted))


def points(rows: Sequence[Treated], role: str, value: Callable[[Treated], float]) -> list[float]:
    """A value in points, by seed."""
    return [100 * value(row) for row in sorted(rows, key=lambda row: row.seed) if row.role == role]


def gains(rows: Sequence[Treated], role: str, value: Callable[[Treated], float]) -> list[float]:
    """A value minus that of the base optimizer, by seed, over the rows of a setting."""
    pairs = zip(points(rows, role, value), points(rows, BASE, value), strict=True)
    return [mine - base for mine, base in pairs]


def by_noise(rows: Sequence[Treated]) -> dict[str, list[Treated]]:
    """The rows with right labels and those with wrong ones, by what they are called."""
    found: dict[str, list[Treated]] = {}
    for name, setting in SETTINGS.items():
        title = f"{setting.noise:.0%} wrong labels" if setting.noise else "right labels"
        if mine := [row for row in rows if row.setting == name]:
            found.setdefault(title, []).extend(mine)
    return found


def per_setting(rows: Sequence[Treated], value: Callable[[Sequence[Treated]], float]) -> list[float]:
    """A number for each setting that has rows."""
    groups = ([row for row in rows if row.setting == name] for name in SETTINGS)
    return [value(mine) for mine in groups if mine]


def mean(rows: Sequence[Treated], role: str, value: Callable[[Treated], float]) -> float:
    """Over the settings, of the means over seeds, in points."""
    return statistics.fmean(per_setting(rows, lambda mine: statistics.fmean(points(mine, role, value))))


def verdict(rows: Sequence[Treated]) -> str:
    """How often the learned radius is ahead of the base optimizer, and how often it loses less."""
    ahead, less = (
        [sign * gain > 0 for treated in TREATMENTS.values() for gain in mean_gains(rows, LEARNED, of(treated))]
        for sign, of in ((1, lambda treated: treated), (-1, lost))
    )
    learned, base = (mean(rows, role, on_second) for role in (LEARNED, BASE))
    more = "better" if learned > base else "worse"
    settings = len(ahead) // len(TREATMENTS)
    told = [f"{name} {sum(less[i * settings :][:settings])}" for i, name in enumerate(TREATMENTS)]
    return filled(
        f"**After a treatment the networks of the learned radius are more accurate than those of the base optimizer in "
        f"{sum(ahead)} of {len(ahead)} cases ({settings} settings, {len(TREATMENTS)} treatments); the treatment itself "
        f"takes fewer points from them in {sum(less)}.** By treatment, of {settings} settings: {', '.join(told)}. "
        f"They learn the second task {more}: to {learned:.1f}% instead of {base:.1f}%."
    )


def conclusion(rows: Sequence[Treated]) -> str:
    """What each treatment takes from the networks of the three methods, as list items."""
    lines: list[str] = []
    for title, mine in by_noise(rows).items():
        values = {"accuracy": clean, **{f"lost by {name}": lost(treated) for name, treated in TREATMENTS.items()}}
        told = [f"{name} {numbers(mine, value)}" for name, value in values.items()]
        lines.append(f"- **{title.capitalize()}** ({', '.join(ROLES.values())}): {'; '.join(told)}.")
    return "\n".join(map(filled, lines))


def numbers(rows: Sequence[Treated], value: Callable[[Treated], float]) -> str:
    """The means of the three methods."""
    return " / ".join(f"{mean(rows, role, value):z.1f}" for role in ROLES)


def overview(rows: Sequence[Treated]) -> str:
    """Mean points lost over the settings, and the accuracies that have no loss."""
    groups = by_noise(rows)
    values: dict[str, Callable[[Treated], float]] = {
        "accuracy before (%)": clean,
        **{f"lost: {name}": lost(treated) for name, treated in TREATMENTS.items()},
        f"accuracy on {SECOND} (%)": on_second,
        "mean accuracy on both tasks then (%)": on_both,
    }
    head = ["", *(f"{title}: {role}" for title in groups for role in ROLES)]
    cells = [
        [name, *(f"{mean(mine, role, value):z.1f}" for mine in groups.values() for role in ROLES)]
        for name, value in values.items()
    ]
    return table(head, cells)


def counts(rows: Sequence[Treated]) -> str:
    """In how many settings a radius is ahead of the base optimizer after a treatment, and loses less by it."""
    total = len(per_setting(rows, len))
    cells: list[list[str]] = []
    for name, treated in TREATMENTS.items():
        ahead, less = (
            [sum(sign * gain > 0 for gain in mean_gains(rows, role, value)) for role in (GRID, LEARNED)]
            for sign, value in ((1, treated), (-1, lost(treated)))
        )
        cells.append([name, *(f"{count} of {total}" for count in (*ahead, *less))])
    pairs = [f"{what}: {role}" for what in ("more accurate", "loses less") for role in (GRID, LEARNED)]
    return table(["after", *pairs], cells)


def mean_gains(rows: Sequence[Treated], role: str, value: Callable[[Treated], float]) -> list[float]:
    """A value minus that of the base optimizer for each setting, mean over the seeds."""
    return per_setting(rows, lambda mine: statistics.fmean(gains(mine, role, value)))


def by_corruption(rows: Sequence[Treated]) -> str:
    """Points lost by each corruption."""
    groups = by_noise(rows)

    def under(kind: str) -> Callable[[Treated], float]:
        return lambda row: statistics.fmean(row.corrupted[f"{kind}:{severity}"] for severity in SEVERITIES)

    head = ["corruption", *(f"{title}: {role}" for title in groups for role in ROLES)]
    cells = [
        [kind, *(f"{mean(mine, role, lost(under(kind))):z.1f}" for mine in groups.values() for role in ROLES)]
        for kind in kinds(rows)
    ]
    return table(head, cells)


def accuracy_table(rows: Sequence[Treated]) -> str:
    """Accuracies of the base optimizer in a setting, and how far the others are above them."""
    values = {"before": clean, **TREATMENTS, SECOND: on_second}
    return _compared("accuracy %", rows, values)


def loss_table(rows: Sequence[Treated]) -> str:
    """Points that the base optimizer loses in a setting, and how much more the others lose."""
    return _compared("points lost", rows, {name: lost(treated) for name, treated in TREATMENTS.items()})


def _compared(what: str, rows: Sequence[Treated], values: Mapping[str, Callable[[Treated], float]]) -> str:
    cells: list[list[str]] = []
    for role, title in ROLES.items():
        mine = [row for row in rows if row.role == role]
        radii = [row.rho for row in mine if row.rho is not None]
        method = mine[0].method.partition("@")[0]
        rho = f" (rho {statistics.fmean(radii):.2g} at the end)" if role == LEARNED else ""
        line = [f"{title}, `{method}`{rho}"]
        for value in values.values():
            shown, form = (points, "z.1f") if role == BASE else (gains, "+z.1f")
            line.append(spread(shown(rows, role, value), form, ".1f"))
        cells.append(line)
    return table([what, *values], cells)
