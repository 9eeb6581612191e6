"""What a decision says, as sentences for people who do not run trials, and its numbers for those who do."""

from __future__ import annotations

import math

from letsam.decision.decision_record import Decision
from letsam.languages import gettext, list_text, ngettext, sentences
from letsam.results.metric_units import metric_name, unit_text

__all__ = ["explanation", "headline", "numbers_beneath"]

ROUNDING = 5e-5
"""Points of an accuracy that are nothing but rounding: one of a million test samples is more."""


def headline(found: Decision) -> str:
    """The verdict in one sentence."""
    names = {"candidate": found.candidate, "baseline": found.baseline}
    if found.verdict == "go":
        return gettext("Go: use {candidate} instead of {baseline}.", **names)
    if found.verdict == "no-go":
        return gettext("No-go: do not use {candidate} instead of {baseline}.", **names)
    return ngettext(
        "{count} more seed needed: it is open whether to use {candidate} instead of {baseline}.",
        "{count} more seeds needed: it is open whether to use {candidate} instead of {baseline}.",
        found.more_seeds,
        **names,
    )


def explanation(found: Decision) -> tuple[str, ...]:
    """What supports the verdict, what it costs, and what it does not say: one text for each."""
    texts = [_finding(found), _next(found), _chosen(found), _cost(found), _limits(found)]
    return tuple(text for text in texts if text)


def numbers_beneath(found: Decision) -> tuple[tuple[str, str], ...]:
    """The numbers that the verdict rests on, in pairs of what and its value."""
    metric = _metric(found)
    better = (
        gettext("{metric}, lower is better", metric=metric)
        if found.lower_is_better
        else gettext("{metric}, higher is better", metric=metric)
    )
    unknown = gettext("unknown")
    looks = [_seeds(n) for n in found.looked_at]
    rows = [
        (gettext("metric"), better),
        (gettext("pairs of runs"), gettext("{count}, one for each seed", count=found.seeds)),
        (gettext("mean gain"), _signed(found, found.gain) if found.seeds else unknown),
        (gettext("bounds of the true gain"), _interval(found)),
        (gettext("error rate of a bound"), _error_rate(found)),
        (gettext("looks at this comparison"), list_text(looks) or gettext("none with enough seeds")),
        (gettext("standard deviation over seeds"), unknown if found.spread is None else _plain(found, found.spread)),
        (
            gettext("standard error from the test samples"),
            gettext("not considered") if found.sample_error is None else _plain(found, found.sample_error),
        ),
        (gettext("critical value of t"), gettext("none") if found.critical is None else f"{found.critical:.2f}"),
        (gettext("minimum effect"), _plain(found, found.minimum_effect)),
        (
            gettext("shown with 80 % probability"),
            unknown if found.detectable is None else _plain(found, found.detectable),
        ),
        (gettext("gradient passes of a training"), _both(found, found.passes, ",.0f")),
        (gettext("seconds of a training"), _both(found, found.seconds, ",.1f")),
    ]
    return tuple(rows)


def _finding(found: Decision) -> str:
    if found.reason == "diverged":
        total = found.seeds + len(found.diverged)
        return sentences(
            ngettext(
                "{candidate} diverged in {diverged} of {count} run.",
                "{candidate} diverged in {diverged} of {count} runs.",
                total,
                candidate=found.candidate,
                diverged=len(found.diverged),
            ),
            gettext("A method that diverges is not adopted, however good its other runs are."),
        )
    return sentences(_mean_gain(found), _true_gain(found))


def _mean_gain(found: Decision) -> str:
    metric, seeds = _metric(found), _seeds(found.seeds)
    if not _seen(found, found.gain):
        return gettext("The mean {metric} is the same over {seeds}.", metric=metric, seeds=seeds)
    about = {"metric": metric, "seeds": seeds, "candidate": found.candidate}
    difference = _plain(found, abs(found.gain))
    if found.lower_is_better != (found.gain < 0):
        return gettext(
            "The mean {metric} of {candidate} is {difference} lower over {seeds}.", difference=difference, **about
        )
    return gettext(
        "The mean {metric} of {candidate} is {difference} higher over {seeds}.", difference=difference, **about
    )


def _true_gain(found: Decision) -> str:
    if found.lower is None or found.upper is None:
        return gettext("With fewer than 3 seeds, nothing can be told from chance.")
    asked = _plain(found, found.minimum_effect)
    if found.reason == "shown":
        least = _plain(found, found.lower)
        if found.minimum_effect:
            return gettext(
                "The true gain is at least {least}, which is more than the {asked} asked for.", least=least, asked=asked
            )
        return gettext("The true gain is at least {least}.", least=least)
    if found.reason == "too small":
        if found.upper < 0:
            return gettext("The true difference is a loss of at least {least}.", least=_plain(found, -found.upper))
        return gettext("The true gain is at most {most}.", most=_plain(found, found.upper))
    bounds = _interval(found)
    if found.minimum_effect:
        return gettext(
            "That does not show a gain of more than {asked}: the true gain lies between {bounds}.",
            asked=asked,
            bounds=bounds,
        )
    return gettext("That does not show a gain: the true gain lies between {bounds}.", bounds=bounds)


