"""How the reported metric is written; `letsam.results.metric_units` has its unit."""

from __future__ import annotations

from letsam.results import Results
from letsam.results.metric_units import MetricScale, metric_scale, number_text, value_scale

__all__ = ["MetricScale", "metric_scale", "metric_title", "number_text", "percent", "value_scale"]


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
    return f"test {results.metric}" + (f" {percent_sign}" if percent(results) else "")
