"""Still pictures of calibration and residuals, for a page without its script."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from letsam.languages import gettext
from letsam.reports.drawing import INK, empty_figure
from letsam.reports.reliability import reliability_of
from letsam.reports.residuals import residual_edges, residuals_of
from letsam.reports.styles import method_styles
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import Results

__all__ = ["fits_figure", "prediction_titles", "reliability_figure", "residual_figure"]


def prediction_titles() -> dict[str, str]:
    """The titles of the figures, by their names."""
    return {
        "reliability": gettext("Right answers (%) by confidence (%)"),
        "fits": gettext("Prediction by target"),
        "residuals": gettext("Samples (%) by residual"),
    }


def reliability_figure(results: Results, found: TrialOutputs) -> Figure:
    """Draw the share of right answers by confidence, a line for each method with its seeds added up."""
    styles = method_styles(results)
    figure, axes = empty_figure(prediction_titles()["reliability"])
    axes.plot([0, 100], [0, 100], ":", color=INK, lw=0.9, alpha=0.6)
    for method in found.methods:
        bins = [reliability_of(found, run) for run in found.runs_of(method)]
        count = np.sum([one.count for one in bins], axis=0)
        used = count > 0
        confidence = 100 * np.sum([one.confidence for one in bins], axis=0)[used] / count[used]
        correct = 100 * np.sum([one.correct for one in bins], axis=0)[used] / count[used]
        style = styles[method]
        axes.plot(confidence, correct, style.linestyle, color=style.color, lw=style.linewidth, zorder=style.zorder)
        sizes = 6 + 60 * np.sqrt(count[used] / count.sum())
        axes.scatter(confidence, correct, sizes, color=style.color, marker=style.marker, zorder=style.zorder, lw=0)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel(gettext("confidence %"), fontsize=9, color=INK)
    return figure


def fits_figure(results: Results, found: TrialOutputs) -> Figure:
    """Draw predictions by target, a dot for each sample and method, a mean over its seeds."""
    styles, edges = method_styles(results), residual_edges(found)
    figure, axes = empty_figure(prediction_titles()["fits"])
    for method in found.methods:
        left = [residuals_of(found, run, edges) for run in found.runs_of(method)]
        predicted = np.mean([one.predicted for one in left], axis=0)
        style = styles[method]
        axes.scatter(left[0].targets, predicted, 14, color=style.color, marker=style.marker, alpha=0.6, lw=0)
    low, high = float(found.targets.min()), float(found.targets.max())
    axes.plot([low, high], [low, high], ":", color=INK, lw=0.9, alpha=0.6)
    axes.set_xlabel(gettext("target"), fontsize=9, color=INK)
    return figure


def residual_figure(results: Results, found: TrialOutputs) -> Figure:
    """Draw how the residuals of each method are distributed, a mean over its seeds."""
    styles, edges = method_styles(results), residual_edges(found)
    figure, axes = empty_figure(prediction_titles()["residuals"])
    for method in found.methods:
        counts = np.mean([residuals_of(found, run, edges).counts for run in found.runs_of(method)], axis=0)
        style = styles[method]
        axes.stairs(100 * counts / counts.sum(), edges, color=style.color, lw=style.linewidth, ls=style.linestyle)
    axes.set_xlabel(gettext("target minus prediction"), fontsize=9, color=INK)
    return figure
