"""Trials with given gains, for the tests of verdicts."""

import dataclasses

from letsam.results import Run

BASE = [0.70, 0.71, 0.72, 0.70]


def plus(*gains):
    """Accuracies that are better than `BASE` by so many points."""
    return [accuracy + gain / 100 for accuracy, gain in zip(BASE, gains, strict=False)]


def changed(results, method=None, **fields):
    """Results with other values of fields, in all runs or in those of a method."""
    runs = [
        Run(
            **{
                **vars(run),
                **{name: value[run.seed] if isinstance(value, list) else value for name, value in fields.items()},
            }
        )
        if method in (None, run.method)
        else run
        for run in results.runs
    ]
    return dataclasses.replace(results, runs=tuple(runs))
