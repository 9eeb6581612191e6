"""How values of a metric are shown: shares of right answers in percent, BLEU times 100, any other number as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from letsam.languages import N_, gettext

if TYPE_CHECKING:
    from letsam.results.records import Results

__all__ = [
    "METRIC_NAMES",
    "ON_OLD_DATA",
    "POINTS",
    "UNDER_SHIFT",
    "MetricScale",
    "metric_name",
    "metric_scale",
    "number_text",
    "unit_text",
    "value_scale",
]

PERCENT = ("accuracy", "balanced accuracy", "exact match", "mean corruption error")
HUNDREDTHS = ("BLEU",)
BOUNDED = ("R2", "Spearman", "AUROC", "F1", "log loss", "Matthews correlation", "Pearson-Spearman correlation")
UNDER_SHIFT = " under shift"  # ends the name of the mean of a metric over shifted test sets
ON_OLD_DATA = " on old data"  # ends the name of a metric on the test samples of earlier data
POINTS = " points"  # the unit of a difference of shares, in records
MOST_DIGITS = 8

# What metrics are called; others, such as F1 or a metric of the user, are called the same in all languages.
METRIC_NAMES = (
    *(N_("accuracy"), N_("balanced accuracy"), N_("exact match"), N_("mean corruption error"), N_("log loss")),
    *(N_("Matthews correlation"), N_("Pearson-Spearman correlation"), N_("loss"), N_("perplexity")),
)


@dataclass(frozen=True)
class MetricScale:
    """How values of a metric are shown.

    Args:
        factor: that values are multiplied by.
        digits: after the decimal point.
        unit: what follows a value: " %" or nothing.
    """

    factor: float
    digits: int
    unit: str = ""

    def text(self, value: float) -> str:
        """The value without its unit."""
        return number_text(self.factor * value, f".{self.digits}f")

    def difference(self, value: float, metric: str) -> str:
        """A difference of two values, with its sign; `value` is multiplied by the factor already."""
        text = format(value, f"+.{self.digits}f" if abs(value) < 1e9 else "+.2e")
        if self.factor != 1:
            return gettext("{number} points", number=text)
        return gettext("{number} in {metric}", number=text, metric=metric_name(metric))


def metric_scale(results: Results) -> MetricScale:
    """How the main metric of a trial is shown.

    Example:
        >>> from letsam.results import Results
        >>> metric_scale(Results("digits", {}, {}))
        MetricScale(factor=100.0, digits=2, unit=' %')
    """
    return value_scale(results.metric, [abs(run.test_accuracy) for run in results.runs])


def value_scale(metric: str, sizes: list[float]) -> MetricScale:
    """How values of a metric are shown: with three decimals if they are of about 1, else with three digits or more.

    Example:
        >>> value_scale("R2", [0.178]).text(0.178), value_scale("RMSE", [54.321]).text(54.321)
        ('0.178', '54.32')
    """
    metric = metric.removesuffix(UNDER_SHIFT).removesuffix(ON_OLD_DATA)
    if metric in PERCENT:
        return MetricScale(100.0, 2, " %")
    if metric in HUNDREDTHS:
        return MetricScale(100.0, 2)
    if metric in BOUNDED:  # of about 1, so that a value near 0 is near 0
        return MetricScale(1.0, 3)
    largest = max((size for size in sizes if math.isfinite(size) and size > 0), default=1.0)
    place = math.floor(math.log10(largest))
    return MetricScale(1.0, min(max(0, 3 - max(place, 0) if place >= -1 else 2 - place), MOST_DIGITS))


def number_text(value: float, form: str = ".2f") -> str:
    """The number in this format; "diverged" if it is not finite, in scientific notation if it is very large."""
    if not math.isfinite(value):
        return gettext("diverged")
    return format(value, form if abs(value) < 1e9 else ".2e")  # before a run diverges, its losses have up to 30 digits


def metric_name(metric: str) -> str:
    """What a metric is called in the language that is spoken.

    Example:
        >>> metric_name("accuracy under shift")
        'accuracy under shift'
    """
    for ending, message in ((UNDER_SHIFT, N_("{metric} under shift")), (ON_OLD_DATA, N_("{metric} on old data"))):
        if metric.endswith(ending):
            return gettext(message, metric=metric_name(metric.removesuffix(ending)))
    return gettext(metric) if metric in METRIC_NAMES else metric


def unit_text(number: str, unit: str) -> str:
    """A number with its unit.

    Args:
        number: as text.
        unit: as records have it: `POINTS`, or nothing.

    Example:
        >>> unit_text("1.5", POINTS)
        '1.5 points'
    """
    return gettext("{number} points", number=number) if unit == POINTS else number + unit
