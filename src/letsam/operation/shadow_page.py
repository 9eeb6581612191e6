"""``shadow.html``: where champion and challenger differ, on one page without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from letsam.operation.shadow_report import ClassDifference, ShadowReport
from letsam.operation.shadow_wording import model_text, number_of, shadow_headline, shadow_numbers, shadow_texts
from letsam.reports.drawing import INK, empty_figure, figure_to_svg
from letsam.reports.panels import Panel
from letsam.reports.prediction_tables import TextTable
from letsam.reports.static_page import CaptionedTable, PagePart, StaticPage

__all__ = ["shadow_page"]

LISTED = 50
"""So many differing samples are on the page; the file has all."""
DRAWN = 25
"""So many classes are drawn, those that differ most; the table has all."""
COLOUR = "#e0600d"


def shadow_page(found: ShadowReport) -> str:
    """The page as HTML; the same report always gives the same page."""
    words = {"classification": ("class", "classes"), "multilabel": ("label", "labels")}
    one, many = words.get(found.kind, ("predicted number", "predicted numbers"))
    return StaticPage(
        title=f"letsam shadow: {found.data['name']}",
        heading="Champion and challenger on the same data",
        facts=_facts(found),
        lead=shadow_headline(found),
        texts=shadow_texts(found),
        numbers=shadow_numbers(found),
        parts=(
            PagePart(
                "outputs",
                f"By {one}",
                _intro(found),
                panels=_class_panels(found, many),
                tables=(CaptionedTable(_class_table(found, one), f"How much the answers differ for each {one}"),),
            ),
            PagePart(
                "samples",
                "The samples that differ",
                _samples_intro(found),
                tables=_sample_tables(found),
                absent="There is none.",
            ),
        ),
        definitions=_definitions(found),
        footer="Made by letsam shadow; shadow.json has the numbers, differing.csv all samples that differ.",
    ).render()


def _facts(found: ShadowReport) -> list[tuple[str, str]]:
    return [
        ("champion", model_text(found.champion)),
        ("challenger", model_text(found.challenger)),
        ("data", str(found.data["name"])),
        ("samples", f"{found.samples:,}"),
        ("with labels", f"{found.labelled:,}"),
        ("time", found.time),
    ]


def _intro(found: ShadowReport) -> str:
    if found.kind == "classification":
        return "Samples by what the champion answers, and how many of them the challenger answers differently."
    what = "absolute difference of the predictions" if found.kind == "regression" else "share of different answers"
    return f"The {what}, for each {'predicted number' if found.kind == 'regression' else 'label'}."


def _class_panels(found: ShadowReport, many: str) -> tuple[Panel, ...]:
    rows = [row for row in found.by_class if row.samples]
    rows = sorted(rows, key=lambda row: row.disagreement.value)[-DRAWN:]
    if len(rows) < 2:
        return ()
    caption = "Dot: what was seen. Line: the bounds."
    if len(rows) < len(found.by_class):
        caption += f" The {len(rows)} {many} that differ most."
    said = f"Disagreement by {many}; the table beneath has the numbers."
    svg = Markup(figure_to_svg(_class_figure(found, rows), "outputs"))
    return (Panel("outputs", f"Disagreement by {many}", said, caption, svg, live=False),)


def _class_figure(found: ShadowReport, rows: Sequence[ClassDifference]) -> Figure:
    factor = 1 if found.kind == "regression" else 100
    title = "Mean absolute difference" if factor == 1 else "Samples with different answers (%)"
    figure, axes = empty_figure(title, 1.1 + 0.26 * len(rows))
    for place, row in enumerate(rows):
        one = row.disagreement
        if one.low is not None and one.high is not None:
            axes.plot([factor * one.low, factor * one.high], [place, place], color=COLOUR, lw=1.6)
        axes.plot([factor * one.value], [place], "o", color=COLOUR, ms=5)
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows], fontsize=9, color=INK)
    axes.set_xlim(left=0)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure


def _class_table(found: ShadowReport, one: str) -> TextTable:
    numbers = found.kind == "regression"
    unit = "" if numbers else " %"
    columns = [one, "samples", *([] if numbers else ["differing"]), f"disagreement{unit}", "bounds"]
    columns += ["mostly"] if found.kind == "classification" else []
    right = "mean absolute error" if numbers else "right %"
    columns += ["with label", f"champion {right}", f"challenger {right}"] if found.labelled else []
    rows: list[tuple[str, ...]] = []
    for row in found.by_class:
        rate = row.disagreement
        value, low, high = (_shown(bound, percent=not numbers) for bound in (rate.value, rate.low, rate.high))
        cells = [row.name, f"{row.samples:,}", *([] if row.differing is None else [f"{row.differing:,}"])]
        cells += [value, f"{low} to {high}" if row.samples else number_of(None)]
        cells += [row.mostly or number_of(None)] if found.kind == "classification" else []
        if found.labelled:
            shares = [_share(right, row.labelled) for right in (row.champion_right, row.challenger_right)]
            errors = [number_of(row.champion_error), number_of(row.challenger_error)]
            cells += [f"{row.labelled or 0:,}", *(errors if numbers else shares)]
        rows.append(tuple(cells))
    return TextTable(tuple(columns), tuple(rows))


def _samples_intro(found: ShadowReport) -> str:
    count = len(found.differing_samples)
    if not count:
        return ""
    few = f"The {LISTED} farthest apart of {count:,} (differing.csv has all of them)"
    shown = few if count > LISTED else "All of them"
    numbered = found.differing_samples[0].name.isdigit()
    places = " A number is the place of a sample in the data, from 0." if numbered else ""
    return f"{shown}, by the distance of the predictions.{places}"


def _sample_tables(found: ShadowReport) -> tuple[CaptionedTable, ...]:
    shown = found.differing_samples[:LISTED]
    if not shown:
        return ()
    labelled = any(one.label is not None for one in shown)
    right = "closer" if found.kind == "regression" else "right"
    columns = ["sample", "champion", "challenger", "distance", *(["label", right] if labelled else [])]
    rows = [_sample_cells(one, labelled=labelled) for one in shown]
    caption = "Confidence in brackets." if shown[0].confidences is not None else "The predictions of both models."
    return (CaptionedTable(TextTable(tuple(columns), tuple(rows)), caption, wraps=True),)


def _sample_cells(one: Any, *, labelled: bool) -> tuple[str, ...]:
    confidences = one.confidences or (math.nan, math.nan)
    answers = [
        f"{answer or 'none'} ({100 * confidence:.0f}\N{NO-BREAK SPACE}%)" if confidence == confidence else answer
        for answer, confidence in zip(one.answers, confidences, strict=True)
    ]
    cells = [one.name, *answers, number_of(one.distance)]
    if labelled:
        cells += [one.label or ("none" if one.label == "" else "not known"), one.right or "not known"]
    return tuple(cells)


def _definitions(found: ShadowReport) -> list[tuple[str, str]]:
    distance = {
        "classification": "Half the sum of the absolute differences of the probabilities (total variation): 0 where "
        "the models give the same probabilities, 1 where they share none.",
        "multilabel": "The mean absolute difference of the probabilities of the labels, from 0 to 1.",
    }
    rows = [
        ("Champion, challenger", "The model in use, and the one that may replace it."),
        ("Distance", distance.get(found.kind, "The absolute difference of the predicted numbers, a mean over them.")),
        (
            "Bounds",
            f"Each is wrong with a probability of at most {100 * found.level:g} %, one by one, not all together.",
        ),
    ]
    if found.kind != "regression":
        rows.append(
            ("Confidence", "The probability that a model gives its answer; of labels, to the least certain of them.")
        )
    return rows


def _share(part: int | None, whole: int | None) -> str:
    return number_of(None) if part is None or not whole else f"{100 * part / whole:.1f}"


def _shown(value: float | None, *, percent: bool) -> str:
    return f"{100 * value:.2f}" if percent and value is not None and math.isfinite(value) else number_of(value)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"
