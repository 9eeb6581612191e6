"""What the numbers of a trial support, as sentences about all of its methods.

The verdict on two of them, `letsam.decision`, is above these sentences on the page. Here, any two methods are compared
over the seeds that both have finished. A difference is called clear only if the bounds of the true difference are on
one side of 0. The probability that any such statement of the page is wrong is at most 5 %: the error rate is shared by
all pairs of methods, and by all looks at the trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from letsam.decision import FEWEST_SEEDS, LEVEL, Noise, bounds, critical_values, earlier_looks, paired
from letsam.reports.metric_text import MetricScale, metric_scale
from letsam.reports.table import best_method
from letsam.results import MethodName, Results, Summary, finite_mean, finite_spread, summarize

__all__ = ["Verdict", "missing_runs", "radius_notes", "skipped_steps_note", "verdict"]

WIDE = 40.0
"""Points of a percentage. Wider bounds say nothing, and look like a mistake."""


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
    """

    gain: float
    lower: float
    upper: float
    seeds: int

    @property
    def judged(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def clear(self) -> bool:
        return self.judged and (self.lower > 0 or self.upper < 0)


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
    counts = _listed([f"{row.method} ({row.skipped_steps:,} of {row.steps:,} steps)" for row in rows])
    note = f"Skipped, because a loss or gradient was not finite: {counts}."
    hardly = [
        f"{run.method} with seed {run.seed}" for run in results.runs if 2 * run.skipped_steps >= max(run.steps, 1)
    ]
    if hardly:
        note += (
            f" Hardly trained, because at least half of their steps were skipped: {_listed(hardly)}. Their numbers say "
            "little about the methods; try a smaller radius, a smaller learning rate or --max-grad-norm."
        )
    return note


def radius_notes(results: Results) -> list[str]:
    """What runs have shown about their learned radii: each warning with the runs that have it."""
    found: dict[str, list[str]] = {}
    for run in results.runs:
        if run.radius_warning is not None:
            found.setdefault(run.radius_warning, []).append(f"{run.method} with seed {run.seed}")
    return [f"{_listed(runs)}: {text}." for text, runs in found.items()]


def _headline(results: Results, summaries: Sequence[Summary]) -> str:
    if not summaries:
        return "No run has finished yet, so there is nothing to report."
    best = best_method(tuple(summaries))
    if best is None:
        return "Every method diverged in at least one run, so no method can be called the best."
    row = next(row for row in summaries if row.method == best)
    metric, score = results.metric, _score(row, metric_scale(results))
    end = "lowest" if results.lower_is_better else "highest"
    if len(summaries) == 1:
        return f"Only {best} has been run; it reached a test {metric} of {score}. There is nothing to compare it with."
    lead = (
        f"Of the {len(summaries)} methods compared on {results.title}, {best} reached the {end} mean test "
        f"{metric}: {score}."
    )
    others = [row.method for row in summaries if row.method != best]
    differences = {other: _difference(results, best, other) for other in others}
    judged = [m for m in others if differences[m].judged]
    level = [m for m in judged if not differences[m].clear]
    unjudged = [m for m in others if not differences[m].judged]
    if level:
        lead += (
            f" It is not clearly ahead of {_listed(level)}: over {_seeds(differences[level[0]].seeds)}, such a "
            "difference may be chance."
        )
    elif judged:
        named = "each of the others" if len(judged) == len(others) > 1 else _listed(judged)
        lead += f" Its lead over {named} is larger than chance explains."
    if unjudged:
        lead += (
            f" Whether it is really ahead of {_listed(unjudged)} cannot be told: that takes at least "
            f"{FEWEST_SEEDS} seeds that both have finished without diverging."
        )
    return lead


def _comparisons(results: Results, summaries: Sequence[Summary]) -> tuple[tuple[str, str], ...]:
    fixed = tuple(row for row in summaries if row.fixed)
    rivals: list[tuple[str, str]] = []
    for kind, rows in (("fixed radii", fixed), ("schedules", tuple(row for row in summaries if row.scheduled))):
        best = best_method(rows)
        if best is not None:
            rivals.append((best, f"{best}, the best of {len(rows)} {kind}" if len(rows) > 1 else best))
    rivals += [(row.method, row.method) for row in summaries if not row.learned and row.rho_initial is None]
    if not rivals:
        return ()
    by_method = {row.method: row for row in summaries}
    sentences: list[tuple[str, str]] = []
    for row in summaries:
        if row.learned:
            parts = [_compared(results, row, by_method[rival], name) for rival, name in rivals]
            sentences.append((row.method, f"{'; '.join(parts)}."))
    return tuple(sentences)


def _compared(results: Results, row: Summary, rival: Summary, name: str) -> str:
    difference = _difference(results, row.method, rival.method)
    if difference.seeds == 0:
        return f"no seed shared with {name}"
    if not math.isfinite(difference.gain):
        return f"not compared with {name}, because a run diverged"
    scale = metric_scale(results)
    unit = " points" if scale.factor != 1 else ""
    cost = ""
    if rival.gradient_passes:
        cost = f", at {row.gradient_passes / rival.gradient_passes:.2f} times its gradient passes"
    if difference.clear:
        better = "better" if difference.gain > 0 else "worse"
        return f"{abs(difference.gain):.{scale.digits}f}{unit} {better} than {name}{cost}"
    sign = -1 if results.lower_is_better else 1
    low, high = sorted((sign * difference.lower, sign * difference.upper))
    mean = scale.difference(sign * difference.gain, results.metric)
    if not difference.judged:
        return f"{mean} against {name}{cost} ({_seeds(difference.seeds)} only, so it may be chance)"
    if unit and high - low > WIDE:
        return f"no clear difference from {name}{cost} ({mean}, which {_seeds(difference.seeds)} are too few to bound)"
    interval = f"true value between {low:+.{scale.digits}f} and {high:+.{scale.digits}f}"
    return f"no clear difference from {name}{cost} ({mean}, {interval})"


def _caveats(results: Results, summaries: Sequence[Summary]) -> tuple[str, ...]:
    caveats: list[str] = []
    missing = missing_runs(results)
    if missing:
        caveats.append(
            f"The trial is incomplete: {len(missing)} of {len(missing) + len(results.runs)} runs are missing. "
            "Means are over the runs that finished; differences are over the seeds both methods share."
        )
    diverged = sum(row.diverged for row in summaries)
    if diverged:
        names = _listed([f"{row.method} ({row.diverged} of {row.count})" for row in summaries if row.diverged])
        caveats.append(f"Diverged, with a loss or {results.metric} that is not finite: {names}.")
    note = skipped_steps_note(results)
    if note is not None:
        caveats.append(note)
    caveats += radius_notes(results)
    fixed = [row for row in summaries if row.fixed]
    learned = any(row.learned for row in summaries)
    if len(fixed) == 1 and learned:
        caveats.append(f"{fixed[0].method} is the only fixed radius here, so nothing is said about the best one.")
    if len(fixed) > 1 and learned:
        caveats.append(
            f"The best of the {len(fixed)} fixed radii is chosen by its test {results.metric}, which favours it, and "
            "its cost here leaves out the runs of the others."
        )
    if results.lower_is_better:
        caveats.append(f"A lower {results.metric} is better.")
    caveats += _model_note(results)
    continued = [f"{run.method} with seed {run.seed}" for run in results.runs if run.continued_at]
    if continued:
        caveats.append(
            f"Continued with another number of epochs, so the learning rate rose again: {_listed(continued)}. A run of "
            "all these epochs from its start may end elsewhere."
        )
    search, count = results.config.get("search"), results.config.get("search_trials")
    if isinstance(search, list) and isinstance(count, int):
        caveats.append(
            f"{_listed([str(name) for name in search])} of the base optimizer were tuned for each method by {count} "
            "trials on held-out training data; gradient passes and seconds leave the search out."
        )
    if len(summaries) > 1:
        caveats.append(
            f"The test set chose the best of the {len(summaries)} methods, so its mean is likely to be too good. That "
            f"any statement about a lead or a clear difference here is wrong has a probability of at most "
            f"{100 * LEVEL:g} %, if the differences between runs are roughly normal."
        )
    if len(summaries) > 2:
        pairs = len(summaries) * (len(summaries) - 1) // 2
        caveats.append(
            f"All {pairs} pairs of methods are compared here, so each needs stronger evidence than a verdict on two of "
            "them."
        )
    if summaries:
        caveats.append("All this holds for this task, this test set and these settings.")
    return tuple(caveats)


def _model_note(results: Results) -> list[str]:
    """What the folder `model` of ``--refit-best`` holds, and what chose it."""
    model = results.config.get("refit_best")
    if not isinstance(model, Mapping):
        return []
    method, seed, chosen_by = (str(model.get(name)) for name in ("method", "seed", "chosen_by"))
    note = f"The folder model holds {method} with seed {seed}, trained on all the training data"
    favours = " That favours its number on the test data." if " test " in chosen_by else ""
    return [f"{note}; it was chosen {chosen_by}.{favours}"]


def _difference(results: Results, method: str, rival: str) -> _Difference:
    pairs = paired(results, method, rival)
    seeds = len(pairs.gains)
    if pairs.diverged or pairs.baseline_diverged:
        return _Difference(math.nan, math.nan, math.nan, seeds + len(pairs.diverged) + len(pairs.baseline_diverged))
    if not seeds:
        return _Difference(math.nan, math.nan, math.nan, 0)
    gain, spread = finite_mean(pairs.gains), finite_spread(pairs.gains)
    if seeds < FEWEST_SEEDS or not math.isfinite(spread):
        return _Difference(gain, math.nan, math.nan, seeds)
    looks = {look.seeds for look in earlier_looks(results.decision) if FEWEST_SEEDS <= look.seeds < seeds}
    pairs_of_methods = len(results.methods) * (len(results.methods) - 1)
    critical = critical_values((*sorted(looks), seeds), LEVEL / pairs_of_methods)[-1]
    return _Difference(gain, *bounds(pairs.gains, critical, Noise(spread)), seeds)


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _score(row: Summary, scale: MetricScale) -> str:
    mean = scale.text(row.test_accuracy)
    if row.count == 1:
        return f"{mean}{scale.unit} (one seed)"
    return f"{mean} ± {scale.text(row.test_accuracy_std)}{scale.unit} over {row.count} seeds"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
