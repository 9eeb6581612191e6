"""Calibration of the runs of a trial."""

from __future__ import annotations

from letsam.reports.trial_outputs import RunOutputs, TrialOutputs
from letsam.results.confidence import Reliability, reliability

__all__ = ["reliability_of"]


def reliability_of(found: TrialOutputs, run: RunOutputs) -> Reliability:
    """The answers of one run by their confidence, see `letsam.results.confidence.reliability`."""
    return reliability(found.kind, run.values, found.targets)
