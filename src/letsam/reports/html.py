"""The report: one HTML file that holds the whole trial and loads nothing.

Figures are inlined as SVG, the styles are in the page, and there is no script, so the file can be mailed, archived and
opened anywhere. The same results always give the same page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from letsam.reports import figures, table
from letsam.reports.drawing import LARGEST, figure_to_svg
from letsam.reports.metric_text import percent
from letsam.reports.styles import method_styles
from letsam.reports.verdict import verdict
from letsam.results import Results, printable, write_atomically

__all__ = ["render_report", "write_report"]


@dataclass(frozen=True)
class _Panel:
    """One figure of the page.

    Args:
        name: of the figure within the page; the ids of its SVG begin with it.
        caption: how to read it.
        svg: the figure, or None if there is nothing to draw.
        absent: what the page says where there is no figure.
    """

    name: str
    caption: str
    svg: Markup | None
    absent: str


def write_report(results: Results, path: str | Path) -> None:
    """Write the report of a trial to one self-contained HTML file, in one atomic step."""
    write_atomically(Path(path), render_report(results))


def render_report(results: Results) -> str:
    """Return the report of a trial as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html.j2").render(
        task=results.task,
        facts=_facts(results),
        verdict=verdict(results),
        metric=results.metric,
        percent=percent(results),
        columns=table.columns(results),
        rows=table.table_rows(results),
        styles=method_styles(results),
        sections=_sections(results),
        config=_pairs(results.config),
        environment=_pairs(results.environment),
    )
    return printable(page, page=True)


def _sections(results: Results) -> tuple[tuple[str, str, tuple[_Panel, ...]], ...]:
    """Heading, introduction and panels of each section of figures."""
    panels = {panel.name: panel for panel in _panels(results)}
    band = "Line: mean over seeds. Band: one standard deviation over seeds"
    if len(results.methods) > figures.BANDS:
        band += ", drawn for learned radii only, to keep the rest readable"
    band += ". A line stops where one of its seeds diverges."
    return (
        ("Comparison", "Each method after its last epoch.", (panels["metric-dots"], panels["gap-dots"])),
        (
            "Learning curves",
            band,
            (panels["metric"], panels["test-loss"], panels["train-loss"], panels["gap"]),
        ),
        (
            "The radius",
            "How far each step climbs, and what moves it. One thin line for each seed.",
            (panels["radius"], panels["hypergradient"]),
        ),
    )


def _panels(results: Results) -> tuple[_Panel, ...]:
    nothing = f"Nothing to draw: no finite value up to {LARGEST:g} has been recorded."
    return (
        _panel(
            "metric-dots",
            "One dot for each seed, a bar at the mean; the highest mean is on top. Methods whose dots "
            "overlap are not told apart by these runs. Bold names have a learned radius.",
            figures.method_comparison(results),
            nothing,
        ),
        _panel(
            "gap-dots",
            "Test loss minus training loss at the end; the smallest mean is on top. A small gap is good only "
            f"if the {results.metric} is high as well: a model that has learned nothing has no gap.",
            figures.method_comparison(results, "generalization_gap"),
            nothing,
        ),
        _panel(
            "metric",
            "Higher is better. A curve that rises and then falls is overfitting.",
            figures.learning_curves(results, legend=False),
            nothing,
        ),
        _panel(
            "test-loss",
            "Lower is better. It also counts how sure the wrong answers are, so it may rise while the "
            f"{results.metric} does not fall.",
            figures.learning_curves(results, "test_loss", legend=False),
            nothing,
        ),
        _panel(
            "train-loss",
            "How well the training labels are fitted. If labels are noisy, a very low loss means that "
            "the noise is memorised.",
            figures.learning_curves(results, "train_loss", legend=False),
            nothing,
        ),
        _panel(
            "gap",
            "Test loss minus training loss. Closer to zero means that what was learned carries over to unseen data.",
            figures.gap_over_time(results, legend=False),
            nothing,
        ),
        _panel(
            "radius",
            "Learned radii are drawn solid (a refit dashed), fixed ones dotted. Lines of one colour that "
            "start apart and end together agree on a radius; a line still on the move may have needed more time.",
            figures.radius_over_time(results, legend=False),
            "No radius to show: none of the methods that have finished perturbs the weights.",
        ),
        _panel(
            "hypergradient",
            "Mean since the last evaluation. Below zero, a larger radius would lower the objective, so the "
            "radius grows; above zero it shrinks.",
            figures.hypergradient_over_time(results, legend=False),
            "No hypergradient to show: none of the methods that have finished learns its radius.",
        ),
    )


def _panel(name: str, caption: str, figure: Figure | None, absent: str) -> _Panel:
    svg = None if figure is None else Markup(figure_to_svg(figure, name))
    return _Panel(name, caption, svg, absent)


def _facts(results: Results) -> tuple[tuple[str, str], ...]:
    """The options shown at the top of the page, as far as they are known."""
    facts = [("runs", str(len(results.runs))), ("seeds", str(len({run.seed for run in results.runs})))]
    if "epochs" in results.config:
        facts.append(("epochs", _text(results.config["epochs"])))
    noise = results.config.get("label_noise")
    if isinstance(noise, int | float) and 0 <= noise <= 1:
        facts.append(("label noise", f"{100 * noise:g} %"))
    if results.environment.get("device") is not None:
        facts.append(("device", _text(results.environment["device"])))
    return tuple(facts)


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _text(value)) for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "not set"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return json.dumps(value, ensure_ascii=False)
