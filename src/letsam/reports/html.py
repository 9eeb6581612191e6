"""The report: one HTML file that holds the whole trial and loads nothing, so that it can be mailed and archived.

Every number is there as text and every figure as a still picture (SVG), which need no script. The script of the page
replaces the pictures by figures that answer to the mouse, drawn by Plotly, which is in the file as well. A
Content-Security-Policy allows these two scripts alone. The same results always give the same page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from letsam.decision import Decision, explanation, headline, numbers_beneath
from letsam.languages import ENGLISH, check_language, gettext, script_messages, speaking
from letsam.reports import table
from letsam.reports.audit_section import audit_section
from letsam.reports.downloads import downloads_of
from letsam.reports.metric_text import metric_name, metric_scale, percent
from letsam.reports.page_data import json_for_page, live_figures, page_data
from letsam.reports.panels import class_panel, reliability_panel, residual_panels, sections_of
from letsam.reports.plotly_bundle import packed_plotly, script_hash
from letsam.reports.prediction_tables import prediction_tables, scores_of_runs
from letsam.reports.recorded_sentences import inferred_text
from letsam.reports.shift_figures import shift_panels
from letsam.reports.shift_numbers import ShiftNumbers, shift_numbers, shift_tables
from letsam.reports.static_page import page_environment, page_style
from letsam.reports.styles import method_styles
from letsam.reports.trial_outputs import TrialOutputs, trial_outputs
from letsam.reports.verdict import verdict
from letsam.results import Results, printable, summarize, write_atomically
from letsam.results.predicted import Predictions, load_predictions

__all__ = ["render_report", "write_report"]

FOLDER = Path(__file__).parent
SCRIPTS = ("numbers", "tables", "figures", "shifts", "page")


def write_report(results: Results, path: str | Path, language: str = ENGLISH) -> None:
    """Write the report of a trial to one self-contained HTML file, in one atomic step.

    Args:
        results: the trial.
        path: of the page; the predictions of its runs are read from the folder ``predictions`` beside it.
        language: of the page: "en", "ja" or another of `letsam.languages.known_languages`.

    Raises:
        ValueError: a file with predictions is damaged, or there is no such language.
    """
    check_language(language)
    path = Path(path)
    predictions = load_predictions(path.parent, [run.key for run in results.runs])
    write_atomically(path, render_report(results, predictions, language))


def render_report(results: Results, predictions: Sequence[Predictions] = (), language: str = ENGLISH) -> str:
    """Return the report of a trial as HTML.

    Args:
        results: the trial.
        predictions: of its runs on the test set, for results by class, calibration and disagreement.
        language: of the page, see `write_report`. The numbers are the same in all languages.

    Raises:
        ValueError: there is no such language.
    """
    with speaking(language):
        return _rendered(results, predictions)


def _rendered(results: Results, predictions: Sequence[Predictions]) -> str:
    """The page in the language that is spoken."""
    found = trial_outputs(predictions)
    sections, shifts, audit = sections_of(results), shift_numbers(results), audit_section(results)
    rows = table.table_rows(results)
    page = (
        page_environment()
        .get_template("template.html.j2")
        .render(
            task=results.title,
            facts=_facts(results),
            decision=_decision(results),
            verdict=verdict(results),
            metric=metric_name(results.metric),
            accuracy=results.metric == "accuracy",
            percent=percent(results),
            hundredths=metric_scale(results).factor != 1,
            lower=results.lower_is_better,
            further=table.further_metrics(results),
            columns=table.columns(results),
            rows=rows,
            seeds=sorted({run.seed for run in results.runs}),
            styles=method_styles(results),
            sections=sections,
            inferred=_inferred(results),
            audit=audit,
            contents=[
                *([("results", gettext("Results"))] if rows else []),
                *([("data", gettext("Data"))] if rows and results.inferred else []),
                *([("audit", gettext("Data audit"))] if rows and audit is not None else []),
                *([(one.anchor, one.heading) for one in sections] if rows else []),
                *([("under-shift", gettext("Under shift"))] if shifts is not None else []),
                *(_anchors(found) if rows else []),
                ("setup", gettext("Configuration")),
                ("definitions", gettext("Definitions")),
            ],
            config=_pairs(results.config),
            environment=_pairs(results.environment),
            shifts=None if shifts is None else _of_shifts(results, shifts),
            **_of_predictions(results, found, shifts),
            **_scripts(),
        )
    )
    return printable(page, page=True)


def _of_shifts(results: Results, shifts: ShiftNumbers) -> dict[str, Any]:
    """What the page has of the tests under shift."""
    return {
        "quantities": shifts.quantities,
        "tables": shift_tables(results, shifts),
        "panels": shift_panels(results, shifts),
        "validation": _validation_shift(results),
    }


def _of_predictions(results: Results, found: TrialOutputs | None, shifts: ShiftNumbers | None) -> dict[str, Any]:
    """What the page has of the predictions of the runs, and the numbers for its script."""
    scores = scores_of_runs(found) if found is not None else {}
    best = table.best_method(summarize(results))
    tables = None if found is None else prediction_tables(found, scores, best)
    regression = found is not None and found.kind == "regression"
    values: dict[str, Any] = {
        "predictions": tables,
        "place": {method: place for place, method in enumerate(results.methods)},
        "downloads": downloads_of(results, found, scores),
        "numbers": Markup(json_for_page(page_data(results, found, scores, tables.shown if tables else (), shifts))),
        "panels": Markup(json_for_page(live_figures(results, shifts) | _messages())),
    }
    if found is not None:
        values["residual_panels"] = residual_panels(results, found) if regression else ()
        values["class_panel"] = class_panel()
        values["reliability_panel"] = None if regression else reliability_panel(results, found)
    return values


def _anchors(found: TrialOutputs | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    names = [("residuals", gettext("Residuals"))] if found.kind == "regression" else []
    if not names:
        classes = gettext("Classes") if found.kind == "classification" else gettext("Labels")
        names = [("classes", classes), ("calibration", gettext("Calibration"))]
    return [*names, *([("disagreement", gettext("Disagreement"))] if len(found.methods) > 1 else [])]


def _scripts() -> dict[str, Any]:
    """Styles, scripts, and the policy that allows these scripts and nothing else."""
    script = _script()
    packed, plotly = packed_plotly()
    policy = (
        f"default-src 'none'; script-src {script_hash(script)} {plotly}; style-src 'unsafe-inline'; img-src data: blob:"
    )
    return {
        "css": page_style(),
        "script": Markup(script),
        "plotly": packed,
        "policy": Markup(policy),
    }


def _script() -> str:
    parts = [(FOLDER / "script" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(['"use strict";', "(() => {", *parts, "})();"])


def _messages() -> dict[str, Any]:
    """What the script says, in a language other than English."""
    found = script_messages(_script())
    return {"messages": found} if found else {}


def _facts(results: Results) -> tuple[tuple[str, str], ...]:
    """The options shown at the top of the page, as far as they are known."""
    facts = [
        (gettext("runs"), str(len(results.runs))),
        (gettext("seeds"), str(len({run.seed for run in results.runs}))),
    ]
    if "epochs" in results.config:
        facts.append((gettext("epochs"), _text(results.config["epochs"])))
    noise = results.config.get("label_noise")
    if isinstance(noise, int | float) and 0 <= noise <= 1:
        facts.append((gettext("label noise"), f"{100 * noise:g} %"))
    if results.config.get("validation_shift") is not None:
        facts.append((gettext("validation shift"), _text(_validation_shift(results))))
    if results.environment.get("device") is not None:
        facts.append((gettext("device"), _text(results.environment["device"])))
    return tuple(facts)


def _validation_shift(results: Results) -> Any:
    """The drift of the validation data; of "auto", what it has found."""
    return results.config.get("learned_shift") or results.config.get("validation_shift")


def _decision(results: Results) -> dict[str, Any] | None:
    """What the page says of the last verdict; None before there is one."""
    if results.decision is None:
        return None
    found = Decision.from_json(results.decision)
    return {"headline": headline(found), "texts": explanation(found), "numbers": numbers_beneath(found)}


def _inferred(results: Results) -> tuple[tuple[str, str], ...]:
    """What was inferred from files of data; records have it in English."""
    return tuple(inferred_text(what, value) for what, value in results.inferred)


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _text(value)) for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return gettext("not set")
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return json.dumps(value, ensure_ascii=False)
