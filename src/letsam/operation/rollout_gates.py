"""The gates of a stage: what each of them says about the evidence so far, and why."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from letsam.operation.rollout_plan import RolloutStage
from letsam.operation.shadow_report import ShadowReport
from letsam.operation.watch_difference import DifferenceLook, MeasuredBatch, look_at, measured_batches
from letsam.operation.watch_record import WatchRecord
from letsam.results.metric_units import value_scale

__all__ = ["Evidenced", "GateCheck", "GateState", "MetricAsked", "check_gates"]

GateState = Literal["passed", "waits", "failed", "note"]


@dataclass(frozen=True)
class GateCheck:
    """What one gate says.

    Args:
        gate: its key in the plan.
        state: "passed"; "waits": more evidence is needed; "failed": the challenger is to be rolled back; "note": it has
            no say.
        text: why, in one sentence.
    """

    gate: str
    state: GateState
    text: str


@dataclass(frozen=True)
class MetricAsked:
    """The metric of `max_drop`.

    Args:
        name: such as "balanced accuracy".
        lower_is_better: whether it is an error.
        weighted: whether the samples of the models have weights.
    """

    name: str
    lower_is_better: bool
    weighted: bool = False

    @property
    def key(self) -> str:
        """Its name in the records of a watch."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True, kw_only=True)
class Evidenced:
    """The evidence that a stage is judged by.

    Args:
        shadow: the comparison on the same data; None: there is none yet.
        shadow_place: where it is expected, for texts.
        champion: all records of the champion's watch.
        challenger: likewise.
        since: how many records there were when the stage began, of champion and challenger.
        begun: when the stage began, by the clock.
        now: the time.
        metric: of `max_drop`.
        level: error rate of each gate.
    """

    shadow: ShadowReport | None
    shadow_place: str
    champion: Sequence[WatchRecord]
    challenger: Sequence[WatchRecord]
    since: tuple[int, int]
    begun: datetime.datetime
    now: datetime.datetime
    metric: MetricAsked
    level: float

    def batches(self, metric: str) -> tuple[list[MeasuredBatch], list[MeasuredBatch]]:
        """What champion and challenger have of a metric in this stage."""
        old = measured_batches(self.champion, metric, self.since[0])
        return old, measured_batches(self.challenger, metric, self.since[1])


def check_gates(stage: RolloutStage, found: Evidenced) -> tuple[GateCheck, ...]:
    """What the gates of a stage say, one by one."""
    checks = [*_samples(stage, found), *_hours(stage, found), *_disagreement(stage, found)]
    checks += [*_drop(stage, found), *_expected_drop(stage, found), *_alarms(stage, found)]
    if stage.max_hours is not None:
        checks.append(_too_long(stage, found, passed=all(one.state in ("passed", "note") for one in checks)))
    return tuple(checks)


