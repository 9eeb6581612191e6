"""What a decision says, as sentences for people who do not run trials, and its numbers for those who do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from letsam.decision.decision_record import Decision

__all__ = ["explanation", "headline", "numbers_beneath"]


def headline(found: Decision) -> str:
    """The verdict in one sentence."""
    pair = f"{found.candidate} instead of {found.baseline}"
    if found.verdict == "go":
        return f"Go: use {pair}."
    if found.verdict == "no-go":
        return f"No-go: do not use {pair}."
    return f"{_count(found.more_seeds, 'more seed')} needed: it is open whether to use {pair}."


def explanation(found: Decision) -> tuple[str, ...]:
    """What supports the verdict, what it costs, and what it does not say: one text for each."""
    texts = [_finding(found), _next(found), _chosen(found), _cost(found), _limits(found)]
    return tuple(text for text in texts if text)


def numbers_beneath(found: Decision) -> tuple[tuple[str, str], ...]:
    """The numbers that the verdict rests on, in pairs of what and its value."""
    rows = [
        ("metric", f"test {found.metric}, {'lower' if found.lower_is_better else 'higher'} is better"),
        ("pairs of runs", f"{found.seeds}, one for each seed"),
        ("mean gain", _signed(found, found.gain) if found.seeds else "unknown"),
        ("bounds of the true gain", _interval(found)),
        ("error rate of a bound", _error_rate(found)),
        ("looks at this comparison", _listed([_count(n, "seed") for n in found.looked_at]) or "none with enough seeds"),
        ("standard deviation over seeds", "unknown" if found.spread is None else _plain(found, found.spread)),
        (
            "standard error from the test samples",
            "not considered" if found.sample_error is None else _plain(found, found.sample_error),
        ),
        ("critical value of t", "none" if found.critical is None else f"{found.critical:.2f}"),
        ("minimum effect", _plain(found, found.minimum_effect)),
        ("shown with 80 % probability", "unknown" if found.detectable is None else _plain(found, found.detectable)),
        ("gradient passes of a training", _both(found, found.passes, ",.0f")),
        ("seconds of a training", _both(found, found.seconds, ",.1f")),
    ]
    return tuple(rows)


def _finding(found: Decision) -> str:
    metric, seeds = f"test {found.metric}", _count(found.seeds, "seed")
    if found.reason == "diverged":
        total = found.seeds + len(found.diverged)
        return (
            f"{found.candidate} diverged in {len(found.diverged)} of {_count(total, 'run')}. A method that diverges is "
            "not adopted, however good its other runs are."
        )
    verb = "lower" if found.lower_is_better != (found.gain < 0) else "higher"
    mean = (
        f"The mean {metric} of {found.candidate} is {_plain(found, abs(found.gain))} {verb} over {seeds}"
        if found.gain
        else f"The mean {metric} is the same over {seeds}"
    )
    if found.lower is None or found.upper is None:
        return f"{mean}. With fewer than 3 seeds, nothing can be told from chance."
    least = _plain(found, found.minimum_effect)
    worth = f" of more than {least}" if found.minimum_effect else ""
    if found.reason == "shown":
        than = f", which is more than the {least} asked for" if found.minimum_effect else ""
        return f"{mean}. The true gain is at least {_plain(found, found.lower)}{than}."
    if found.reason == "too small":
        if found.upper < 0:
            return f"{mean}. The true difference is a loss of at least {_plain(found, -found.upper)}."
        return f"{mean}. The true gain is at most {_plain(found, found.upper)}."
    return f"{mean}. That does not show a gain{worth}: the true gain lies between {_interval(found)}."


def _next(found: Decision) -> str:
    total = found.seeds + found.more_seeds
    if found.reason == "few seeds":
        return f"Run the same command with {total} seeds and --resume. {_price_of_seeds(found)}"
    if found.reason == "undecided":
        likely = (
            f"If the true gain is the mean seen so far, {total} seeds show it with a probability of at least 80 %."
            if total < found.planned_seeds
            else f"{total} seeds are as many as were planned; they may show it."
        )
        return f"{likely} Run the same command with {total} seeds and --resume. {_price_of_seeds(found)}"
    could = ""
    if found.verdict == "no-go" and found.detectable is not None:
        could = (
            f"With these seeds, a true gain of {_plain(found, found.detectable)} or more is shown with a probability "
            "of 80 %; a smaller one may be there and not be seen."
        )
    if found.reason == "hopeless":
        return f"The probability that more seeds, up to {found.planned_seeds}, would show it is below 5 %. {could}"
    if found.reason == "not shown":
        return f"The trial was planned with at most {_count(found.planned_seeds, 'seed')}. {could}"
    return ""


def _chosen(found: Decision) -> str:
    if found.chosen != "validation":
        return ""
    return (
        f"{found.candidate} was chosen among the methods with a learned radius by its validation loss, not by the test "
        "set."
    )


def _cost(found: Decision) -> str:
    passes = _ratio("gradient passes", found.passes, ",.0f", "")
    seconds = _ratio("training time", found.seconds, ",.1f", " s")
    texts = [text for text in (passes, seconds) if text]
    if not texts:
        return ""
    text = f"A training takes {' and '.join(texts)}."
    if found.cost_per_pass is not None:
        extra = (found.passes[1] - found.passes[0]) * found.cost_per_pass
        text += f" At {found.cost_per_pass:g} for a pass, a training costs {abs(extra):,.2f} {_more(extra)}."
    return text


def _price_of_seeds(found: Decision) -> str:
    passes = found.more_seeds * sum(found.passes)
    price = "" if found.cost_per_pass is None else f", {passes * found.cost_per_pass:,.2f}"
    return f"For these two methods, that takes {passes:,.0f} gradient passes{price}."


def _limits(found: Decision) -> str:
    texts: list[str] = []
    if found.lower is not None:
        sides = f"Each bound is wrong with a probability of at most {100 * found.level:g} %"
        looks = " over all looks" if len(found.looked_at) > 1 else ""
        texts.append(f"{sides}{looks}, if the differences between runs are roughly normal.")
        what = "for this test set" if found.sample_error is None else "for other test samples like these as well"
        texts.append(f"They hold {what}, and for this training data and these settings.")
    if found.baseline_diverged:
        texts.append(
            f"{found.baseline} diverged with {_count(len(found.baseline_diverged), 'seed')}; these are left out."
        )
    return " ".join(texts)


def _error_rate(found: Decision) -> str:
    rate = f"{100 * found.level:g} %"
    return rate if found.sharing == 1 else f"{rate}, shared by {found.sharing} comparisons"


def _interval(found: Decision) -> str:
    if found.lower is None or found.upper is None:
        return "unknown"
    return f"{_number(found.lower, signed=True)} and {_signed(found, found.upper)}"


def _signed(found: Decision, value: float) -> str:
    return _number(value, signed=True) + found.unit


def _plain(found: Decision, value: float) -> str:
    return _number(value) + found.unit


def _number(value: float, *, signed: bool = False) -> str:
    if not math.isfinite(value):
        return "unknown"
    form = ".2f" if 0.1 <= abs(value) < 1e6 else ".2g"
    text = format(value, f"{'+' if signed else ''}{form}")
    return text if value else "0"


def _both(found: Decision, pair: tuple[float, float], form: str) -> str:
    return f"{pair[0]:{form}} ({found.baseline}), {pair[1]:{form}} ({found.candidate})"


def _ratio(name: str, pair: tuple[float, float], form: str, unit: str) -> str:
    old, new = pair
    if not (old > 0 and math.isfinite(old) and math.isfinite(new)):
        return ""
    return f"{new / old:.2f} times the {name} ({new:{form}}{unit} instead of {old:{form}}{unit})"


def _more(extra: float) -> str:
    return "more" if extra >= 0 else "less"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""
