"""`letsam rollout` from the first call to the last: what it says, what it logs, and what it says when called again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from letsam.operation import read_rollout, rollout, shadow
from rollout_cases import Rollout, call, digits


def test_a_roll_out_from_shadow_mode_to_the_end(tmp_path: Path) -> None:
    stages = """
[[stages]]
name = "shadow"
share = "0%"
min_samples = 400
max_disagreement = 20.0
max_drop = 1.0
[[stages]]
share = "10%"
min_samples = 300
max_alarms = 0
[[stages]]
share = "100%"
min_hours = 24
"""
    found = Rollout(tmp_path, stages)
    status, first = found.call()
    assert (status, first["decision"], first["stage"], first["share"]) == (3, "hold", "shadow", 0.0)
    assert [check["state"] for check in first["checks"]] == ["waits", "waits", "waits"]
    folder = digits()
    shadow(folder / "v1", folder / "v2", folder / "july.csv", labels=True).save(tmp_path / "shadow")
    status, second = found.call()
    assert (status, second["decision"], second["next_stage"], second["share"]) == (0, "proceed", "10%", 0.1)
    assert not second["complete"]
    found.watched("challenger", samples=200)
    status, third = found.call()
    assert (status, third["decision"], third["stage"], third["share"]) == (3, "hold", "10%", 0.1)
    found.watched("challenger", samples=200)
    status, fourth = found.call(now="2030-01-02T00:00:00Z")
    assert (status, fourth["decision"], fourth["share"]) == (0, "proceed", 1.0)
    status, fifth = found.call(now="2030-01-02T10:00:00Z")
    assert (status, fifth["decision"], fifth["next_stage"]) == (0, "proceed", "100%")  # nothing new: the same again
    found.watched("challenger")
    status, sixth = found.call(now="2030-01-02T10:00:00Z")
    assert (status, sixth["stage"]) == (3, "100%")
    assert sixth["checks"][0]["text"] == "the stage lasts until 2030-01-03T00:00:00Z at least"
    status, last = found.call(now="2030-01-03T00:00:00Z")
    assert (status, last["decision"], last["complete"], last["share"]) == (0, "proceed", True, 1.0)
    assert found.log == [first, second, third, fourth, sixth, last]
    assert [one.as_json() for one in read_rollout(tmp_path / "plan-rollout")] == found.log
    found.watched("challenger", alarms=("accuracy",))
    assert found.call(now="2031-01-01T00:00:00Z") == (0, last)  # it is over
    assert len(found.log) == 6


def test_the_same_inputs_give_the_same_answer(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    first = found.call()
    assert first[0] == 3
    for minute in range(1, 4):
        assert found.call(now=f"2030-01-01T00:0{minute}:00Z") == first
    found.watched("challenger", samples=500)
    passed = found.call(now="2030-01-01T01:00:00Z")
    assert passed[0] == 0
    for hour in range(2, 5):
        assert found.call(now=f"2030-01-01T0{hour}:00:00Z") == passed
    assert found.log == [first[1], passed[1]]
    found.watched("challenger", samples=10)
    status, after = found.call(now="2030-01-01T05:00:00Z")
    assert (status, after["stage"], after["since"]) == (
        3,
        "100%",
        {"time": passed[1]["time"], "champion": 0, "challenger": 1},
    )
    assert "10 of 300" in after["checks"][0]["text"]  # those of the stage before do not count


def test_an_alarm_rolls_back_for_good(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("challenger", samples=500)
    assert found.call()[0] == 0
    found.watched("challenger", samples=5, alarms=("accuracy",))
    status, back = found.call()
    assert (status, back["decision"], back["stage"], back["share"]) == (1, "roll back", "100%", 0.0)
    assert back["checks"][-1]["text"].endswith("the last in batch 2: accuracy has changed")
    found.watched("challenger", samples=5000)
    assert found.call() == (1, back)


def test_what_it_prints(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("challenger", samples=100)
    status, out, err = call("rollout", found.plan, "--now", "2030-01-01T00:00:00Z")
    lines = out.splitlines()
    assert status == 3
    assert lines[0] == "Hold: the challenger goes on with 10 %, in the stage '10%'."
    assert any(line.split()[:5] == ["min_samples", "waits", "100", "of", "300"] for line in lines)
    assert lines[-1] == "share of the challenger: 10 %"
    assert err == f"note: the watch of the champion has no records yet: {tmp_path / 'w1' / 'watch.jsonl'}\n"
    found.watched("challenger", samples=300)
    assert call("rollout", found.plan)[1].startswith(
        "Proceed: the stage '10%' is passed, the challenger serves 100 % from now on.\n"
    )
    found.watched("challenger", alarms=("loss",))
    assert call("rollout", found.plan)[1].startswith(
        "Roll back: the champion serves everything again. The stage '100%' has failed.\n"
    )
    other = Rollout(tmp_path, '[[stages]]\nshare = "100%"\nmin_samples = 1\n')
    other.write(out="other")
    assert call("rollout", other.plan)[1].startswith(
        "Proceed: the roll-out is complete, the challenger serves 100 %.\n"
    )


def test_a_stage_that_is_named_needs_no_log(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("challenger", samples=200, time="2030-01-01T00:00:00+00:00")
    found.watched("challenger", samples=200, time="2030-02-01T00:00:00+00:00", alarms=("loss",))
    found.watched("challenger", samples=200, time="2030-03-01T00:00:00+00:00")
    now = "2030-04-01T00:00:00Z"
    assert found.call("--stage", "10%", now=now)[0] == 1
    status, later = found.call("--stage", "10%", "--since", "2030-02-02", now=now)
    assert (status, later["since"]) == (3, {"time": "2030-02-02T00:00:00Z", "champion": 0, "challenger": 2})
    assert "200 of 300" in later["checks"][0]["text"]
    found.watched("challenger", samples=200, time="2030-03-02T00:00:00+00:00")
    status, more = found.call("--stage", "10%", "--since", "2030-02-02T00:00:00+01:00", now=now)
    assert (status, more["next_stage"]) == (0, "100%")
    assert found.call("--stage", "100%", "--since", "2030-02-02T00:00:00Z", now=now)[1]["complete"]
    assert found.log == []
    assert not (tmp_path / "plan-rollout").exists()
    made = rollout(found.plan, "10%", "2030-02-02", now=now)
    assert made.as_json() == found.call("--stage", "10%", "--since", "2030-02-02", now=now)[1]
    assert found.error("--stage", "1%").endswith("has the stages 10%, 100%, got '1%', did you mean '10%'?")
    assert found.error("--since", "2030-02-02") == (
        "`since` needs `stage`, as the log says when its stage began, got '2030-02-02'"
    )
    assert found.error("--stage", "10%", "--since", "May") == (
        "`since` must be a time such as 2030-01-31T12:00:00Z, got 'May'"
    )
    assert found.error("--now", "later") == "`now` must be a time such as 2030-01-31T12:00:00Z, got 'later'"


def test_the_metric_is_compared_with_the_champion(tmp_path: Path) -> None:
    stages = '[[stages]]\nshare = "50%"\nmin_samples = 300\nmax_drop = 2.0\n'
    found = Rollout(tmp_path, stages)
    for _ in range(8):
        found.watched("challenger", metrics={"accuracy": 0.93}, samples=300)
    status, waits = found.call()
    assert status == 3
    assert waits["checks"][-1]["text"] == "the first look at accuracy needs more samples: 300 of the champion"
    for _ in range(8):
        found.watched("champion", metrics={"accuracy": 0.90}, samples=300)
    status, passed = found.call()
    assert (status, passed["complete"]) == (0, True)
    assert (
        "look 4, with 2,400 samples of the challenger and 2,400 of the champion: the gain in accuracy is +3 points"
        in (passed["checks"][-1]["text"])
    )
    for name, status in (("w3", 1), ("w4", 3)):
        other = Rollout(tmp_path, stages)
        other.write(out=name)
        (tmp_path / "w2" / "watch.jsonl").unlink()
        for _ in range(8):
            other.watched("challenger", metrics={"accuracy": {"w3": 0.80, "w4": 0.89}[name]}, samples=300)
        assert other.call()[0] == status


def test_the_metric_of_the_plan(tmp_path: Path) -> None:
    stages = 'metric = "loss"\n[[stages]]\nshare = "50%"\nmin_samples = 300\nmax_drop = 0.1\n'
    found = Rollout(tmp_path, stages)
    found.watched("champion", metrics={"loss": 0.5}, samples=300)
    found.watched("challenger", metrics={"loss": 0.45}, samples=300)
    status, passed = found.call()
    assert status == 0
    assert "the gain in loss is +0.05, bounds +0.0217 and +0.0783; at least -0.1" in passed["checks"][-1]["text"]
    refused = {
        stages.replace("loss", "AUC"): "`metric` must be one of accuracy, balanced accuracy, F1, AUROC, log loss",
        stages.replace(
            "loss", "F1"
        ): "`metric` must be one that the watch of .*v1 measures, accuracy or loss, .* got F1$",
        stages.replace('"50%"', '"0%"'): "`metric` must be one that letsam shadow compares, got loss$",
    }
    for text, message in refused.items():
        other = Rollout(tmp_path, text)
        other.write(out="other")
        assert re.search(f"plan.toml: {message}", other.error())


def test_shares_are_those_that_keys_are_assigned_by(tmp_path: Path) -> None:
    """What a service does with the answer: nobody is moved back and forth."""
    from letsam.operation import assigned

    found = Rollout(tmp_path)
    served: list[set[int]] = []
    for samples in (10, 500, 500):
        share = found.call()[1]["share"]
        served.append({key for key in range(500) if assigned(key, share, "july")})
        found.watched("challenger", samples=samples)
    served.append({key for key in range(500) if assigned(key, found.call()[1]["share"], "july")})
    assert served[0] == served[1] < served[2] == set(range(500))
    assert served[3] == served[2]


@pytest.mark.parametrize("text", ["decision", "stage", "share", "checks", "time"])
def test_the_json_has_what_a_scheduler_needs(tmp_path: Path, text: str) -> None:
    status, out, _ = call("rollout", Rollout(tmp_path).plan, "--json")
    assert text in json.loads(out)
    assert status == 3
