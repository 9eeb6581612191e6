"""How the reported metric is written; `letsam.results.metric_units` has its unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from letsam.languages import gettext
from letsam.results import Results, finite_mean, finite_spread
from letsam.results.metric_units import MetricScale, metric_name, metric_scale, number_text, value_scale

__all__ = [
    "NOTHING",
    "MetricScale",
    "metric_name",
    "metric_scale",
    "metric_title",
    "number_text",
    "percent",
    "spread_text",
    "value_scale",
]

NOTHING = "\N{EN DASH}"
"""The text of a cell without a value, such as the radius of SGD."""


def percent(results: Results) -> str:
    """What follows a value of the metric: " %" for a share of right answers, nothing for others.

    Example:
        >>> percent(Results("digits", {}, {}))
        ' %'
    """
    return metric_scale(results).unit


def metric_title(results: Results, percent_sign: str = "%") -> str:
    """The heading of a column or a figure with the metric on the test set.

    Args:
        results: the trial.
        percent_sign: what marks an accuracy as a percentage.

    Example:
        >>> metric_title(Results("digits", {}, {}), "(%)")
        'test accuracy (%)'
    """
    name = gettext("test {metric}", metric=metric_name(results.metric))
    return f"{name} {percent_sign}" if percent(results) else name


def spread_text(values: Sequence[float], scale: float, digits: int) -> str:
    """The mean of values with their sample standard deviation, both times `scale`; a dash where one is not finite.

    Example:
        >>> spread_text([0.01, 0.02], 100, 1), spread_text([1.0], 1, 1)
        ('1.5 ± 0.7', '1.0')
    """
    if not all(map(math.isfinite, values)):
        return NOTHING
    mean = f"{scale * finite_mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {scale * finite_spread(values):.{digits}f}"
