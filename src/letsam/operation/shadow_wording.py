"""What a shadow report says, as sentences, and the numbers beneath."""

from __future__ import annotations

import math

from letsam.decision import SampleGain
from letsam.operation.shadow_report import BoundedValue, ComparedModel, ShadowReport
from letsam.results.metric_units import MetricScale, value_scale

__all__ = ["model_text", "number_of", "shadow_headline", "shadow_numbers", "shadow_texts"]

COUNTED = ("accuracy", "balanced accuracy", "exact match")


def shadow_headline(found: ShadowReport) -> str:
    """How much the models differ, in one sentence."""
    if found.differing is None:
        mean = number_of(found.disagreement.value)
        return f"The predictions differ by {mean} on average over {_count(found.samples)}."
    if not found.differing:
        return f"The models give the same answer for all {_count(found.samples)}."
    rate = _percent(found.disagreement.value)
    return f"The models give different answers for {found.differing:,} of {_count(found.samples)} ({rate})."


def shadow_texts(found: ShadowReport) -> tuple[str, ...]:
    """What follows from it, and what does not: one text for each."""
    texts = [_change(found), *_gain(found), _new_classes(found), _limits(found)]
    return tuple(text for text in texts if text)


def shadow_numbers(found: ShadowReport) -> tuple[tuple[str, str], ...]:
    """The numbers that the sentences rest on, in pairs of what and its value."""
    numbers = found.kind == "regression"
    rate = "mean absolute difference" if numbers else "share of samples with different answers"
    rows = [(rate, _bounded(found.disagreement, percent=not numbers))]
    if found.mean_difference is not None:
        rows.append(("mean difference, challenger minus champion", _bounded(found.mean_difference)))
    rows += [
        ("distance of the predictions, mean", _bounded(found.distance)),
        ("distance, 95th percentile", number_of(found.distance_high)),
        ("distance, largest", number_of(found.distance_largest)),
        (f"largest possible difference in {found.most_change_metric}", _change_number(found)),
        ("samples with labels", f"{found.labelled:,}"),
    ]
    if found.gain is not None:
        gain = found.gain
        rows += [
            (f"{gain.metric} of the champion", _metric(gain, gain.old)),
            (f"{gain.metric} of the challenger", _metric(gain, gain.new)),
            ("gain of the challenger", f"{_signed(gain, gain.gain)}, bounds {_interval(gain)}"),
        ]
        if gain.better is not None and gain.worse is not None:
            rows.append(("right answers of one model alone", f"challenger {gain.better:,}, champion {gain.worse:,}"))
        if gain.p is not None:
            test = "McNemar's exact test" if gain.metric in COUNTED else "t test"
            rows.append((f"two-sided p-value ({test})", f"{gain.p:.3g}"))
    rows.append(("error rate of a bound", f"{100 * found.level:g} %"))
    return tuple(rows)


def model_text(found: ComparedModel) -> str:
    """A model in a few words: folder, version and the beginning of its fingerprint."""
    version = "" if found.version is None else f", version {found.version}"
    return f"{found.folder} ({found.method}{version}, {found.fingerprint[:12]})"


def number_of(value: float | None) -> str:
    """A number with four digits; a dash where there is none.

    Example:
        >>> number_of(0.123456), number_of(None)
        ('0.1235', '\N{EN DASH}')
    """
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _change(found: ShadowReport) -> str:
    high = found.most_change.high
    if high is None:
        return ""
    metric = found.most_change_metric
    if found.differing is None:
        return f"On data like these, the {metric} of the two models differs by at most {number_of(high)}."
    low, rate = _percent(found.disagreement.low), _percent(found.disagreement.high)
    return (
        f"On data like these, between {low} and {rate} of the answers differ, so that the {metric} of the two models "
        f"differs by at most {high:.2f} points."
    )


def _gain(found: ShadowReport) -> list[str]:
    gain = found.gain
    if gain is None:
        return ["There are no labels: which model is right where they differ is not known."]
    texts = [
        f"On {_count(gain.samples)} with labels, the {gain.metric} is {_metric(gain, gain.old)} for the champion and "
        f"{_metric(gain, gain.new)} for the challenger, a gain of {_signed(gain, gain.gain)}."
    ]
    if gain.lower is None or gain.upper is None:
        texts.append("Too few samples, or too few different answers, to tell this gain from chance.")
    elif gain.lower > 0:
        texts.append(f"The challenger is better: the true gain is between {_interval(gain)}.")
    elif gain.upper < 0:
        texts.append(f"The challenger is worse: the true gain is between {_interval(gain)}.")
    else:
        texts.append(f"Which model is better is open: the true gain is between {_interval(gain)}.")
    if gain.better is not None and gain.worse is not None and gain.better + gain.worse:
        texts.append(
            f"The challenger alone is right for {_count(gain.better)}, the champion alone for {_count(gain.worse)}."
        )
    return texts


def _new_classes(found: ShadowReport) -> str:
    if not found.unseen:
        return ""
    named = ", ".join(f"{name} ({count:,})" for name, count in list(found.unseen.items())[:5])
    return f"Neither model knows these classes and gets their samples wrong, which the gain leaves out: {named}."


def _limits(found: ShadowReport) -> str:
    return (
        f"Each bound is wrong with a probability of at most {100 * found.level:g} %, if these samples are drawn like "
        "those of operation."
    )


def _change_number(found: ShadowReport) -> str:
    unit = "" if found.differing is None else " points"
    seen, high = number_of(found.most_change.value), number_of(found.most_change.high)
    return f"{seen}{unit} on these samples, {high}{unit} on data like these"


def _scale(gain: SampleGain) -> MetricScale:
    return value_scale(gain.metric, [abs(value) for value in (gain.old, gain.new)])


def _metric(gain: SampleGain, value: float) -> str:
    scale = _scale(gain)
    return scale.text(value) + scale.unit if math.isfinite(value) else "unknown"


def _signed(gain: SampleGain, value: float) -> str:
    return _scale(gain).difference(value, gain.metric) if math.isfinite(value) else "unknown"


def _interval(gain: SampleGain) -> str:
    if gain.lower is None or gain.upper is None:
        return "unknown"
    scale = _scale(gain)
    low = scale.difference(gain.lower, gain.metric).split(" ")[0]
    return f"{low} and {scale.difference(gain.upper, gain.metric)}"


def _bounded(found: BoundedValue, *, percent: bool = False) -> str:
    text = _percent if percent else number_of
    return f"{text(found.value)}, bounds {text(found.low)} and {text(found.high)}"


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None or not math.isfinite(value) else f"{100 * value:.2f} %"


def _count(number: int) -> str:
    return f"{number:,} sample" if number == 1 else f"{number:,} samples"
