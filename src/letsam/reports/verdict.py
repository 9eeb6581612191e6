"""What the numbers of a trial support, as sentences about all of its methods.

The verdict on two of them, `letsam.decision`, is above these sentences on the page. Here, any two methods are compared
over the seeds that both have finished. A difference is called clear only if the bounds of the true difference are on
one side of 0. The pairs that the verdict is about have its bounds over seeds, so that both say the same. All others
share another 5 %, over all pairs of methods and all looks at the trial: the probability that any statement about them
is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from letsam.decision import FEWEST_SEEDS, LEVEL, Decision, Noise, bounds, critical_values, earlier_looks, paired
from letsam.languages import gettext, list_text, ngettext, sentences
from letsam.reports.metric_text import MetricScale, metric_name, metric_scale
from letsam.reports.recorded_sentences import chosen_text, radius_text
from letsam.reports.table import best_method
from letsam.results import MethodName, Results, Run, Summary, finite_mean, finite_spread, summarize
from letsam.results.metric_units import POINTS, unit_text

__all__ = ["Verdict", "missing_runs", "radius_notes", "skipped_steps_note", "verdict"]

WIDE = 40.0
"""Points of a percentage. Wider bounds are not shown: they say only that there are too few seeds."""


@dataclass(frozen=True)
class Verdict:
    """The findings of a trial as plain text.

    Args:
        headline: which method was best, and whether clearly.
        comparisons: each learned method and a sentence on how it compares with the best fixed radius and with SGD.
        caveats: what limits the findings; may be empty.
    """

    headline: str
    comparisons: tuple[tuple[str, str], ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class _Difference:
    """By how much one method is better than another over their shared seeds, in the unit of the table.

    Args:
        gain: the mean; NaN if there is no seed, or a run of either has diverged.
        lower: of the true difference; NaN with fewer than three seeds.
        upper: of the true difference; NaN with fewer than three seeds.
        seeds: number of shared seeds.
        widest: the largest distance of two bounds that say anything.
    """

    gain: float
    lower: float
    upper: float
    seeds: int
    widest: float

    @property
    def judged(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def clear(self) -> bool:
        return self.judged and (self.lower > 0 or self.upper < 0)

    @property
    def wide(self) -> bool:
        """Whether the bounds are too far apart to say anything."""
        return self.judged and not self.clear and self.upper - self.lower > self.widest


def verdict(results: Results) -> Verdict:
    """Return the findings of a trial."""
    summaries = summarize(results)
    return Verdict(
        headline=_headline(results, summaries),
        comparisons=_comparisons(results, summaries),
        caveats=_caveats(results, summaries),
    )


def missing_runs(results: Results) -> tuple[tuple[str, int], ...]:
    """Return the method and seed of each run that the configuration asks for and that has not finished."""
    methods, seeds = results.config.get("methods"), results.config.get("seeds")
    if not isinstance(methods, list | tuple) or not isinstance(seeds, list | tuple):
        return ()
    expected = [method for method in methods if isinstance(method, str)]
    if results.config.get("refit"):
        names = map(MethodName.parse, list(expected))
        expected += [name.refitted for name in names if name.learned]
    finished = {run.key for run in results.runs}
    asked = [seed for seed in seeds if isinstance(seed, int)]
    return tuple((m, seed) for m in expected for seed in asked if (m, seed) not in finished)


def skipped_steps_note(results: Results) -> str | None:
    """Say which methods have skipped steps, and which runs are hardly trained because of it; None if there are none."""
    rows = [row for row in summarize(results) if row.skipped_steps]
    if not rows:
        return None
    counts = [
        gettext(
            "{method} ({skipped} of {steps} steps)",
            method=row.method,
            skipped=f"{row.skipped_steps:,}",
            steps=f"{row.steps:,}",
        )
        for row in rows
    ]
    note = gettext("Skipped, because a loss or gradient was not finite: {methods}.", methods=list_text(counts))
    hardly = [run for run in results.runs if 2 * run.skipped_steps >= max(run.steps, 1)]
    if not hardly:
        return note
    return sentences(
        note,
        gettext("Hardly trained, because at least half of their steps were skipped: {runs}.", runs=_named_runs(hardly)),
        gettext(
            "Their numbers say little about the methods; try a smaller radius, a smaller learning rate or "
            "--max-grad-norm."
        ),
    )


def radius_notes(results: Results) -> list[str]:
    """What runs have shown about their learned radii: each warning with the runs that have it."""
    found: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.radius_warning is not None:
            found.setdefault(run.radius_warning, []).append(run)
    return [
        gettext("{runs}: {warning}.", runs=_named_runs(runs), warning=radius_text(text)) for text, runs in found.items()
    ]


def _headline(results: Results, summaries: Sequence[Summary]) -> str:
    if not summaries:
        return gettext("No run has finished yet, so there is nothing to report.")
    best = best_method(tuple(summaries))
    if best is None:
        return gettext("Every method diverged in at least one run, so no method can be called the best.")
    row = next(row for row in summaries if row.method == best)
    metric, score = metric_name(results.metric), _score(row, metric_scale(results))
    if len(summaries) == 1:
        return sentences(
            gettext(
                "Only {best} has been run; it reached a test {metric} of {score}.",
                best=best,
                metric=metric,
                score=score,
            ),
            gettext("There is nothing to compare it with."),
        )
    about = {"count": len(summaries), "task": results.title, "best": best, "metric": metric, "score": score}
    lead = (
        gettext(
            "Of the {count} methods compared on {task}, {best} reached the lowest mean test {metric}: {score}.", **about
        )
        if results.lower_is_better
        else gettext(
            "Of the {count} methods compared on {task}, {best} reached the highest mean test {metric}: {score}.",
            **about,
        )
    )
    return sentences(lead, *_leads(results, best, [row.method for row in summaries if row.method != best]))


def _leads(results: Results, best: str, others: Sequence[str]) -> list[str]:
    """Over which of the other methods the lead of the best one is clear, and over which it is not."""
    differences = {other: _difference(results, best, other) for other in others}
    judged = [m for m in others if differences[m].judged]
    wide = [m for m in judged if differences[m].wide]
    level = [m for m in judged if not differences[m].clear and m not in wide]
    ahead = [m for m in judged if differences[m].clear and differences[m].gain < 0]
    unjudged = [m for m in others if not differences[m].judged]
    texts: list[str] = []
    if ahead:
        texts.append(gettext("On the seeds that both have finished, it is behind {methods}.", methods=list_text(ahead)))
    for seeds, methods in _by_seeds(level, differences):
        texts.append(
            gettext(
                "It is not clearly ahead of {methods}: over {seeds}, such a difference may be chance.",
                methods=methods,
                seeds=seeds,
            )
        )
    for seeds, methods in _by_seeds(wide, differences):
        texts.append(gettext("Its lead over {methods} cannot be bounded with {seeds}.", methods=methods, seeds=seeds))
    if not (level or wide or ahead):
        if len(judged) == len(others) > 1:
            texts.append(gettext("Its lead over each of the others is larger than chance explains."))
        elif judged:
            texts.append(gettext("Its lead over {methods} is larger than chance explains.", methods=list_text(judged)))
    if unjudged:
        texts.append(
            gettext(
                "Whether it is really ahead of {methods} cannot be told: that takes at least {count} seeds that both "
                "have finished without diverging.",
                methods=list_text(unjudged),
                count=FEWEST_SEEDS,
            )
        )
    return texts


def _by_seeds(methods: Sequence[str], differences: Mapping[str, _Difference]) -> list[tuple[str, str]]:
    """The methods as a text, those with equally many seeds together: ("3 seeds", "sam and asam")."""
    counts = sorted({differences[m].seeds for m in methods}, reverse=True)
    return [(_seeds(n), list_text([m for m in methods if differences[m].seeds == n])) for n in counts]


def _comparisons(results: Results, summaries: Sequence[Summary]) -> tuple[tuple[str, str], ...]:
    fixed = tuple(row for row in summaries if row.fixed)
    scheduled = tuple(row for row in summaries if row.scheduled)
    rivals: list[tuple[str, str]] = []
    for rows in (fixed, scheduled):
        best = best_method(rows)
        if best is None:
            continue
        name = best
        if len(rows) > 1:
            name = (
                gettext("{best}, the best of {count} fixed radii", best=best, count=len(rows))
                if rows is fixed
                else gettext("{best}, the best of {count} schedules", best=best, count=len(rows))
            )
        rivals.append((best, name))
    rivals += [(row.method, row.method) for row in summaries if not row.learned and row.rho_initial is None]
    if not rivals:
        return ()
    by_method = {row.method: row for row in summaries}
    found: list[tuple[str, str]] = []
    for row in summaries:
        if row.learned:
            said = _compared(results, row, by_method[rivals[0][0]], rivals[0][1])
            for rival, name in rivals[1:]:
                clause = _compared(results, row, by_method[rival], name)
                said = gettext("{clause}; {next_clause}", clause=said, next_clause=clause)
            found.append((row.method, gettext("{sentence}.", sentence=said)))
    return tuple(found)


def _compared(results: Results, row: Summary, rival: Summary, name: str) -> str:
    difference = _difference(results, row.method, rival.method)
    if difference.seeds == 0:
        return gettext("no seed shared with {rival}", rival=name)
    if not math.isfinite(difference.gain):
        return gettext("not compared with {rival}, because a run diverged", rival=name)
    if rival.gradient_passes:
        name = gettext(
            "{rival}, at {ratio} times its gradient passes",
            rival=name,
            ratio=f"{row.gradient_passes / rival.gradient_passes:.2f}",
        )
    scale = metric_scale(results)
    points = scale.factor != 1
    if difference.clear:
        size = unit_text(f"{abs(difference.gain):.{scale.digits}f}", POINTS if points else "")
        if difference.gain > 0:
            return gettext("{size} better than {rival}", size=size, rival=name)
        return gettext("{size} worse than {rival}", size=size, rival=name)
    sign = -1 if results.lower_is_better else 1
    low, high = sorted((sign * difference.lower, sign * difference.upper))
    about = {"mean": scale.difference(sign * difference.gain, results.metric), "rival": name}
    seeds = _seeds(difference.seeds)
    if not difference.judged:
        return gettext("{mean} against {rival} ({seeds} only, so it may be chance)", seeds=seeds, **about)
    if difference.wide:
        return gettext("{mean} against {rival} ({seeds} are too few to bound the true value)", seeds=seeds, **about)
    return gettext(
        "no clear difference from {rival} ({mean}, true value between {low} and {high})",
        low=f"{low:+.{scale.digits}f}",
        high=f"{high:+.{scale.digits}f}",
        **about,
    )


def _caveats(results: Results, summaries: Sequence[Summary]) -> tuple[str, ...]:
    note = skipped_steps_note(results)
    caveats = [*_missing_note(results), *_diverged_note(results, summaries), *([] if note is None else [note])]
    caveats += radius_notes(results)
    fixed = [row for row in summaries if row.fixed]
    learned = any(row.learned for row in summaries)
    metric = metric_name(results.metric)
    if len(fixed) == 1 and learned:
        caveats.append(
            gettext(
                "{method} is the only fixed radius here, so nothing is said about the best one.", method=fixed[0].method
            )
        )
    if len(fixed) > 1 and learned:
        caveats.append(
            gettext(
                "The best of the {count} fixed radii is chosen by its test {metric}, which favours it, and its cost "
                "here leaves out the runs of the others.",
                count=len(fixed),
                metric=metric,
            )
        )
    if results.lower_is_better:
        caveats.append(gettext("A lower {metric} is better.", metric=metric))
    caveats += [*_model_note(results), *_continued_note(results), *_search_note(results)]
    caveats += _limits(summaries, decided=results.decision is not None)
    return tuple(caveats)


def _missing_note(results: Results) -> list[str]:
    missing = len(missing_runs(results))
    if not missing:
        return []
    total = missing + len(results.runs)
    return [
        sentences(
            gettext("The trial is incomplete: {count} of {total} runs are missing.", count=missing, total=total),
            gettext("Means are over the runs that finished; differences are over the seeds both methods share."),
        )
    ]


def _diverged_note(results: Results, summaries: Sequence[Summary]) -> list[str]:
    diverged = [row for row in summaries if row.diverged]
    if not diverged:
        return []
    names = [
        gettext("{method} ({diverged} of {count})", method=row.method, diverged=row.diverged, count=row.count)
        for row in diverged
    ]
    return [
        gettext(
            "Diverged, with a loss or {metric} that is not finite: {methods}.",
            metric=metric_name(results.metric),
            methods=list_text(names),
        )
    ]


def _continued_note(results: Results) -> list[str]:
    continued = [run for run in results.runs if run.continued_at]
    if not continued:
        return []
    runs = _named_runs(continued)
    return [
        sentences(
            gettext("Continued with another number of epochs, so the learning rate rose again: {runs}.", runs=runs),
            gettext("A run of all these epochs from its start may end elsewhere."),
        )
    ]


def _search_note(results: Results) -> list[str]:
    search, count = results.config.get("search"), results.config.get("search_trials")
    if not (isinstance(search, list) and isinstance(count, int)):
        return []
    return [
        gettext(
            "{names} of the base optimizer were tuned for each method by {count} trials on held-out training data; "
            "gradient passes and seconds leave the search out.",
            names=list_text([str(name) for name in search]),
            count=count,
        )
    ]


def _limits(summaries: Sequence[Summary], *, decided: bool) -> list[str]:
    """What such numbers can say at all."""
    texts: list[str] = []
    count = len(summaries)
    if count > 1:
        texts.append(
            sentences(
                gettext(
                    "The test set chose the best of the {count} methods, so its mean is likely to be too good.",
                    count=count,
                ),
                gettext(
                    "That any statement about a lead or a clear difference here is wrong has a probability of at most "
                    "{level} %, if the differences between runs are roughly normal.",
                    level=f"{100 * LEVEL:g}",
                ),
                gettext("The comparisons in the verdict above are not part of this.") if decided else "",
            )
        )
    if count > 2:
        texts.append(
            gettext(
                "All {pairs} pairs of methods are compared here, so each needs stronger evidence than a verdict on two "
                "of them.",
                pairs=count * (count - 1) // 2,
            )
        )
    if summaries:
        texts.append(gettext("All this holds for this task, this test set and these settings."))
    return texts


def _model_note(results: Results) -> list[str]:
    """What the folder `model` of ``--refit-best`` holds, and what chose it."""
    model = results.config.get("refit_best")
    if not isinstance(model, Mapping):
        return []
    method, seed, chosen_by = (str(model.get(name)) for name in ("method", "seed", "chosen_by"))
    note = gettext(
        "The folder model holds {method} with seed {seed}, trained on all the training data; it was chosen "
        "{chosen_by}.",
        method=method,
        seed=seed,
        chosen_by=chosen_text(chosen_by),
    )
    favours = gettext("That favours its number on the test data.") if " test " in chosen_by else ""
    return [sentences(note, favours)]


def _difference(results: Results, method: str, rival: str) -> _Difference:
    pairs = paired(results, method, rival)
    seeds = len(pairs.gains)
    widest = WIDE if metric_scale(results).factor != 1 else math.inf
    if pairs.diverged or pairs.baseline_diverged:
        seeds += len(pairs.diverged) + len(pairs.baseline_diverged)
        return _Difference(math.nan, math.nan, math.nan, seeds, widest)
    if not seeds:
        return _Difference(math.nan, math.nan, math.nan, 0, widest)
    gain, spread = finite_mean(pairs.gains), finite_spread(pairs.gains)
    if seeds < FEWEST_SEEDS or not math.isfinite(spread):
        return _Difference(gain, math.nan, math.nan, seeds, widest)
    low, high = _decided(results, method, rival, pairs.gains) or bounds(
        pairs.gains, _shared(results, seeds), Noise(spread)
    )
    return _Difference(gain, low, high, seeds, widest)


def _decided(results: Results, method: str, rival: str, gains: Sequence[float]) -> tuple[float, float] | None:
    """The bounds of the verdict, if it is about these two methods and these seeds.

    Those of the candidates that were not chosen are over the seeds alone.
    """
    if results.decision is None or "critical" not in results.decision:
        return None
    decision = Decision.from_json(results.decision)
    if method == decision.baseline:
        found = _decided(results, rival, method, [-gain for gain in gains])
        return None if found is None else (-found[1], -found[0])
    if rival != decision.baseline or decision.critical is None or not _is_of(decision, results):
        return None
    if method == decision.candidate and decision.lower is not None and decision.upper is not None:
        return decision.lower, decision.upper
    looks = [look for look in decision.looks if look.baseline == rival and look.seeds == len(gains) == decision.seeds]
    if any({method, decision.candidate} <= set(look.candidates) for look in looks):
        return bounds(gains, decision.critical, Noise(finite_spread(gains)))
    return None


def _is_of(decision: Decision, results: Results) -> bool:
    """Whether a verdict is about these runs: others may have taken their place since."""
    gains = paired(results, decision.candidate, decision.baseline).gains
    return len(gains) == decision.seeds and math.isclose(finite_mean(gains), decision.gain, rel_tol=1e-6, abs_tol=1e-9)


def _shared(results: Results, seeds: int) -> float:
    """The critical value with the error rate that all pairs of methods share."""
    looks = {look.seeds for look in earlier_looks(results.decision) if FEWEST_SEEDS <= look.seeds < seeds}
    pairs_of_methods = len(results.methods) * (len(results.methods) - 1)
    return critical_values((*sorted(looks), seeds), LEVEL / pairs_of_methods)[-1]


def _seeds(count: int) -> str:
    return ngettext("one seed", "{count} seeds", count)


def _named_runs(runs: Sequence[Run]) -> str:
    return list_text([gettext("{method} with seed {seed}", method=run.method, seed=run.seed) for run in runs])


def _score(row: Summary, scale: MetricScale) -> str:
    mean = f"{scale.text(row.test_accuracy)}{scale.unit}"
    if row.count == 1:
        return gettext("{mean} (one seed)", mean=mean)
    return gettext(
        "{mean} ± {spread} over {count} seeds",
        mean=scale.text(row.test_accuracy),
        spread=f"{scale.text(row.test_accuracy_std)}{scale.unit}",
        count=row.count,
    )
