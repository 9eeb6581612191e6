"""The verdict on a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from letsam.decision.decision_record import Decision, Reason, TrialLook, Verdicts, earlier_looks
from letsam.decision.inference import Noise, bounds, detectable_effect, go_probability, later_go_probability
from letsam.decision.looks import FEWEST_SEEDS, critical_values, later_values
from letsam.decision.pairing import Choice, Pairs, choose_methods, paired
from letsam.decision.sampling_noise import Measure, sample_variance
from letsam.results import Results, finite_mean, finite_spread
from letsam.results.metric_units import metric_scale
from letsam.results.predicted import Predictions

__all__ = ["LEVEL", "PLANNED_SEEDS", "POWER", "decide"]

LEVEL = 0.05
"""The largest probability that a bound is wrong; so is that of a go where there is no effect."""
POWER = 0.8
"""The probability with which an effect is shown, where a number of seeds or an effect is named."""
PLANNED_SEEDS = 10
"""With how many seeds a trial ends at the latest, where the user says nothing else."""
MOST_SEEDS = 1000
"""The largest number of seeds that can be planned; the critical values of each take a while."""
RESERVE = 0.3
"""The share of the error rate that is kept back at most where more than 10 seeds are planned, see `_kept`."""
HOPELESS = 0.05
"""A trial ends where the probability that its remaining seeds lead to a go is below this."""


def decide(
    results: Results,
    *,
    predictions: Sequence[Predictions] = (),
    baseline: str | None = None,
    candidate: str | None = None,
    minimum_effect: float | None = None,
    cost_per_pass: float | None = None,
    planned_seeds: int | None = None,
    measure: Measure | None = None,
) -> Decision:
    """Decide whether a method should replace another.

    What is None is as in the last verdict of the results, and else as said below.

    Args:
        results: the trial. Its earlier looks count.
        predictions: of its runs for the test set: bounds then hold for other test sets as well.
        baseline: what is done today; None: the base optimizer, or else the first method without a learned radius.
        candidate: what may replace it; None: the learned radius, its refit if there is one. Of several, the one with
            the lowest validation loss, and the error rate is shared between them.
        minimum_effect: the gain that is worth having, >= 0, in the unit in which the metric is shown: points of an
            accuracy, RMSE as it is; None: 0.
        cost_per_pass: price of a gradient pass, >= 0; None: no prices are given.
        planned_seeds: with how many seeds the trial ends at the latest, from 3 to 1,000; None: 10.
        measure: the metric as a function of outputs and targets, where it is not an accuracy, RMSE or MAE.

    Returns:
        The verdict and its numbers.

    Raises:
        ValueError, TypeError: a method that the results lack, no seed that both have finished, an option out of range.

    Example:
        >>> from letsam.results import Run
        >>> runs = [Run(m, s, r, r, a + s / 100, 0.5, 0.3, None, 0.2, 100, 1.0, {})
        ...         for s in range(3) for m, r, a in (("sgd", None, 0.7), ("lets-sam", 0.1, 0.8 + s / 500))]
        >>> decide(Results("digits", {}, {}, tuple(runs))).verdict
        'go'
    """
    given = _with_earlier(
        results,
        {
            "baseline": baseline,
            "candidate": candidate,
            "minimum_effect": minimum_effect,
            "cost_per_pass": cost_per_pass,
            "planned_seeds": planned_seeds,
        },
    )
    choice = choose_methods(results, given["baseline"], given["candidate"])
    pairs = paired(results, choice.candidate, choice.baseline)
    if not (pairs.seeds or pairs.diverged):
        raise ValueError(_no_pairs(choice, pairs))
    effect, planned = given["minimum_effect"], given["planned_seeds"]
    looks, counts = _with_look(earlier_looks(results.decision), choice, len(pairs.seeds), results.config.get("epochs"))
    sharing = _sharing(looks, choice, len(results.methods))
    found = _Numbers(pairs, counts, LEVEL * _kept(planned) / sharing)
    if predictions and pairs.gains:
        found.add_samples(sample_variance(pairs, predictions, metric_scale(results).factor, measure))
    verdict, reason, more = found.verdict(effect, planned)
    return Decision(
        verdict=verdict,
        reason=reason,
        baseline=choice.baseline,
        candidate=choice.candidate,
        chosen=choice.chosen,
        metric=results.metric,
        lower_is_better=results.lower_is_better,
        unit=" points" if metric_scale(results).factor != 1 else "",
        seeds=len(pairs.seeds),
        diverged=pairs.diverged,
        baseline_diverged=pairs.baseline_diverged,
        gain=finite_mean(pairs.gains) if pairs.gains else math.nan,
        lower=found.lower,
        upper=found.upper,
        spread=None if found.noise is None else found.noise.spread,
        sample_error=found.sample_error,
        minimum_effect=effect,
        detectable=found.detectable(effect),
        more_seeds=more,
        planned_seeds=planned,
        level=LEVEL,
        sharing=sharing,
        critical=found.critical,
        passes=_means(results, choice, pairs, "gradient_passes"),
        seconds=_means(results, choice, pairs, "seconds"),
        cost_per_pass=given["cost_per_pass"],
        looks=looks,
        looked_at=counts,
    )


class _Numbers:
    """The bounds of one look, and what they lead to."""

    def __init__(self, pairs: Pairs, looks: tuple[int, ...], level: float) -> None:
        self.gains, self.diverged, self.looks, self.level = pairs.gains, bool(pairs.diverged), looks, level
        self.seeds = len(pairs.gains)
        self.noise = Noise(finite_spread(self.gains)) if self.seeds > 1 else None
        if self.noise is not None and not math.isfinite(self.noise.spread):
            raise ValueError("the differences between the runs are too large to be compared")
        self.sample_error: float | None = None
        self.critical = critical_values(looks, level)[-1] if self.seeds >= FEWEST_SEEDS else None
        self.lower, self.upper = self._bounds()

    def add_samples(self, found: tuple[float, int] | None) -> None:
        """Take in the variance that is due to the test samples, and its degrees of freedom."""
        if found is None or self.noise is None:
            return
        self.noise = Noise(self.noise.spread, *found)
        self.sample_error = math.sqrt(found[0])
        self.lower, self.upper = self._bounds()

    def _bounds(self) -> tuple[float | None, float | None]:
        return (None, None) if self.critical is None else bounds(self.gains, self.critical, self.noise)

    def verdict(self, effect: float, planned: int) -> tuple[Verdicts, Reason, int]:
        """The verdict, its reason, and how many seeds are to be added."""
        if self.diverged:
            return "no-go", "diverged", 0
        if self.lower is None or self.upper is None or self.noise is None:
            return "more seeds", "few seeds", FEWEST_SEEDS - self.seeds
        if self.lower > effect:
            return "go", "shown", 0
        if self.upper <= effect:
            return "no-go", "too small", 0
        if self.seeds >= planned:
            return "no-go", "not shown", 0
        later = later_values(self.looks, planned, self.level)
        mean = finite_mean(self.gains)
        for count, critical in later.items():
            if go_probability(mean, self.noise, count, critical, effect) >= POWER:
                return "more seeds", "undecided", count - self.seeds
        if later_go_probability(self.gains, self.noise, planned, later[planned], effect) < HOPELESS:
            return "no-go", "hopeless", 0
        return "more seeds", "undecided", planned - self.seeds

    def detectable(self, effect: float) -> float | None:
        """The smallest true gain that so many seeds show with a probability of 80 %."""
        if self.noise is None or self.critical is None:
            return None
        return detectable_effect(self.noise, self.seeds, self.critical, effect, POWER)


def _with_earlier(results: Results, given: dict[str, Any]) -> dict[str, Any]:
    """The options; those that are not given are as in the last verdict, or have their defaults."""
    earlier: dict[str, Any] = dict(results.decision or {})
    if earlier.get("chosen") != "named":
        earlier.pop("candidate", None)
    for name in ("baseline", "candidate"):
        if earlier.get(name) not in results.methods:
            earlier.pop(name, None)
    found = {name: earlier.get(name) if value is None else value for name, value in given.items()}
    numbers = checked_options(found["minimum_effect"], found["cost_per_pass"], found["planned_seeds"])
    return {**found, **dict(zip(("minimum_effect", "cost_per_pass", "planned_seeds"), numbers, strict=True))}


def checked_options(
    minimum_effect: float | None, cost_per_pass: float | None, planned_seeds: int | None
) -> tuple[float, float | None, int]:
    """The options of `decide` with their defaults.

    Raises:
        ValueError, TypeError: one is out of range; the message names it.

    Example:
        >>> checked_options(None, None, 5)
        (0.0, None, 5)
    """
    effect = 0.0 if minimum_effect is None else _at_least("minimum_effect", minimum_effect, 0)
    price = None if cost_per_pass is None else _at_least("cost_per_pass", cost_per_pass, 0)
    planned = PLANNED_SEEDS if planned_seeds is None else planned_seeds
    if isinstance(planned, bool) or not isinstance(planned, int) or not FEWEST_SEEDS <= planned <= MOST_SEEDS:
        raise ValueError(f"`planned_seeds` must be a whole number from {FEWEST_SEEDS} to {MOST_SEEDS}, got {planned!r}")
    return effect, price, planned


def _at_least(name: str, value: Any, lowest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    if not (math.isfinite(value) and value >= lowest):
        raise ValueError(f"`{name}` must be a number >= {lowest}, got {value}")
    return float(value)


def _no_pairs(choice: Choice, pairs: Pairs) -> str:
    names = f"{choice.candidate} and {choice.baseline}"
    if pairs.baseline_diverged:
        return (
            f"`baseline`: every run of {choice.baseline} diverged, so there is nothing to compare with; choose another"
        )
    return f"there is no seed that both {names} have finished, so there is no verdict"


def _with_look(
    looks: tuple[TrialLook, ...], choice: Choice, seeds: int, epochs: object
) -> tuple[tuple[TrialLook, ...], tuple[int, ...]]:
    """The looks with this one, and the numbers of seeds of those at this comparison.

    Reading the same results again is no further look.
    """
    look = TrialLook(choice.baseline, choice.among, seeds, epochs if isinstance(epochs, int) else None)
    looks = looks if look in looks else (*looks, look)
    same = [
        one.seeds
        for one in looks
        if one.baseline == look.baseline and choice.candidate in one.candidates and one.epochs == look.epochs
    ]
    return looks, tuple(sorted({count for count in same if FEWEST_SEEDS <= count <= seeds}))


def _sharing(looks: tuple[TrialLook, ...], choice: Choice, methods: int) -> int:
    """How many comparisons share the error rate.

    Those of the first look were planned. Another one was chosen with the results in view: each of the methods could
    have been chosen. The same holds for other numbers of epochs. Where the candidate follows from the methods alone, a
    look with too few seeds for bounds is no plan: of a trial that was interrupted, the refit may have been missing.
    """
    by_rule = choice.chosen != "named"
    plan = next((one for one in looks if not (by_rule and _too_early(one, choice))), None)
    if plan is None:
        plan = TrialLook(choice.baseline, choice.among, 0)
    if choice.baseline == plan.baseline and choice.candidate in plan.candidates:
        count = len(plan.candidates)
    else:
        count = (methods - 1) * (1 if choice.baseline == plan.baseline else methods)
    return max(count, len(choice.among), 1) * len({look.epochs for look in looks})


def _too_early(look: TrialLook, choice: Choice) -> bool:
    return look.seeds < FEWEST_SEEDS and look.baseline == choice.baseline


def _kept(planned: int) -> float:
    """The share of the error rate that the looks of a trial with so many planned seeds spend.

    Where seeds are added as the verdict says, the next look depends on the gains so far, which adds to the false goes
    that the looks are made for: 4.4 % instead of 4 % with 10 planned seeds, 5.3 % instead of 4.5 % with 20, and about
    6 % instead of 4.75 % with 40.
    """
    return 1 - RESERVE * (1 - PLANNED_SEEDS / max(planned, PLANNED_SEEDS))


def _means(results: Results, choice: Choice, pairs: Pairs, field: str) -> tuple[float, float]:
    """The mean cost of a training, of the baseline and of the candidate."""
    kept = set(pairs.seeds)
    found: list[float] = []
    for method in (choice.baseline, choice.candidate):
        runs = [run for run in results.runs_of(method) if run.seed in kept] or list(results.runs_of(method))
        found.append(finite_mean([float(getattr(run, field)) for run in runs]))
    return found[0], found[1]
