"""What each gate says of given evidence: passed, waits or failed, and why."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from letsam.decision import SampleGain
from letsam.operation.estimates import Estimate
from letsam.operation.rollout_gates import Evidenced, GateCheck, MetricAsked, check_gates
from letsam.operation.rollout_plan import RolloutStage
from letsam.operation.shadow_report import BoundedValue, ComparedModel, ShadowReport
from letsam.operation.watch_record import Alarm, WatchRecord

BEGUN = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
MODEL = ComparedModel("runs/v1", "f00", 1, "sgd")


def report(*, low: float = 0.01, high: float = 0.04, kind: str = "classification", **fields: Any) -> ShadowReport:
    numbers = kind == "regression"
    values: dict[str, Any] = {
        "time": "2030-01-01T00:00:00Z",
        "champion": MODEL,
        "challenger": MODEL,
        "data": {"name": "july.csv", "fingerprint": None, "samples": 1000},
        "kind": kind,
        "level": 0.05,
        "differing": None if numbers else 20,
        "disagreement": BoundedValue(0.02, low, high),
        "most_change": BoundedValue(2.0, 0.0, 100 * high),
        "most_change_metric": "RMSE" if numbers else "accuracy",
        "distance": BoundedValue(0.1, 0.09, 0.11),
        "distance_high": 0.3,
        "distance_largest": 0.5,
        "mean_difference": None,
        "by_class": (),
    }
    return ShadowReport(**{**values, **fields})


def gain(lower: float | None, upper: float | None, samples: int = 800) -> SampleGain:
    return SampleGain("accuracy", 0.9, 0.91, " points", 1.0, lower, upper, 0.05, samples, 30, 20, 0.2)


def record(batch: int, *alarms: str, key: str | None = None, **metrics: float) -> WatchRecord:
    data = {"name": "x", "fingerprint": key or f"data {batch}", "samples": 400, "labels": 400}
    found = {name: Estimate(value, value - 0.03, value + 0.03) for name, value in metrics.items()}
    codes = tuple(Alarm(code, f"{code} has changed") for code in alarms)
    return WatchRecord("2030-01-01T00:00:00+00:00", "f00", data, True, batch, found, alarms=codes)


def checked(stage: dict[str, Any], *, share: float = 0.5, hours: float = 5.0, **evidence: Any) -> dict[str, GateCheck]:
    values: dict[str, Any] = {
        "shadow": None,
        "shadow_place": "runs/shadow.json",
        "champion": (),
        "challenger": (),
        "since": (0, 0),
        "begun": BEGUN,
        "now": BEGUN + datetime.timedelta(hours=hours),
        "metric": MetricAsked("accuracy", lower_is_better=False),
        "level": 0.05,
    }
    found = check_gates(RolloutStage(name="x", share=share, **stage), Evidenced(**{**values, **evidence}))
    return {check.gate: check for check in found}


def test_samples() -> None:
    two = (record(1), record(2))
    assert checked({"min_samples": 900}, challenger=two)["min_samples"].text == "800 of 900 samples of the challenger"
    assert checked({"min_samples": 900}, challenger=two)["min_samples"].state == "waits"
    assert checked({"min_samples": 800}, challenger=two)["min_samples"].state == "passed"
    assert "400 of 800" in checked({"min_samples": 800}, challenger=two, since=(0, 1))["min_samples"].text
    again = (record(1), record(2, key="data 1"))  # the labels of the first batch
    assert "400 of 800" in checked({"min_samples": 800}, challenger=again)["min_samples"].text
    labelled = (record(1, accuracy=0.9), record(2))
    found = checked({"min_samples": 500, "max_drop": 1.0}, challenger=labelled)["min_samples"]
    assert found.text == "400 of 500 samples of the challenger with accuracy"


def test_samples_of_the_comparison() -> None:
    stage = {"min_samples": 900}
    assert checked(stage, share=0.0)["min_samples"].text == "0 of 900 samples compared"
    assert checked(stage, share=0.0, shadow=report())["min_samples"].state == "passed"
    found = checked({**stage, "max_drop": 1.0}, share=0.0, shadow=report(gain=gain(-1, 1)))["min_samples"]
    assert (found.state, found.text) == ("waits", "800 of 900 samples compared with labels")


def test_hours() -> None:
    found = checked({"min_hours": 24})["min_hours"]
    assert (found.state, found.text) == ("waits", "the stage lasts until 2030-01-02T00:00:00Z at least")
    assert checked({"min_hours": 24}, hours=24)["min_hours"].state == "passed"
    stage = {"min_samples": 900, "max_hours": 48.0}
    assert checked(stage, hours=47)["max_hours"].state == "note"
    late = checked(stage, hours=48)["max_hours"]
    assert (late.state, late.text) == ("failed", "the other gates have not been passed by 2030-01-03T00:00:00Z")
    three = (record(1), record(2), record(3))
    assert checked(stage, hours=48, challenger=three)["max_hours"].state == "passed"


@pytest.mark.parametrize(
    ("low", "high", "state"), [(0.01, 0.04, "passed"), (0.01, 0.06, "waits"), (0.051, 0.06, "failed")]
)
def test_disagreement_is_judged_by_its_bounds(low: float, high: float, state: str) -> None:
    found = checked({"max_disagreement": 5.0}, shadow=report(low=low, high=high))["max_disagreement"]
    assert found.state == state
    assert f"bounds {100 * low:.3g} and {100 * high:.3g} %; at most 5 %" in found.text


def test_disagreement_of_numbers_and_without_a_comparison() -> None:
    found = checked({"max_disagreement": 0.05}, shadow=report(kind="regression"))["max_disagreement"]
    assert (found.state, found.text) == ("passed", "the predictions differ by 0.02, bounds 0.01 and 0.04; at most 0.05")
    none = checked({"max_disagreement": 5.0})["max_disagreement"]
    assert (none.state, none.text) == ("waits", "runs/shadow.json is not there yet; letsam shadow writes it")


@pytest.mark.parametrize(
    ("lower", "upper", "state"),
    [(-0.9, 3.0, "passed"), (-1.1, 3.0, "waits"), (-3.0, -1.1, "failed"), (-3.0, -0.9, "waits")],
)
def test_the_drop_in_shadow_mode(lower: float, upper: float, state: str) -> None:
    found = checked({"max_drop": 1.0}, share=0.0, shadow=report(gain=gain(lower, upper)))["max_drop"]
    assert found.state == state
    assert f"bounds {lower:+.3g} and {upper:+.3g} points; at least -1 points" in found.text


def test_the_drop_without_labels_is_bounded_by_the_disagreement() -> None:
    stage = {"max_drop": 5.0}
    found = checked(stage, share=0.0, shadow=report(high=0.04))["max_drop"]
    assert found.state == "passed"
    assert "so few answers differ that accuracy cannot fall by more than 4; at most 5" in found.text
    found = checked(stage, share=0.0, shadow=report(high=0.06))["max_drop"]
    assert (found.state, "letsam shadow needs --labels" in found.text) == ("waits", True)
    other = MetricAsked("F1", lower_is_better=False)  # the bound is of the accuracy
    assert checked(stage, share=0.0, shadow=report(high=0.04), metric=other)["max_drop"].state == "waits"
    weighted = MetricAsked("accuracy", lower_is_better=False, weighted=True)  # the bound counts all samples the same
    assert checked(stage, share=0.0, shadow=report(high=0.04), metric=weighted)["max_drop"].state == "waits"
    few = checked(stage, share=0.0, shadow=report(gain=gain(None, None)))["max_drop"]
    assert (few.state, few.text) == ("waits", "too few samples differ to bound the gain in accuracy")


@pytest.mark.parametrize(("new", "state"), [(0.90, "passed"), (0.85, "waits"), (0.70, "failed")])
def test_the_drop_by_the_watches(new: float, state: str) -> None:
    records = {"champion": [record(1, accuracy=0.9)] * 1, "challenger": [record(1, accuracy=new)]}
    found = checked({"max_drop": 5.0, "min_samples": 300}, **records)["max_drop"]
    assert found.state == state
    assert found.text.startswith(
        "look 1, with 400 samples of the challenger and 400 of the champion: the gain in accuracy is"
    )
    weighted = MetricAsked("accuracy", lower_is_better=False, weighted=True)
    other = checked({"max_drop": 5.0, "min_samples": 300}, metric=weighted, **records)["max_drop"]
    width = 100 * 0.03 * 2**0.5  # shares of right answers by weight are no counts: the bounds of the records are taken
    gained = 100 * (new - 0.9)
    assert f"bounds {gained - width:+.3g} and {gained + width:+.3g} points" in other.text
    lower = MetricAsked("loss", lower_is_better=True)
    records = {"champion": [record(1, loss=0.5)], "challenger": [record(1, loss=0.5 + (0.9 - new))]}
    assert checked({"max_drop": 0.07, "min_samples": 300}, metric=lower, **records)["max_drop"].state == state


def test_the_expected_drop() -> None:
    stage = {"max_expected_drop": 5.0, "min_samples": 300}
    records = {"champion": [record(1, expected_accuracy=0.9)], "challenger": [record(1, expected_accuracy=0.9)]}
    found = checked(stage, **records)["max_expected_drop"]
    assert found.state == "passed"
    assert "the gain in expected accuracy is +0 points" in found.text
    assert checked(stage, champion=records["champion"])["max_expected_drop"].text == (
        "the first look at expected accuracy needs more samples: 300 of the challenger"
    )
    assert checked(stage, share=0.0, shadow=report())["max_expected_drop"].state == "note"


def test_alarms() -> None:
    stage = {"max_alarms": 0}
    quiet, loud = record(1), record(2, "accuracy")
    assert checked(stage, challenger=(quiet,))["max_alarms"].text == "no alarms in 1 record"
    assert checked(stage)["max_alarms"].text == "the watch of the challenger has no record of this stage yet"
    assert checked(stage)["max_alarms"].state == "waits"
    assert checked(stage, share=0.0)["max_alarms"].state == "passed"  # nobody need watch it yet
    found = checked(stage, challenger=(quiet, loud))["max_alarms"]
    assert found.state == "failed"
    assert found.text == "1 alarm of the challenger alone, the last in batch 2: accuracy has changed"
    assert checked(stage, challenger=(loud, quiet), since=(0, 1))["max_alarms"].state == "passed"  # of an earlier stage
    assert checked({"max_alarms": 1}, challenger=(quiet, loud))["max_alarms"].state == "passed"
    assert checked({**stage, "ignore_alarms": ("accuracy",)}, challenger=(loud,))["max_alarms"].state == "passed"


def test_alarms_of_both_are_of_the_data() -> None:
    stage = {"max_alarms": 0}
    drift = record(1, "drift_auc")
    both = checked(stage, champion=(drift,), challenger=(drift,))["max_alarms"]
    assert both.state == "waits"
    assert both.text == "champion and challenger both have alarms (drift_auc): the data have changed, not the model"
    worse = checked(stage, champion=(drift,), challenger=(drift, record(2, "accuracy")))["max_alarms"]
    assert worse.state == "failed"
    assert checked(stage, champion=(drift,), challenger=(drift,), since=(1, 0))["max_alarms"].state == "failed"
