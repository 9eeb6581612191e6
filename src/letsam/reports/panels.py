"""The figures of the page with what is said about them; each is a still picture, and a figure that the script draws."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from letsam.reports import figures
from letsam.reports.drawing import LARGEST, figure_to_svg
from letsam.reports.prediction_figures import fits_figure, reliability_figure, residual_figure
from letsam.reports.trial_outputs import TrialOutputs
from letsam.results import Results, finite_mean, printable

__all__ = ["Panel", "Section", "class_panel", "panel_of", "reliability_panel", "residual_panels", "sections_of"]

NOTHING = f"Nothing to draw: no finite value up to {LARGEST:g} has been recorded."


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
    absent: str = NOTHING


@dataclass(frozen=True)
class Section:
    """A heading with figures."""

    anchor: str
    heading: str
    intro: str
    panels: tuple[Panel, ...]


def sections_of(results: Results) -> tuple[Section, ...]:
    """The sections with the figures that every trial has."""
    band = "Line: mean over seeds. Band: one standard deviation over seeds"
    if len(results.methods) > figures.BANDS:
        band += ", drawn for learned radii only, to keep the rest readable"
    band += ". A line stops where one of its seeds diverges."
    moves = "How far each step climbs, and what moves it. One thin line for each seed."
    return (
        Section("comparison", "Comparison", "Each method after its last epoch.", _comparison(results)),
        Section("curves", "Learning curves", band, _curves(results)),
        Section("radius", "The radius", moves, _radius(results)),
    )


def _comparison(results: Results) -> tuple[Panel, ...]:
    better = "lowest" if results.lower_is_better else "highest"
    return (
        panel_of(
            "metric-dots",
            "Test metric of each method",
            f"{_final(results, 'test_accuracy')}",
            f"One dot for each seed, a bar at the mean; the {better} mean is on top. Methods whose dots "
            "overlap are not told apart by these runs. Bold names have a learned radius.",
            figures.method_comparison(results),
        ),
        panel_of(
            "gap-dots",
            "Generalization gap of each method",
            f"{_final(results, 'generalization_gap')}",
            "Test loss minus training loss at the end; the smallest mean is on top. A small gap is good only "
            f"if the {results.metric} is good as well: a model that has learned nothing has no gap.",
            figures.method_comparison(results, "generalization_gap"),
        ),
    )


def _curves(results: Results) -> tuple[Panel, ...]:
    better = "Lower" if results.lower_is_better else "Higher"
    turn = "falls and then rises" if results.lower_is_better else "rises and then falls"
    return (
        panel_of(
            "metric",
            f"Test {results.metric} over epochs",
            _final(results, "test_accuracy"),
            f"{better} is better. A curve that {turn} is overfitting.",
            figures.learning_curves(results, legend=False),
        ),
        panel_of(
            "test-loss",
            "Test loss over epochs",
            _final(results, "test_loss"),
            "Lower is better. It also counts how sure the wrong answers are, so it may rise while the "
            f"{results.metric} does not fall.",
            figures.learning_curves(results, "test_loss", legend=False),
        ),
        panel_of(
            "train-loss",
            "Training loss over epochs",
            _final(results, "train_loss"),
            "How well the training labels are fitted. If labels are noisy, a very low loss means that "
            "the noise is memorised.",
            figures.learning_curves(results, "train_loss", legend=False),
        ),
        panel_of(
            "gap",
            "Generalization gap over epochs",
            _final(results, "generalization_gap"),
            "Test loss minus training loss. Closer to zero means that what was learned carries over to unseen data.",
            figures.gap_over_time(results, legend=False),
        ),
    )


def _radius(results: Results) -> tuple[Panel, ...]:
    return (
        panel_of(
            "radius",
            "Perturbation radius over epochs",
            _final(results, "rho_final", "radius after training"),
            "Learned radii are drawn solid (a refit dashed), fixed ones dotted. Lines of one colour that "
            "start apart and end together agree on a radius; a line still on the move may have needed more time.",
            figures.radius_over_time(results, legend=False),
            "No radius to show: none of the methods that have finished perturbs the weights.",
        ),
        panel_of(
            "hypergradient",
            "Hypergradient over epochs",
            "The hypergradient of every run with a learned radius over epochs.",
            "Mean since the last evaluation. Below zero, a larger radius would lower the objective, so the "
            "radius grows; above zero it shrinks.",
            figures.hypergradient_over_time(results, legend=False),
            "No hypergradient to show: none of the methods that have finished learns its radius.",
        ),
    )


def class_panel() -> Panel:
    """The scores by class, which the script draws; without it there is the table."""
    said = "Scores of each class, one mark for each method; the table beside it has the numbers."
    caption = "One mark for each method. Classes on which the marks lie apart are those on which the method matters."
    return Panel("classes", "Scores of each class", said, caption, None)


def reliability_panel(results: Results, found: TrialOutputs) -> Panel:
    """The reliability diagram."""
    caption = (
        "Below the dotted diagonal the model is too sure of itself, above it not sure enough. Larger dots stand for "
        "more answers."
    )
    said = "Reliability diagram: share of right answers by confidence, a line for each method; the table has the ECE."
    return panel_of("reliability", "Reliability diagram", said, caption, reliability_figure(results, found))


def residual_panels(results: Results, found: TrialOutputs) -> tuple[Panel, ...]:
    """Predictions by target, and how the residuals are distributed."""
    return (
        panel_of(
            "fits",
            "Predictions by target",
            "Predicted numbers by target, a dot for each of up to 400 test samples and method, a mean over seeds.",
            "Dots on the dotted line are predicted exactly. At most 400 test samples are drawn.",
            fits_figure(results, found),
        ),
        panel_of(
            "residuals",
            "Residuals",
            "How the residuals of each method are distributed; the table has their size.",
            "Target minus prediction. The outer bins hold those beyond as well.",
            residual_figure(results, found),
        ),
    )


def _final(results: Results, column: str, name: str | None = None) -> str:
    """The numbers of a figure in one sentence."""
    name = name or column.replace("_", " ").replace("test accuracy", f"test {results.metric}")
    texts: list[str] = []
    for method in results.methods:
        values = [getattr(run, column) for run in results.runs_of(method)]
        known = [float(value) for value in values if value is not None]
        mean = finite_mean(known) if known else None
        if mean is not None:
            texts.append(f"{method} {mean:.4g}" if mean == mean else f"{method} diverged")
    return f"Means over seeds of the {name}: {', '.join(texts) or 'none'}."


def panel_of(
    name: str, title: str, description: str, caption: str, figure: Figure | None, absent: str = NOTHING
) -> Panel:
    """A figure with its still picture, which the script replaces; without a figure, what the page says of that."""
    svg = None if figure is None else Markup(figure_to_svg(figure, name))
    return Panel(name, title, printable(description), caption, svg, figure is not None, absent)
