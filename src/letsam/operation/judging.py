"""From the tests of a batch to alarms, with what was seen before: the state that each record hands to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from letsam.operation.estimates import Estimate
from letsam.operation.false_alarms import GatheredEvidence, spent_level
from letsam.operation.measuring import DRIFT, Measured
from letsam.operation.watch_record import Alarm


@dataclass(frozen=True)
class WatchState:
    """The state of the sequential tests.

    Args:
        rate: probability of any false alarm over the whole watch.
        possible: names of the tests, which share the rate equally.
        spent: of each test of drift, in how many batches it was made.
        evidence: of each test against a bound.

    Example:
        >>> state = WatchState(0.05, ("drift_auc", "accuracy"))
        >>> WatchState.from_json(state.as_json()) == state
        True
    """

    rate: float
    possible: tuple[str, ...]
    spent: Mapping[str, int] = field(default_factory=dict[str, int])
    evidence: Mapping[str, GatheredEvidence] = field(default_factory=dict[str, GatheredEvidence])

    @property
    def rate_of_each(self) -> float:
        """Probability of any false alarm of one test over the whole watch."""
        return self.rate / len(self.possible)

    def as_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        evidence = {
            name: {"log": None if one.log_sum == -math.inf else one.log_sum, "batches": one.batches}
            for name, one in self.evidence.items()
        }
        return {"rate": self.rate, "tests": list(self.possible), "spent": dict(self.spent), "evidence": evidence}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WatchState:
        """The state that `as_json` wrote."""
        evidence = {
            name: GatheredEvidence(-math.inf if one["log"] is None else float(one["log"]), int(one["batches"]))
            for name, one in content["evidence"].items()
        }
        return cls(float(content["rate"]), tuple(content["tests"]), dict(content["spent"]), evidence)


@dataclass(frozen=True)
class Judged:
    """Alarms, and the state after the batch.

    Args:
        alarms: what has changed.
        state: for the next batch.
        tests: those of the batch, with the "level" or the "evidence" and the "threshold" of each.
    """

    alarms: tuple[Alarm, ...]
    state: WatchState
    tests: Mapping[str, Mapping[str, Any]]


def judged(found: Measured, state: WatchState, new_classes: Sequence[str] = (), labels: int = 0) -> Judged:
    """Which tests of a batch are alarms.

    A test of drift is an alarm at a level that falls with the number of batches; a test against a bound is one once the
    evidence of all batches reaches 2 / rate. The other half of its rate is for a bound that is too low, see `Bound`.

    Args:
        found: what was measured.
        state: after the batches before.
        new_classes: names of classes that the training data do not have; any is an alarm, and never a false one.
        labels: how many labels there are.
    """
    alarms: list[Alarm] = []
    spent, evidence = dict(state.spent), dict(state.evidence)
    tests: dict[str, dict[str, Any]] = {}
    for name, given in found.tests.items():
        test = dict(given)
        tests[name] = test
        if name not in state.possible:
            continue
        if name in DRIFT:
            spent[name] = spent.get(name, 0) + 1
            test["level"] = spent_level(state.rate_of_each, spent[name])
            if test["p"] <= test["level"]:
                alarms.append(Alarm(name, _drift_message(name, found.metrics[name], test)))
        else:
            evidence[name] = evidence.get(name, GatheredEvidence()).after(test["p"])
            test["evidence"] = evidence[name].value
            test["threshold"] = 2 / state.rate_of_each
            if test["evidence"] >= test["threshold"]:
                alarms.append(Alarm(name, _bound_message(name, found.metrics[name], test, evidence[name].batches)))
    if new_classes:
        shown = ", ".join(repr(name) for name in new_classes[:5]) + (", ..." if len(new_classes) > 5 else "")
        what = f"{len(new_classes)} classes" if len(new_classes) > 1 else "1 class"
        alarms.append(
            Alarm("new_classes", f"{labels:,} labels have {what} that the training data do not have: {shown}")
        )
    return Judged(tuple(alarms), WatchState(state.rate, state.possible, spent, evidence), tests)


def _drift_message(name: str, value: Estimate, test: Mapping[str, Any]) -> str:
    number = f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
    p = f"p = {test['p']:.1g}, at or below {test['level']:.1g}"
    if name == "drift_auc":
        return f"the inputs have changed: a classifier tells them from the training data with an AUC of {number}; {p}"
    if name == "embedding_distance":
        return f"what the network makes of the inputs has moved: energy coefficient {number}; {p}"
    shown = ", ".join(f"{feature} ({one['distance']:.2f})" for feature, one in test["features"].items())
    return f"features have changed: {shown}; {p}, after correction for all features"


def _bound_message(name: str, value: Estimate, test: Mapping[str, Any], batches: int) -> str:
    number = f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
    if name == "expected_accuracy":  # its interval does not cover what a change of the inputs does to it
        number = f"{value.value:.3g}"
    over = "this batch" if batches == 1 else f"{batches} batches"
    words = name.replace("_", " ")
    return (
        f"{words} is {number}; held-out data had {test['expected']:.3g} and allow {test['limit']:.3g}; evidence "
        f"{test['evidence']:.3g} from {over}, at or above {test['threshold']:.3g}"
    )
