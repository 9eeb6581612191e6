"""Rolling out in stages: what a scheduler asks as often as it likes.

    decision = letsam.operation.rollout("plan.toml")
    print(decision.headline)            # proceed, hold or roll back
    for check in decision.checks:       # and why
        print(check.gate, check.state, check.text)
    serve(challenger=decision.share)    # see `letsam.operation.assigned`

It reads the plan, the comparison of `letsam.operation.shadow` and the records of both watches, and decides. Where the
roll-out stands is the last line of its log. Records belong to a stage by their order, not by the clock: they count
from where the log says that the stage began. The same inputs give the same answer: a decision to proceed is given again
until something new is there.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

from letsam.model_folder import model_place
from letsam.model_folder.manifest import fingerprint
from letsam.operation.rollout_gates import Evidenced, GateCheck, check_gates, time_text
from letsam.operation.rollout_log import RolloutDecision, RolloutError, StageStart, Word, read_rollout, save_rollout
from letsam.operation.rollout_plan import RolloutPlan, RolloutStage
from letsam.operation.rollout_sources import RolloutSources, asked_metric
from letsam.operation.watch_record import WatchRecord
from letsam.results import locked_folder

__all__ = ["rollout"]

CLOCKS_DIFFER = datetime.timedelta(minutes=5)
"""Clocks of different machines may be so far apart."""


def rollout(
    plan: str | Path | RolloutPlan,
    stage: str | None = None,
    since: str | datetime.datetime | None = None,
    *,
    now: str | datetime.datetime | None = None,
) -> RolloutDecision:
    """Decide whether a roll-out proceeds, holds or is rolled back.

    Args:
        plan: the plan, or its file.
        stage: the stage that it is in. None: the log says so, and the decision is added to the log where it is new.
            With a stage, nothing is read from the log and nothing is written.
        since: with `stage`, when it began: records of the watches from then on count; None: all of them.
        now: the time, in ISO 8601; None: by the clock.

    Returns:
        The decision.

    Raises:
        PlanError: the plan cannot be used.
        ModelFolderError: a model is missing, or a file of it was changed.
        RolloutError: models, comparison and watches do not belong together, or the log is of another roll-out.
        WatchError: a watch was changed.
        ValueError: there is no such stage, a time that is none, or another call writes to the log at the same time.

    Example:
        >>> rollout("nowhere.toml")
        Traceback (most recent call last):
        letsam.operation.rollout_plan.PlanError: nowhere.toml: expected a plan, but there is no such file; ...
    """
    found = plan if isinstance(plan, RolloutPlan) else RolloutPlan.load(plan)
    time = _time("now", now) or datetime.datetime.now(datetime.UTC)
    if stage is not None:
        chosen = found.stage(stage)
        sources = RolloutSources.of(found)
        begun = _time("since", since)
        return _decided(found, sources, chosen, _start_at(sources, begun, time), time)
    if since is not None:
        raise ValueError(f"`since` needs `stage`, as the log says when its stage began, got {since!r}")
    with locked_folder(found.out):
        earlier = read_rollout(found.out)
        last = earlier[-1] if earlier else None
        made = _next(found, last, time)
        if last is None or made.time != last.time or not made.same_as(last):
            save_rollout(found.out, [*earlier, made])
    return made


def _next(plan: RolloutPlan, last: RolloutDecision | None, now: datetime.datetime) -> RolloutDecision:
    """The decision; that of the last entry of the log where there is nothing new."""
    if last is not None and last.ended:
        _check_same(plan, last, (last.champion, fingerprint(model_place(plan.challenger))))
        return last
    sources = RolloutSources.of(plan)
    if last is None:
        return _decided(plan, sources, plan.stages[0], StageStart(time_text(now), 0, 0), now)
    _check_same(plan, last, sources.fingerprints)
    stage = plan.stage(last.next_stage or last.stage)
    start = StageStart(last.time, *last.records) if last.next_stage else last.since
    for name, counted, records in _counts(start, sources):
        if len(records) < counted:
            raise RolloutError(
                f"the watch of the {name} has {len(records)} records, fewer than the {counted} when the stage "
                f"{stage.name!r} began: it was replaced"
            )
    made = _decided(plan, sources, stage, start, now, last)
    nothing_new = (made.records, made.shadow, made.plan) == (last.records, last.shadow, last.plan)
    if made.same_as(last) or (last.decision == "proceed" and made.decision == "hold" and nothing_new):
        return dataclasses.replace(last, notes=made.notes)
    return made


def _decided(
    plan: RolloutPlan,
    sources: RolloutSources,
    stage: RolloutStage,
    start: StageStart,
    now: datetime.datetime,
    last: RolloutDecision | None = None,
) -> RolloutDecision:
    begun = datetime.datetime.fromisoformat(start.time)
    found = Evidenced(
        shadow=sources.shadow,
        shadow_place=str(sources.shadow_place),
        champion=sources.records[0],
        challenger=sources.records[1],
        since=(start.champion, start.challenger),
        begun=begun,
        now=now,
        metric=asked_metric(plan, sources),
        level=plan.level,
    )
    checks = check_gates(stage, found)
    decision = _word(checks)
    after = plan.after(stage) if decision == "proceed" else None
    complete = decision == "proceed" and after is None
    notes = [*sources.notes, *_clock(begun, now, sources, last), *_changed_plan(plan, last)]
    return RolloutDecision(
        time=time_text(now),
        decision=decision,
        stage=stage.name,
        next_stage=None if after is None else after.name,
        share=0.0 if decision == "roll back" else (after or stage).share,
        complete=complete,
        checks=checks,
        notes=tuple(notes),
        since=start,
        records=(len(sources.records[0]), len(sources.records[1])),
        shadow=None if sources.shadow is None else sources.shadow.time,
        champion=sources.fingerprints[0],
        challenger=sources.fingerprints[1],
        plan=plan.digest,
    )


def _word(checks: Sequence[GateCheck]) -> Word:
    states = {check.state for check in checks}
    return "roll back" if "failed" in states else "hold" if "waits" in states else "proceed"


def _check_same(plan: RolloutPlan, last: RolloutDecision, prints: tuple[str, str]) -> None:
    """Whether the log is of these models."""
    known = (last.champion, last.challenger)
    for name, own, expected in zip(("champion", "challenger"), prints, known, strict=True):
        if own != expected:
            raise RolloutError(
                f"{plan.out}: holds the roll-out with another {name} ({expected[:12]}), got {own[:12]}; name another "
                "folder as `out` in the plan"
            )


def _counts(start: StageStart, sources: RolloutSources) -> list[tuple[str, int, tuple[WatchRecord, ...]]]:
    return [("champion", start.champion, sources.records[0]), ("challenger", start.challenger, sources.records[1])]


def _start_at(sources: RolloutSources, begun: datetime.datetime | None, now: datetime.datetime) -> StageStart:
    """The start of a stage by the times of the records; None: it began with the first of them."""
    counts: list[int] = []
    times: list[datetime.datetime] = []
    for records in sources.records:
        stamps = [_record_time(record) for record in records]
        times += stamps
        counts.append(0 if begun is None else sum(stamp < begun for stamp in stamps))
    return StageStart(time_text(begun or min([*times, now])), counts[0], counts[1])


def _clock(
    begun: datetime.datetime, now: datetime.datetime, sources: RolloutSources, last: RolloutDecision | None
) -> list[str]:
    """Where the clock has jumped: it decides on hours alone, as records count in their order."""
    notes: list[str] = []
    if last is not None and now < datetime.datetime.fromisoformat(last.time) - CLOCKS_DIFFER:
        notes.append(f"the clock is behind: it says {time_text(now)}, and the last entry of the log {last.time}")
    elif now < begun - CLOCKS_DIFFER:
        notes.append(f"the clock is behind: it says {time_text(now)}, and the stage began at {time_text(begun)}")
    ahead = [record for records in sources.records for record in records if _record_time(record) > now + CLOCKS_DIFFER]
    if ahead:
        notes.append(f"{len(ahead)} records of the watches are of later than {time_text(now)}: a clock has jumped")
    return notes


def _changed_plan(plan: RolloutPlan, last: RolloutDecision | None) -> list[str]:
    if last is None or last.plan == plan.digest:
        return []
    return ["the plan was changed since the last decision"]


def _record_time(record: WatchRecord) -> datetime.datetime:
    found = _time("time", record.time)
    assert found is not None
    return found


def _time(name: str, value: str | datetime.datetime | None) -> datetime.datetime | None:
    """A time with its zone; without one, it is UTC."""
    if value is None:
        return None
    try:
        found = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError(f"`{name}` must be a time such as 2030-01-31T12:00:00Z, got {value!r}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
