"""What the page says of the audit of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from letsam.languages import N_, gettext, sentences
from letsam.reports.metric_text import NOTHING
from letsam.reports.recorded_sentences import audit_text, sample_name
from letsam.results import Results

__all__ = ["AuditSection", "ShownFinding", "audit_section"]

UNSEEN = 0.1  # share of wrong labels that an audit should not miss

Parts = tuple[tuple[str, bool], ...]
"""A sentence in parts, each with whether it is code."""


@dataclass(frozen=True)
class ShownFinding:
    """A finding as the page shows it.

    Args:
        code: the kind of fault.
        severity: "error" or "warning".
        count: how many, as text; empty where it is about whole sets.
        what: what is wrong.
        change: what to change.
        samples: names of some of the samples.
    """

    code: str
    severity: str
    count: str
    what: Parts
    change: Parts
    samples: tuple[str, ...]


@dataclass(frozen=True)
class AuditSection:
    """The section on the audit.

    Args:
        intro: what was examined, and how.
        findings: what is wrong, errors first.
        numbers: what was measured, in pairs.
    """

    intro: str
    findings: tuple[ShownFinding, ...]
    numbers: tuple[tuple[str, str], ...]


def audit_section(results: Results) -> AuditSection | None:
    """What the page says of the audit; None where there is none."""
    if results.audit is None:
        return None
    audit, measures = results.audit, results.audit["measures"]
    findings = tuple(
        ShownFinding(
            one["code"],
            one["severity"],
            _count(one["count"], one["total"]),
            _parts(audit_text(one["what"])),
            _parts(audit_text(one["change"])),
            tuple(map(sample_name, one["samples"])),
        )
        for one in audit["findings"]
    )
    return AuditSection(_intro(audit, measures), findings, _numbers(measures))


def _intro(audit: Mapping[str, Any], measures: Mapping[str, Any]) -> str:
    examined = measures.get("examined") or [measures.get("train"), measures.get("validation")]
    whole = [measures.get("train"), measures.get("validation")]
    sizes = [_of(part, total) for part, total in zip(examined, whole, strict=False)]
    training, validation = (*sizes, "?", "?")[:2]
    texts = [
        gettext(
            "Examined: {training} training and {validation} validation samples, as seed {seed} divides them, before "
            "label noise and shifts of the trial.",
            training=training,
            validation=validation,
            seed=audit.get("seed", "?"),
        )
    ]
    if audit.get("deployed") is not None:
        texts.append(gettext("They were compared with {data}.", data=audit["deployed"]))
    texts.append(gettext("In data without faults, an audit finds something in about 1 % of cases."))
    texts += _untold(audit, measures)
    if audit.get("probe") is False:
        texts.append(gettext("Whether there are enough validation samples was not examined; letsam audit does so."))
    return sentences(*texts)


def _untold(audit: Mapping[str, Any], measures: Mapping[str, Any]) -> list[str]:
    """What could not be told of the labels, as `letsam.validation.Audit.untold` says it."""
    share, skill = measures.get("wrong_label_share"), measures.get("label_skill")
    if _finite(skill) and share is None:
        sentence = gettext(
            "Whether labels are wrong cannot be told: a classifier predicts too few of them (Cohen's kappa {kappa}).",
            kappa=f"{skill:.2f}",
        )
        return [sentence]
    found = any(one["code"] == "wrong-labels" for one in audit["findings"])
    if isinstance(share, list) and len(share) == 3 and _finite(share[2]) and share[2] >= UNSEEN and not found:
        return [gettext("Up to {share} % of the labels may be wrong without a finding.", share=f"{100 * share[2]:.0f}")]
    return []


def _of(part: Any, total: Any) -> str:
    numbers = [f"{value:,}" if isinstance(value, int) else "?" for value in (part, total)]
    return numbers[0] if part == total else gettext("{part} of {total}", part=numbers[0], total=numbers[1])


def _count(count: int | None, total: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,}" if total is None else gettext("{part} of {total}", part=f"{count:,}", total=f"{total:,}")


def _parts(text: str) -> Parts:
    """The text between backquotes is code."""
    return tuple((part, bool(index % 2)) for index, part in enumerate(text.split("`")) if part)


_NUMBERS = {
    "duplicates": (N_("validation samples that are trained on"), "count"),
    "near_duplicates": (N_("validation samples that are nearly trained on"), "count"),
    "label_shares_p": (N_("same distribution of targets, p-value"), "number"),
    "suspected_labels": (N_("labels that are suspected to be wrong"), "count"),
    "labels_not_predicted": (N_("labels that a classifier does not predict"), "share"),
    "label_skill": (N_("agreement of a classifier with the labels, Cohen's kappa"), "number"),
    "wrong_label_share": (N_("share of wrong labels, estimated (95 % interval)"), "interval"),
    "missing_classes": (N_("classes without a validation sample, by number"), "list"),
    "validation_auc": (N_("validation told from training data, AUC (95 % interval)"), "interval"),
    "deployed_auc": (N_("deployed told from validation data, AUC (95 % interval)"), "interval"),
    "slope_noise": (N_("noise of the slopes of the validation loss, relative to their size"), "number"),
}


def _numbers(measures: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (gettext(label), _text(measures[name], form)) for name, (label, form) in _NUMBERS.items() if name in measures
    )


def _text(value: Any, form: str) -> str:
    if form == "list" and isinstance(value, list):
        return ", ".join(map(str, value))
    if form == "interval" and isinstance(value, list) and len(value) == 3 and all(map(_finite, value)):
        numbers = [f"{number:.2f}" for number in value]
        return gettext("{value} ({low} to {high})", value=numbers[0], low=numbers[1], high=numbers[2])
    if not _finite(value):
        return NOTHING
    return {"count": f"{value:,}", "share": f"{100 * value:.1f} %"}.get(form, f"{value:.2g}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
