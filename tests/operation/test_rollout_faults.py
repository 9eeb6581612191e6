"""Faults of a roll-out: changed models, other watches, torn lines, clocks that jump, two calls at once."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from letsam.model_folder.manifest import write_manifest
from letsam.operation import rollout, shadow
from letsam.operation.rollout_log import RolloutDecision
from letsam.results import locked_folder
from rollout_cases import Rollout, call, diabetes, digits, killed_at


def test_models_that_were_changed_or_do_not_fit(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    shutil.copytree(digits() / "v2", tmp_path / "v3")
    found.write(challenger="v3")
    assert found.call()[0] == 3
    before = found.log
    card = tmp_path / "v3" / "model" / "README.md"
    card.write_text("other")
    assert found.error() == f"{card}: was changed after letsam wrote it (its hash is another)"
    manifest = tmp_path / "v3" / "model" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("letsam model 1", "letsam model 2"))
    assert "expected the format 'letsam model 1', got 'letsam model 2'" in found.error()
    found.write(challenger="v4")
    assert found.error() == f"{tmp_path / 'v4'}: expected the folder of a model, but there is none"
    found.write(challenger=str(diabetes() / "v1"))
    assert found.error().endswith(
        f"/v1/model: expected a model for classification, as {digits() / 'v1' / 'model'} is, got regression"
    )
    assert found.log == before
    shutil.rmtree(tmp_path / "v3")
    shutil.copytree(digits() / "v2", tmp_path / "v3")
    config = tmp_path / "v3" / "model" / "model.json"
    config.write_text(config.read_text().replace('"digit 9"', '"letter A"'))
    write_manifest(config.parent)
    found.write(challenger="v3", out="other")
    assert "expected the classes of" in found.error()
    assert "but only one of them has 'digit 9'" in found.error()


def test_expected_accuracies_are_of_classes(tmp_path: Path) -> None:
    found = Rollout(tmp_path, '[[stages]]\nshare = "50%"\nmin_samples = 9\nmax_expected_drop = 1.0\n')
    found.models = {name: str(diabetes() / version) for name, version in (("champion", "v1"), ("challenger", "v2"))}
    found.write()
    assert found.error().endswith("`max_expected_drop` needs models of classes, got models for regression")


def test_another_challenger_in_the_middle(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    assert found.call()[0] == 3
    found.write(challenger=str(digits() / "v1"))
    assert "plan-rollout: holds the roll-out with another challenger" in found.error()
    found.write(challenger=str(digits() / "v1"), out="other")
    assert call("rollout", found.plan)[0] == 3
    found.write(champion=str(digits() / "v2"))
    assert "plan-rollout: holds the roll-out with another champion" in found.error()
    found.write()
    found.watched("challenger", alarms=("loss",))
    assert found.call()[0] == 1
    found.write(challenger=str(digits() / "v1"))  # a new roll-out must not be taken for the one that has ended
    assert "plan-rollout: holds the roll-out with another challenger" in found.error()


def test_watches_and_comparisons_of_other_models(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("champion", model="f" * 64)
    message = (
        f"{tmp_path / 'w1' / 'watch.jsonl'}: batch 1 is of another model (ffffffffffff) than the champion of the plan"
    )
    assert found.error().startswith(message)
    (tmp_path / "w1" / "watch.jsonl").unlink()
    folder = digits()
    shadow(folder / "v2", folder / "v1", folder / "july.csv").save(tmp_path / "shadow")
    assert found.error() == (
        f"{tmp_path / 'shadow' / 'shadow.json'}: compares other models than the plan names; run letsam shadow again"
    )
    (tmp_path / "shadow" / "shadow.json").write_text("{}")
    assert "shadow.json: expected a report of letsam shadow" in found.error()
    shadow(folder / "v1", folder / "v2", folder / "july.csv", labels=True, metric="F1").save(tmp_path / "shadow")
    stages = '[[stages]]\nname = "shadow"\nshare = "0%"\nmax_drop = 1.0\n'
    other = Rollout(tmp_path, stages)
    assert "shadow.json: compares F1, expected accuracy; run letsam shadow with --metric 'accuracy'" in other.error()
    other = Rollout(tmp_path, 'metric = "F1"\n' + stages)
    assert call("rollout", other.plan)[0] in (0, 1, 3)


def test_a_watch_with_a_torn_line(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("challenger", samples=200)
    found.watched("challenger", samples=200)
    path = tmp_path / "w2" / "watch.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    status, made = found.call()
    assert (status, made["records"]) == (3, [0, 1])
    assert f"{path}: the last line is torn, as by a crash" in made["notes"]
    path.write_bytes(whole)
    assert found.call()[0] == 0
    path.write_bytes(b"{}\n" + whole)
    assert f"{path}: line 1 is no record of a watch" in found.error()
    path.write_bytes(whole.splitlines(keepends=True)[0])
    found.watched("challenger")
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]))
    assert found.error() == (
        "the watch of the challenger has 1 records, fewer than the 2 when the stage '100%' began: it was replaced"
    )
    path.write_bytes(b"")
    assert "has 0 records, fewer than the 2" in found.error()


def test_clocks_that_jump(tmp_path: Path) -> None:
    """Records count in their order. The clock decides on hours alone, and a jump of it is told."""
    stages = (
        '[[stages]]\nshare = "10%"\nmin_samples = 300\n[[stages]]\nshare = "100%"\nmin_hours = 24\nmax_alarms = 0\n'
    )
    found = Rollout(tmp_path, stages)
    found.watched("challenger", time="2099-01-01T00:00:00+00:00")
    found.watched("challenger", time="1999-01-01T00:00:00+00:00")
    status, passed = found.call(now="2030-01-02T00:00:00Z")
    assert status == 0
    assert passed["notes"][-1] == "1 records of the watches are of later than 2030-01-02T00:00:00Z: a clock has jumped"
    found.watched("challenger", time="1999-01-01T00:00:00+00:00")
    status, behind = found.call(now="2030-01-01T00:00:00Z")
    assert (status, behind["stage"]) == (3, "100%")
    assert behind["checks"][0]["text"] == "the stage lasts until 2030-01-03T00:00:00Z at least"
    text = "the clock is behind: it says 2030-01-01T00:00:00Z, and the last entry of the log 2030-01-02T00:00:00Z"
    assert text in behind["notes"]
    found.watched("challenger", time="1999-01-01T00:00:00+00:00", alarms=("loss",))
    assert found.call(now="2029-12-01T00:00:00Z")[0] == 1  # and an alarm still rolls back


def test_two_calls_at_once(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    with locked_folder(tmp_path / "plan-rollout"):
        assert "plan-rollout: process " in found.error()
        assert found.call("--stage", "10%")[0] == 3  # which writes nothing
    found.watched("challenger", samples=500)
    made: list[RolloutDecision] = []
    errors: list[str] = []

    def ask() -> None:
        try:
            made.append(rollout(found.plan, now="2030-01-01T00:00:00Z"))
        except ValueError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made
    assert {one.decision for one in made} == {"proceed"}
    assert all("writes to this folder" in text for text in errors)
    assert len(found.log) == 1


def test_a_log_that_was_changed(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.call()
    path = tmp_path / "plan-rollout" / "rollout.jsonl"
    line = path.read_text(encoding="utf-8")
    changes: list[tuple[str, Any]] = [
        ("format", "letsam rollout 9"),
        ("decision", "go on"),
        ("since", {}),
        ("records", [1]),
    ]
    for name, value in changes:
        path.write_text(json.dumps({**json.loads(line), name: value}) + "\n")
        assert f"{path}: line 1 is no decision of letsam rollout" in found.error()
    path.write_text(line + line[:50])
    assert f"{path}: line 2 is no decision of letsam rollout" in found.error()
    path.write_bytes(b"\xff")
    assert f"{path} cannot be read" in found.error()


def test_a_plan_that_was_changed_in_the_middle(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    found.watched("challenger", samples=200)
    assert found.call()[0] == 3
    found.stages = found.stages.replace("300", "200")
    found.write()
    status, made = found.call()
    assert (status, made["decision"]) == (0, "proceed")
    assert "the plan was changed since the last decision" in made["notes"]
    found.stages = found.stages.replace('"100%"', '"90%"')
    found.write()
    assert "has the stages 10%, 90%, got '100%'" in found.error()


def test_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    found = Rollout(tmp_path)
    first = found.call()
    found.watched("challenger", samples=500)
    assert killed_at(1, lambda: rollout(found.plan, now="2030-01-01T00:00:00Z"))
    assert found.log == [first[1]]
    status, made = found.call()
    assert (status, found.log) == (0, [first[1], made])
    assert sorted(path.name for path in (tmp_path / "plan-rollout").iterdir()) == ["rollout.jsonl"]


def test_nothing_is_lost_where_the_log_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Rollout(tmp_path)
    found.call()
    before = found.log
    found.watched("challenger", samples=500)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert "rollout.jsonl cannot be written: No space left on device; the earlier file is kept" in found.error()
    assert found.log == before
    assert found.call()[0] == 0
