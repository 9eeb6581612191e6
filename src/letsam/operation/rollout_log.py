"""The decisions of a roll-out, and its log ``rollout.jsonl``, from which the next call knows where it stands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from letsam.operation.rollout_gates import GateCheck
from letsam.results import write_atomically

__all__ = ["LOG", "RolloutDecision", "RolloutError", "StageStart", "read_rollout", "save_rollout"]

ROLLOUT_FORMAT = "letsam rollout 1"
LOG = "rollout.jsonl"
EXIT_STATUS = {"proceed": 0, "hold": 3, "roll back": 1}
"""Of `letsam rollout`, as of `letsam decide`: go, more evidence, no-go. 2 is bad input."""

Word = Literal["proceed", "hold", "roll back"]


class RolloutError(ValueError):
    """A roll-out cannot be judged; the message is one line."""


@dataclass(frozen=True)
class StageStart:
    """Where a stage began.

    Args:
        time: by the clock, in UTC, ISO 8601.
        champion: how many records the champion's watch had.
        challenger: how many the challenger's had.
    """

    time: str
    champion: int
    challenger: int


@dataclass(frozen=True, kw_only=True)
class RolloutDecision:
    """What is to be done now, and why.

    Args:
        time: of the decision, in UTC, ISO 8601.
        decision: "proceed", "hold" or "roll back".
        stage: that was judged.
        next_stage: that begins now; None unless the decision is to proceed, and after the last stage.
        share: that the challenger shall serve from now on, from 0 to 1.
        complete: whether the last stage was passed.
        checks: what the gates say.
        notes: remarks, such as on a clock that has jumped.
        since: where the stage began.
        records: how many records there were, of champion and challenger.
        shadow: time of the comparison that was used; None: there was none.
        champion: fingerprint of the model.
        challenger: fingerprint of the model.
        plan: SHA-256 of the plan.
    """

    time: str
    decision: Word
    stage: str
    next_stage: str | None
    share: float
    complete: bool
    checks: tuple[GateCheck, ...]
    notes: tuple[str, ...]
    since: StageStart
    records: tuple[int, int]
    shadow: str | None
    champion: str
    challenger: str
    plan: str

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be decided."""
        return self.complete or self.decision == "roll back"

    @property
    def exit_status(self) -> int:
        """Of the command: 0 to proceed, 3 to hold, 1 to roll back."""
        return EXIT_STATUS[self.decision]

    @property
    def headline(self) -> str:
        """The decision in one sentence."""
        share = f"{100 * self.share:g} %"
        if self.decision == "roll back":
            return f"Roll back: the champion serves everything again. The stage {self.stage!r} has failed."
        if self.decision == "hold":
            return f"Hold: the challenger goes on with {share}, in the stage {self.stage!r}."
        if self.complete:
            return f"Proceed: the roll-out is complete, the challenger serves {share}."
        return f"Proceed: the stage {self.stage!r} is passed, the challenger serves {share} from now on."

    def same_as(self, other: RolloutDecision) -> bool:
        """Whether it says the same for the same reasons, at whatever time and with whatever notes."""
        return dataclasses.replace(self, time=other.time, notes=other.notes) == other

    def as_json(self) -> dict[str, Any]:
        """The decision as JSON values, as the log has it."""
        return json.loads(json.dumps({"format": ROLLOUT_FORMAT, **dataclasses.asdict(self)}))

    @classmethod
    def from_json(cls, content: Any) -> RolloutDecision:
        """The decision that `as_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        values = dict(content)
        form = values.pop("format")
        if form != ROLLOUT_FORMAT:
            raise ValueError(f"the format {form!r}, expected {ROLLOUT_FORMAT!r}")
        if values["decision"] not in EXIT_STATUS:
            raise ValueError(f"the decision {values['decision']!r}")
        first, second = values["records"]
        checks = tuple(GateCheck(**check) for check in values["checks"])
        since = StageStart(**values["since"])
        made = {"checks": checks, "notes": tuple(values["notes"]), "since": since, "records": (int(first), int(second))}
        return cls(**{**values, **made})


def read_rollout(folder: str | Path) -> list[RolloutDecision]:
    """The decisions in the log of a folder, the latest last; none where there is no log.

    Raises:
        RolloutError: a line is no decision; one line that names it.

    Example:
        >>> read_rollout("nowhere")
        []
    """
    path = Path(folder) / LOG
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RolloutError(f"{path} cannot be read: {error}") from None
    found: list[RolloutDecision] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(RolloutDecision.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RolloutError(f"{path}: line {number} is no decision of letsam rollout ({error!r})") from None
    return found


def save_rollout(folder: Path, decisions: Sequence[RolloutDecision]) -> None:
    """Write the log in one atomic step: a crash leaves the old one or the new one."""
    lines = [json.dumps(one.as_json(), ensure_ascii=False, allow_nan=False) for one in decisions]
    write_atomically(folder / LOG, "".join(f"{line}\n" for line in lines))