def _samples(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    if not stage.min_samples:
        return
    if stage.shadows:
        what, count = "compared", 0 if found.shadow is None else found.shadow.samples
        if stage.max_drop is not None and found.shadow is not None and found.shadow.gain is not None:
            what, count = "compared with labels", found.shadow.gain.samples
    elif stage.max_drop is not None:
        what, count = f"of the challenger with {found.metric.name}", _count(found.batches(found.metric.key)[1])
    else:
        seen = {str(one.data.get("fingerprint") or one.batch) for one in found.challenger[: found.since[1]]}
        sizes = {
            str(one.data.get("fingerprint") or one.batch): int(one.data["samples"])
            for one in found.challenger[found.since[1] :]
        }
        what, count = "of the challenger", sum(size for key, size in sizes.items() if key not in seen)
    enough = count >= stage.min_samples
    of = f"{count:,} of {stage.min_samples:,}" if not enough else f"{count:,}"
    yield GateCheck("min_samples", "passed" if enough else "waits", f"{of} samples {what}")


def _hours(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    if not stage.min_hours:
        return
    until = found.begun + datetime.timedelta(hours=stage.min_hours)
    if found.now >= until:
        yield GateCheck("min_hours", "passed", f"the stage has lasted {stage.min_hours:g} hours")
    else:
        yield GateCheck("min_hours", "waits", f"the stage lasts until {time_text(until)} at least")


def _too_long(stage: RolloutStage, found: Evidenced, *, passed: bool) -> GateCheck:
    assert stage.max_hours is not None
    until = found.begun + datetime.timedelta(hours=stage.max_hours)
    if passed:
        return GateCheck("max_hours", "passed", f"the other gates were passed before {time_text(until)}")
    if found.now >= until:
        return GateCheck("max_hours", "failed", f"the other gates have not been passed by {time_text(until)}")
    return GateCheck("max_hours", "note", f"if the other gates are not passed by {time_text(until)}, roll back")


def _disagreement(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    limit = stage.max_disagreement
    if limit is None:
        return
    if found.shadow is None:
        yield _no_comparison("max_disagreement", found)
        return
    numbers = found.shadow.differing is None
    factor, unit = (1.0, "") if numbers else (100.0, " %")
    rate = found.shadow.disagreement
    what = "the predictions differ by" if numbers else "the answers differ for"
    if rate.low is None or rate.high is None:
        yield GateCheck("max_disagreement", "waits", "there are too few samples to bound the disagreement")
        return
    low, high = factor * rate.low, factor * rate.high
    text = f"{what} {factor * rate.value:.3g}{unit}, bounds {low:.3g} and {high:.3g}{unit}; at most {limit:g}{unit}"
    state: GateState = "passed" if high <= limit else "failed" if low > limit else "waits"
    yield GateCheck("max_disagreement", state, text)


def _drop(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    if stage.max_drop is None:
        return
    if not stage.shadows:
        yield _by_watches("max_drop", stage, found, found.metric, stage.max_drop)
        return
    if found.shadow is None:
        yield _no_comparison("max_drop", found)
        return
    gain, change = found.shadow.gain, found.shadow.most_change
    if gain is not None and gain.lower is not None and gain.upper is not None:
        seen = f"the gain in {gain.metric} is {gain.gain:+.3g}{gain.unit}"
        yield _judged("max_drop", seen, (gain.lower, gain.upper), gain.unit, stage.max_drop)
    elif gain is not None:
        yield GateCheck("max_drop", "waits", f"too few samples differ to bound the gain in {gain.metric}")
    elif change.high is not None and change.high <= stage.max_drop and _same(found):
        text = (
            f"without labels: so few answers differ that {found.shadow.most_change_metric} cannot fall by more than "
            f"{change.high:.3g}; at most {stage.max_drop:g}"
        )
        yield GateCheck("max_drop", "passed", text)
    else:
        yield GateCheck("max_drop", "waits", "the comparison has no labels: letsam shadow needs --labels for this gate")


def _same(found: Evidenced) -> bool:
    """Whether the bound without labels is of the metric that is asked for; it counts all samples the same."""
    asked = found.metric
    return found.shadow is not None and found.shadow.most_change_metric == asked.name and not asked.weighted


def _expected_drop(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    if stage.max_expected_drop is not None:
        metric = MetricAsked("expected accuracy", lower_is_better=False)
        if stage.shadows:
            text = "expected accuracies are compared once the challenger serves"
            yield GateCheck("max_expected_drop", "note", text)
        else:
            yield _by_watches("max_expected_drop", stage, found, metric, stage.max_expected_drop)


def _by_watches(gate: str, stage: RolloutStage, found: Evidenced, metric: MetricAsked, margin: float) -> GateCheck:
    old, new = found.batches(metric.key)
    look = look_at(
        old,
        new,
        metric.key,
        first=stage.min_samples,
        share=stage.share,
        level=found.level,
        lower_is_better=metric.lower_is_better,
        weighted=metric.weighted,
    )
    if not isinstance(look, DifferenceLook):
        lack = [f"{count:,} of the {who}" for count, who in zip(look, ("champion", "challenger"), strict=True) if count]
        return GateCheck(gate, "waits", f"the first look at {metric.name} needs more samples: {' and '.join(lack)}")
    scale = value_scale(_shown_as(metric.name), [abs(look.old), abs(look.new)])
    unit = " points" if scale.factor != 1 else ""
    gain, low, high = (scale.factor * one for one in look.gain)
    seen = (
        f"look {look.number + 1}, with {look.samples:,} samples of the challenger and {look.champion_samples:,} of the "
        f"champion: the gain in {metric.name} is {gain:+.3g}{unit}"
    )
    return _judged(gate, seen, (low, high), unit, margin)


def _shown_as(name: str) -> str:
    return "accuracy" if name == "expected accuracy" else name


def _judged(gate: str, seen: str, bounds: tuple[float, float], unit: str, margin: float) -> GateCheck:
    low, high = bounds
    state: GateState = "passed" if low >= -margin else "failed" if high < -margin else "waits"
    return GateCheck(gate, state, f"{seen}, bounds {low:+.3g} and {high:+.3g}{unit}; at least {-margin:g}{unit}")


def _alarms(stage: RolloutStage, found: Evidenced) -> Iterator[GateCheck]:
    if stage.max_alarms is None:
        return
    ours = found.challenger[found.since[1] :]
    theirs = {alarm.code for record in found.champion[found.since[0] :] for alarm in record.alarms}
    alarms = [(record, alarm) for record in ours for alarm in record.alarms if alarm.code not in stage.ignore_alarms]
    own = [(record, alarm) for record, alarm in alarms if alarm.code not in theirs]
    shared = sorted({alarm.code for _, alarm in alarms if alarm.code in theirs})
    if len(own) > stage.max_alarms:
        record, alarm = own[-1]
        text = (
            f"{_number(len(own), 'alarm')} of the challenger alone, the last in batch {record.batch}: {alarm.message}"
        )
        yield GateCheck("max_alarms", "failed", text)
    elif len(alarms) > stage.max_alarms:
        text = f"champion and challenger both have alarms ({', '.join(shared)}): the data have changed, not the model"
        yield GateCheck("max_alarms", "waits", text)
    elif not ours and not stage.shadows:
        yield GateCheck("max_alarms", "waits", "the watch of the challenger has no record of this stage yet")
    else:
        yield GateCheck("max_alarms", "passed", f"{_number(len(alarms), 'alarm')} in {_number(len(ours), 'record')}")


def _no_comparison(gate: str, found: Evidenced) -> GateCheck:
    return GateCheck(gate, "waits", f"{found.shadow_place} is not there yet; letsam shadow writes it")


def _count(batches: Sequence[MeasuredBatch]) -> int:
    return sum(batch.samples for batch in batches)


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def time_text(time: datetime.datetime) -> str:
    """The time in UTC, in ISO 8601 with seconds.

    Example:
        >>> time_text(datetime.datetime(2030, 1, 2, tzinfo=datetime.timezone.utc))
        '2030-01-02T00:00:00Z'
    """
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