def _next(found: Decision) -> str:
    total = found.seeds + found.more_seeds
    again = gettext("Run the same command with {count} seeds and --resume.", count=total)
    if found.reason == "few seeds":
        return sentences(again, _price_of_seeds(found))
    if found.reason == "undecided":
        likely = (
            gettext(
                "If the true gain is the mean seen so far, {count} seeds show it with a probability of at least 80 %.",
                count=total,
            )
            if total < found.planned_seeds
            else gettext("{count} seeds are as many as were planned; they may show it.", count=total)
        )
        return sentences(likely, again, _price_of_seeds(found))
    could = ""
    if found.verdict == "no-go" and found.detectable is not None:
        could = gettext(
            "With these seeds, a true gain of {gain} or more is shown with a probability of 80 %; a smaller one may be "
            "there and not be seen.",
            gain=_plain(found, found.detectable),
        )
    if found.reason == "hopeless":
        hopeless = gettext(
            "The probability that more seeds, up to {count}, would show it is below 5 %.", count=found.planned_seeds
        )
        return sentences(hopeless, could)
    if found.reason == "not shown":
        planned = ngettext(
            "The trial was planned with at most {count} seed.",
            "The trial was planned with at most {count} seeds.",
            found.planned_seeds,
        )
        return sentences(planned, could)
    return ""


def _chosen(found: Decision) -> str:
    if found.chosen != "validation":
        return ""
    return gettext(
        "{candidate} was chosen among the methods with a learned radius by its validation loss, not by the test set.",
        candidate=found.candidate,
    )


def _cost(found: Decision) -> str:
    costs: list[str] = []
    if values := _ratio(found.passes, ",.0f"):
        costs.append(gettext("{ratio} times the gradient passes ({new} instead of {old})", **values))
    if values := _ratio(found.seconds, ",.1f"):
        costs.append(gettext("{ratio} times the training time ({new} s instead of {old} s)", **values))
    if not costs:
        return ""
    text = gettext("A training takes {costs}.", costs=list_text(costs))
    if found.cost_per_pass is None:
        return text
    extra = (found.passes[1] - found.passes[0]) * found.cost_per_pass
    prices = {"price": f"{found.cost_per_pass:g}", "difference": f"{abs(extra):,.2f}"}
    return sentences(
        text,
        gettext("At {price} for a pass, a training costs {difference} more.", **prices)
        if extra >= 0
        else gettext("At {price} for a pass, a training costs {difference} less.", **prices),
    )


def _price_of_seeds(found: Decision) -> str:
    passes = found.more_seeds * sum(found.passes)
    if found.cost_per_pass is None:
        return gettext("For these two methods, that takes {passes} gradient passes.", passes=f"{passes:,.0f}")
    return gettext(
        "For these two methods, that takes {passes} gradient passes, {price}.",
        passes=f"{passes:,.0f}",
        price=f"{passes * found.cost_per_pass:,.2f}",
    )


def _limits(found: Decision) -> str:
    texts: list[str] = []
    if found.lower is not None:
        level = f"{100 * found.level:g}"
        texts.append(
            gettext(
                "Each bound is wrong with a probability of at most {level} % over all looks, if the differences "
                "between runs are roughly normal.",
                level=level,
            )
            if len(found.looked_at) > 1
            else gettext(
                "Each bound is wrong with a probability of at most {level} %, if the differences between runs are "
                "roughly normal.",
                level=level,
            )
        )
        texts.append(
            gettext("They hold for this test set, and for this training data and these settings.")
            if found.sample_error is None
            else gettext(
                "They hold for other test samples like these as well, and for this training data and these settings."
            )
        )
    if found.baseline_diverged:
        texts.append(
            gettext(
                "{baseline} diverged with {seeds}; these are left out.",
                baseline=found.baseline,
                seeds=_seeds(len(found.baseline_diverged)),
            )
        )
    return sentences(*texts)


def _error_rate(found: Decision) -> str:
    rate = f"{100 * found.level:g} %"
    if found.sharing == 1:
        return rate
    return gettext("{rate}, shared by {count} comparisons", rate=rate, count=found.sharing)


def _interval(found: Decision) -> str:
    if found.lower is None or found.upper is None:
        return gettext("unknown")
    low, high = _number(found.lower, signed=True), _signed(found, found.upper)
    return gettext("{low} and {high}", low=low, high=high)


def _signed(found: Decision, value: float) -> str:
    return unit_text(_number(_seen(found, value), signed=True), found.unit)


def _plain(found: Decision, value: float) -> str:
    return unit_text(_number(_seen(found, value)), found.unit)


def _seen(found: Decision, value: float) -> float:
    """The value; 0 for points that are nothing but rounding."""
    return 0.0 if found.unit and abs(value) < ROUNDING else value


def _number(value: float, *, signed: bool = False) -> str:
    if not math.isfinite(value):
        return gettext("unknown")
    form = ".2f" if 0.1 <= abs(value) < 1e6 else ".2g"
    text = format(value, f"{'+' if signed else ''}{form}")
    return text if value else "0"


def _both(found: Decision, pair: tuple[float, float], form: str) -> str:
    return f"{pair[0]:{form}} ({found.baseline}), {pair[1]:{form}} ({found.candidate})"


def _ratio(pair: tuple[float, float], form: str) -> dict[str, str]:
    old, new = pair
    if not (old > 0 and math.isfinite(old) and math.isfinite(new)):
        return {}
    return {"ratio": f"{new / old:.2f}", "new": f"{new:{form}}", "old": f"{old:{form}}"}


def _metric(found: Decision) -> str:
    return gettext("test {metric}", metric=metric_name(found.metric))


def _seeds(number: int) -> str:
    return ngettext("{count} seed", "{count} seeds", number)
