"""The figures of the page with what is said about them; each is a still picture, and a figure that the script draws."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.figure import Figure

from letsam.languages import gettext, sentences
from letsam.reports import figures
from letsam.reports.drawing import LARGEST, figure_to_svg
from letsam.reports.metric_text import metric_name
from letsam.reports.prediction_figures import fits_figure, reliability_figure, residual_figure
from letsam.reports.residuals import DRAWN
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import Results, finite_mean, printable

__all__ = ["Panel", "Section", "class_panel", "panel_of", "reliability_panel", "residual_panels", "sections_of"]


def _nothing() -> str:
    return gettext("Nothing to draw: no finite value up to {largest} has been recorded.", largest=f"{LARGEST:g}")


@dataclass(frozen=True)
class Panel:
    """One figure of the page.

    Args:
        name: of the figure within the page; the ids of its SVG begin with it.
        title: of the figure.
        description: what it shows, for those who do not see it.
        caption: how to read it.
        svg: the still picture, or None if there is none.
        live: whether the script draws it.
        absent: what the page says where there is neither.
    """

    name: str
    title: str
    description: str
    caption: str
    svg: Markup | None
    live: bool = True
    absent: str = field(default_factory=_nothing)


@dataclass(frozen=True)
class Section:
    """A heading with figures."""

    anchor: str
    heading: str
    intro: str
    panels: tuple[Panel, ...]


def sections_of(results: Results) -> tuple[Section, ...]:
    """The sections with the figures that every trial has."""
    band = (
        gettext(
            "Line: mean over seeds. Band: one standard deviation over seeds, drawn for learned radii only, to keep the "
            "rest readable."
        )
        if len(results.methods) > figures.BANDS
        else gettext("Line: mean over seeds. Band: one standard deviation over seeds.")
    )
    curves = sentences(band, gettext("A line stops where one of its seeds diverges."))
    moves = gettext("How far each step climbs, and what moves it. One thin line for each seed.")
    return (
        Section(
            "comparison", gettext("Comparison"), gettext("Each method after its last epoch."), _comparison(results)
        ),
        Section("curves", gettext("Learning curves"), curves, _curves(results)),
        Section("radius", gettext("The radius"), moves, _radius(results)),
    )


def _comparison(results: Results) -> tuple[Panel, ...]:
    return (
        panel_of(
            "metric-dots",
            gettext("Test metric of each method"),
            _final(results, "test_accuracy"),
            sentences(
                gettext("One dot for each seed, a bar at the mean; the lowest mean is on top.")
                if results.lower_is_better
                else gettext("One dot for each seed, a bar at the mean; the highest mean is on top."),
                gettext("Methods whose dots overlap are not told apart by these runs."),
                gettext("Bold names have a learned radius."),
            ),
            figures.method_comparison(results),
        ),
        panel_of(
            "gap-dots",
            gettext("Generalization gap of each method"),
            _final(results, "generalization_gap"),
            sentences(
                gettext("Test loss minus training loss at the end; the smallest mean is on top."),
                gettext(
                    "A small gap is good only if the {metric} is good as well: a model that has learned nothing has no "
                    "gap.",
                    metric=metric_name(results.metric),
                ),
            ),
            figures.method_comparison(results, "generalization_gap"),
        ),
    )


def _curves(results: Results) -> tuple[Panel, ...]:
    metric = metric_name(results.metric)
    lower = gettext("Lower is better.")
    return (
        panel_of(
            "metric",
            gettext("Test {metric} over epochs", metric=metric),
            _final(results, "test_accuracy"),
            sentences(lower, gettext("A curve that falls and then rises is overfitting."))
            if results.lower_is_better
            else sentences(gettext("Higher is better."), gettext("A curve that rises and then falls is overfitting.")),
            figures.learning_curves(results, legend=False),
        ),
        panel_of(
            "test-loss",
            gettext("Test loss over epochs"),
            _final(results, "test_loss"),
            sentences(
                lower,
                gettext(
                    "It also counts how sure the wrong answers are, so it may rise while the {metric} does not fall.",
                    metric=metric,
                ),
            ),
            figures.learning_curves(results, "test_loss", legend=False),
        ),
        panel_of(
            "train-loss",
            gettext("Training loss over epochs"),
            _final(results, "train_loss"),
            sentences(
                gettext("How well the training labels are fitted."),
                gettext("If labels are noisy, a very low loss means that the noise is memorised."),
            ),
            figures.learning_curves(results, "train_loss", legend=False),
        ),
        panel_of(
            "gap",
            gettext("Generalization gap over epochs"),
            _final(results, "generalization_gap"),
            sentences(
                gettext("Test loss minus training loss."),
                gettext("Closer to zero means that what was learned carries over to unseen data."),
            ),
            figures.gap_over_time(results, legend=False),
        ),
    )


def _radius(results: Results) -> tuple[Panel, ...]:
    return (
        panel_of(
            "radius",
            gettext("Perturbation radius over epochs"),
            _final(results, "rho_final"),
            sentences(
                gettext("Learned radii are drawn solid (a refit dashed), fixed ones dotted."),
                gettext(
                    "Lines of one colour that start apart and end together agree on a radius; a line still on the move "
                    "may have needed more time."
                ),
            ),
            figures.radius_over_time(results, legend=False),
            gettext("No radius to show: none of the methods that have finished perturbs the weights."),
        ),
        panel_of(
            "hypergradient",
            gettext("Hypergradient over epochs"),
            gettext("The hypergradient of every run with a learned radius over epochs."),
            sentences(
                gettext("Mean since the last evaluation."),
                gettext(
                    "Below zero, a larger radius would lower the objective, so the radius grows; above zero it shrinks."
                ),
            ),
            figures.hypergradient_over_time(results, legend=False),
            gettext("No hypergradient to show: none of the methods that have finished learns its radius."),
        ),
    )


def class_panel() -> Panel:
    """The scores by class, which the script draws; without it there is the table."""
    said = gettext("Scores of each class, one mark for each method; the table beside it has the numbers.")
    caption = sentences(
        gettext("One mark for each method."),
        gettext("Classes on which the marks lie apart are those on which the method matters."),
    )
    return Panel("classes", gettext("Scores of each class"), said, caption, None)


def reliability_panel(results: Results, found: TrialOutputs) -> Panel:
    """The reliability diagram."""
    caption = sentences(
        gettext("Below the dotted diagonal the model is too sure of itself, above it not sure enough."),
        gettext("Larger dots stand for more answers."),
    )
    said = gettext(
        "Reliability diagram: share of right answers by confidence, a line for each method; the table has the ECE."
    )
    title = gettext("Reliability diagram")
    return panel_of("reliability", title, said, caption, reliability_figure(results, found))


def residual_panels(results: Results, found: TrialOutputs) -> tuple[Panel, ...]:
    """Predictions by target, and how the residuals are distributed."""
    return (
        panel_of(
            "fits",
            gettext("Predictions by target"),
            gettext(
                "Predicted numbers by target, a dot for each of up to {count} test samples and method, a mean over "
                "seeds.",
                count=DRAWN,
            ),
            sentences(
                gettext("Dots on the dotted line are predicted exactly."),
                gettext("At most {count} test samples are drawn.", count=DRAWN),
            ),
            fits_figure(results, found),
        ),
        panel_of(
            "residuals",
            gettext("Residuals"),
            gettext("How the residuals of each method are distributed; the table has their size."),
            sentences(gettext("Target minus prediction."), gettext("The outer bins hold those beyond as well.")),
            residual_figure(results, found),
        ),
    )


def _final(results: Results, column: str) -> str:
    """The numbers of a figure in one sentence."""
    texts: list[str] = []
    for method in results.methods:
        values = [getattr(run, column) for run in results.runs_of(method)]
        known = [float(value) for value in values if value is not None]
        mean = finite_mean(known) if known else None
        if mean is not None:
            texts.append(f"{method} {mean:.4g}" if mean == mean else gettext("{method} diverged", method=method))
    names = {
        "test_accuracy": gettext("test {metric}", metric=metric_name(results.metric)),
        "test_loss": gettext("test loss"),
        "train_loss": gettext("training loss"),
        "generalization_gap": gettext("generalization gap"),
        "rho_final": gettext("radius after training"),
    }
    means = ", ".join(texts) or gettext("none")
    return gettext("Means over seeds of the {quantity}: {means}.", quantity=names[column], means=means)


def panel_of(
    name: str, title: str, description: str, caption: str, figure: Figure | None, absent: str | None = None
) -> Panel:
    """A figure with its still picture, which the script replaces; without a figure, what the page says of that."""
    svg = None if figure is None else Markup(figure_to_svg(figure, name))
    return Panel(
        name, title, printable(description), caption, svg, figure is not None, _nothing() if absent is None else absent
    )
