"""What the rows say: accuracies, paired differences with intervals, tables and the figure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from scipy import stats

from benchmarks.harness.page import BLUE, GREEN, GREY, LIGHT_BLUE, ORANGE, dress, filled, spread, table
from letsam.decision import bounds

if TYPE_CHECKING:
    from benchmarks.validation.benchmark import Measured, Setting

BEST = "best"  # of the grid
ERROR = 0.05  # probability that the true mean lies below an interval, and that it lies above
LABELS = {
    "base": "{base}",
    BEST: "best of the grid, chosen by the shifted test",
    "learned-clean": "learned, clean validation data",
    "learned-test": "learned, the test's shifts in validation",
    "learned-other": "learned, other shifts in validation",
    "base-augmented": "{base}, training data augmented with the test's shifts",
    "base-augmented-other": "{base}, training data augmented with other shifts",
    "learned-augmented": "learned, the test's shifts in validation and training",
}
Accuracy = Callable[["Measured"], float]


@dataclass(frozen=True)
class Results:
    """The finished runs of a setting: those of seeds that all rows have."""

    setting: Setting
    runs: Mapping[str, list[Measured]]  # by row, with the best of the grid under `BEST`

    @classmethod
    def of(cls, setting: Setting, rows: Sequence[Measured]) -> Results | None:
        """None where no seed is finished."""
        found = {name: {row.seed: row for row in rows if row.method == name} for name in setting.rows}
        seeds = sorted(set.intersection(*(set(one) for one in found.values())))
        if not seeds:
            return None
        runs = {name: [one[seed] for seed in seeds] for name, one in found.items()}
        made = cls(setting, runs)
        return cls(setting, {**runs, BEST: runs[max(setting.grid_rows, key=lambda name: mean(made.accuracy(name)))]})

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.runs[BEST])

    def accuracy(self, row: str, which: str = "test") -> list[float]:
        """Mean accuracy in percent over the shifts "test" or "other" of the test data, or on "clean" ones, by seed."""
        if which == "clean":
            return [100 * run.clean for run in self.runs[row]]
        shifts = (self.setting.shifts(which) or "").split(",")
        return [100 * statistics.fmean(run.under[shift] for shift in shifts) for run in self.runs[row]]

    def gains(self, row: str, over: str, which: str = "test") -> list[float]:
        """By how many points a row is better than another one, seed by seed."""
        return [a - b for a, b in zip(self.accuracy(row, which), self.accuracy(over, which), strict=True)]

    def radius(self, row: str) -> str:
        """The final radius."""
        radii = [run.rho_final for run in self.runs[row] if run.rho_final is not None]
        return f"{mean(radii):.2g}" if radii else ""

    def cost(self, row: str) -> float:
        """Gradient passes, as a multiple of those of the base optimizer; those of the best are of the whole grid."""
        if row == BEST:
            return sum(map(self.cost, self.setting.grid_rows))
        return mean([run.passes for run in self.runs[row]]) / mean([run.passes for run in self.runs["base"]])


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return statistics.fmean(values)


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """Bounds of the true mean of paired differences; each is wrong with a probability of 5%."""
    return bounds(gains, float(stats.t.isf(ERROR, len(gains) - 1)))


def difference(gains: Sequence[float]) -> str:
    """The mean with its interval; bold where the interval does not contain 0."""
    if len(gains) < 2:
        return f"{mean(gains):+.1f}"
    low, high = interval(gains)
    text = f"{mean(gains):+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def setting_table(results: Results) -> str:
    """All rows of a setting."""
    rows: list[list[str]] = []
    grid = [name for name in results.setting.grid_rows if results.runs[name] is not results.runs[BEST]]
    for name in ("base", *grid, *LABELS):
        if name == "base" and rows:
            continue
        label = LABELS.get(name, f"SAM, radius {name.partition(':')[2]}").format(base=results.setting.base)
        gain = "" if name == "base" else difference(results.gains(name, "base"))
        columns = [spread(results.accuracy(name, which), ".1f", ".1f") for which in ("clean", "test", "other")]
        rows.append([label, *columns[:2], gain, columns[2], results.radius(name), f"{results.cost(name):.1f}"])
    head = ["", "clean test", "shifted test", "gain over the base optimizer", "other shifts", "radius", "cost"]
    return table(head, rows)


@dataclass(frozen=True)
class Comparison:
    """One row minus another one, on a part of the test data."""

    title: str
    row: str
    over: str
    which: str = "test"

    def gains(self, found: Results) -> list[float]:
        """By seed."""
        return found.gains(self.row, self.over, self.which)

    def median(self, found: Sequence[Results]) -> float:
        """Of the mean gains, over the settings."""
        return statistics.median(mean(self.gains(one)) for one in found)

    def sentence(self, found: Sequence[Results]) -> str:
        """Median over the settings, and in how many of them the interval is above or below 0."""
        better, worse = self.shown(found)
        return f"{self.median(found):+.1f}, better in {len(better)} and worse in {len(worse)} of {len(found)}"

    def shown(self, found: Sequence[Results]) -> tuple[list[Results], list[Results]]:
        """The settings whose interval is above 0, and those whose interval is below."""
        intervals = [(one, interval(gains)) for one in found if len(gains := self.gains(one)) > 1]
        return [one for one, (low, _) in intervals if low > 0], [one for one, (_, high) in intervals if high < 0]


ON_SHIFTED = {
    "grid": Comparison("best of the grid - base", BEST, "base"),
    "learned": Comparison("learned, clean validation - base", "learned-clean", "base"),
    "shifted": Comparison("the test's shifts in validation - clean", "learned-test", "learned-clean"),
    "other": Comparison("other shifts in validation - clean", "learned-other", "learned-clean"),
    "learned_grid": Comparison("the test's shifts in validation - best of the grid", "learned-test", BEST),
    "augmentation": Comparison("augmentation - base", "base-augmented", "base"),
    "augmentation_other": Comparison("augmentation with other shifts - base", "base-augmented-other", "base"),
    "both": Comparison("augmentation: learned - base", "learned-augmented", "base-augmented"),
}
ELSEWHERE = {
    "clean_shifted": Comparison(
        "clean: the test's shifts in validation - clean", "learned-test", "learned-clean", "clean"
    ),
    "clean_augmentation": Comparison("clean: augmentation - base", "base-augmented", "base", "clean"),
    "clean_both": Comparison("clean: augmentation, learned - base", "learned-augmented", "base", "clean"),
    "other_shifted": Comparison(
        "other shifts: the test's shifts in validation - clean", "learned-test", "learned-clean", "other"
    ),
    "other_augmentation": Comparison("other shifts: augmentation - base", "base-augmented", "base", "other"),
}


FINDINGS = {
    "**The test's shifts in validation, instead of clean validation data**": "shifted",
    "**Training data augmented with the test's shifts, base optimizer**": "augmentation",
    "Augmented with other shifts than the test's": "augmentation_other",
    "Augmented, on shifts other than those": "other_augmentation",
    "**A learned radius with clean validation data, over the base optimizer**": "learned",
    "A learned radius on top of augmentation": "both",
    "The best of four fixed radii, chosen by the shifted test itself": "grid",
    "The learned radius with the test's shifts in validation, over that best of the grid": "learned_grid",
}


def lead(found: Sequence[Results]) -> str:
    """The conclusion: shifted validation data beside augmentation, and where a learned radius helps and harms."""
    medians = {name: ON_SHIFTED[name].median(found) for name in ("shifted", "augmentation")}
    learned = ON_SHIFTED["learned"]
    better, worse = (
        [f"{one.setting.title} {mean(learned.gains(one)):+.1f}" for one in side] for side in learned.shown(found)
    )
    return filled(
        f"**Where operation will be shifted, the same shifts in the training data (augmentation) gained "
        f"{medians['augmentation']:+.1f} points, and {medians['shifted']:+.1f} in the validation data of the radius.** "
        f"A learned radius, without any shifted data, was better than the base optimizer in {len(better)} of "
        f"{sum(one.seeds > 1 for one in found)} settings ({'; '.join(better) or 'none'}) and worse in {len(worse)} "
        f"({'; '.join(worse) or 'none'})."
    )


def findings(found: Sequence[Results]) -> str:
    """What the comparisons say, a line each."""
    comparisons = ON_SHIFTED | ELSEWHERE
    return "\n".join(filled(f"- {title}: {comparisons[name].sentence(found)}.") for title, name in FINDINGS.items())


def summary_table(found: Sequence[Results], comparisons: Mapping[str, Comparison]) -> str:
    """The comparisons by setting, and the medians over the settings."""
    shown = list(comparisons.values())
    rows = [[one.setting.title, *(difference(which.gains(one)) for which in shown)] for one in found]
    means = [[mean(which.gains(one)) for one in found] for which in shown]
    rows.append(["median over the settings", *(f"{statistics.median(one):+.1f}" for one in means)])
    return table(["", *(one.title for one in shown)], rows)


def figure(found: Sequence[Results]) -> Figure:
    """The gain of each row over the base optimizer on shifted test data, by setting."""
    shown = {
        BEST: ("best of the grid", GREY, "s"),
        "learned-clean": ("learned, clean validation", LIGHT_BLUE, "o"),
        "learned-test": ("learned, the test's shifts in validation", BLUE, "o"),
        "base-augmented": ("augmentation", ORANGE, "D"),
        "learned-augmented": ("augmentation, learned", GREEN, "D"),
    }
    drawn = Figure(figsize=(8.5, 1.2 + 0.62 * len(found)), layout="constrained")
    axes = drawn.subplots()
    for number, (row, (label, colour, marker)) in enumerate(shown.items()):
        places = [place + 0.15 * (number - 2) for place in range(len(found))]
        gains = [one.gains(row, "base") for one in found]
        limits = [interval(one) if len(one) > 1 else (mean(one), mean(one)) for one in gains]
        axes.hlines(places, [low for low, _ in limits], [high for _, high in limits], colors=colour, lw=1.4)
        axes.plot([mean(one) for one in gains], places, marker, color=colour, label=label, ms=5)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(found)), [one.setting.title for one in found])
    axes.invert_yaxis()
    dress(axes, x="points of accuracy on shifted test data, compared with the base optimizer")
    drawn.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return drawn
