"""How the reported metric is written: times 100; an accuracy in percent, another metric (BLEU) without a unit."""

from __future__ import annotations

from letsam.results import Results

__all__ = ["metric_title", "percent"]


def percent(results: Results) -> str:
    """What follows a value of the metric times 100: " %" for an accuracy, nothing for others.

    Example:
        >>> percent(Results("digits", {}, {}))
        ' %'
    """
    return " %" if results.metric == "accuracy" else ""


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
