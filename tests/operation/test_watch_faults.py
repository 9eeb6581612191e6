"""Bad input and faults of a watch: a clear line and exit status 2, or the right result, and nothing lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import letsam
from letsam.data import DataError
from letsam.operation import Watch, WatchError, read_watch, watch
from watch_cases import batch, noisy, numbers


def check(found: tuple[int, str, str], message: str) -> None:
    status, out, err = found
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err, err


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_data_that_do_not_fit(digits: Path, letsam_run: Any) -> None:
    good = batch(0)
    good.to_csv("good.csv", index=False)
    good.drop(columns="pixel_3_4").to_csv("lacking.csv", index=False)
    good.assign(pixel_3_4="dark").to_csv("texts.csv", index=False)
    good[:0].to_csv("empty.csv", index=False)
    Path("nothing.csv").write_text("")
    good.drop(columns="target").to_csv("unlabelled.csv", index=False)
    good.assign(target="cat").to_csv("cats.csv", index=False)
    good.assign(target=None).to_csv("none.csv", index=False)
    assert letsam_run("watch", "out", "good.csv")[0] == 0
    before = state_of(digits)
    for arguments, message in {
        ("lacking.csv",): "expected the columns of the training data, got none of the name 'pixel_3_4'",
        ("texts.csv",): "expected numbers in 'pixel_3_4', got 'dark'",
        ("empty.csv",): "empty.csv: expected a table with a header and rows, got no rows",
        ("nothing.csv",): "nothing.csv: expected a table with a header and rows, got an empty file",
        ("nowhere.csv",): "nowhere.csv: expected a table, but there is no such file",
        ("unlabelled.csv", "--labels"): "expected the target 'target' of the training data, got the columns",
        ("cats.csv", "--labels"): "expected classes such as d0, d1, d2, d3, d4 and 5 more, got others alone: cat",
        ("none.csv", "--labels"): "none.csv: expected at least one sample with a target, got none",
        ("good.csv", "--false-alarm-rate", "1.5"): "`false_alarm_rate` must be between 0 and 1, got 1.5",
        ("good.csv", "--batch-size", "0"): "`batch_size` must be",
        ("good.csv", "--device", "tpu"): "`device` must be one of cpu, cuda, mps",
        ("good.csv", "--log", "paper"): "`log` must be of tensorboard, csv, mlflow, wandb",
    }.items():
        check(letsam_run("watch", "out", *arguments), message)
        assert state_of(digits) == before, arguments
    good.assign(extra=1).to_csv("more.csv", index=False)  # a further column does no harm: it is the same batch
    assert letsam_run("watch", "out", "more.csv")[2] == (
        "note: this batch was watched already, as batch 1; nothing is added\n"
    )


def test_a_model_that_was_changed_or_is_another_one(digits: Path, letsam_run: Any) -> None:
    batch(0).to_csv("good.csv", index=False)
    shutil.copytree(digits / "model", "old")
    assert letsam_run("watch", "old", "good.csv", "--out", "w")[0] == 0
    before = state_of(Path("w"))
    weights = digits / "model" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    check(letsam_run("watch", "out", "good.csv"), "weights.safetensors: was changed after letsam wrote it")
    assert not (digits / "model-watch").exists()
    manifest = json.loads(Path("old/manifest.json").read_text())
    Path("old/manifest.json").write_text(json.dumps({**manifest, "format": "letsam model 2"}))
    check(
        letsam_run("watch", "old", "good.csv", "--out", "w"),
        "expected the format 'letsam model 1', got 'letsam model 2'",
    )
    Path("old/manifest.json").write_text(json.dumps(manifest, indent=2))  # a model with other bytes
    message = "w: holds the watch of another model"
    check(letsam_run("watch", "old", "good.csv", "--out", "w"), message)
    check(letsam_run("watch", "nowhere", "good.csv"), "nowhere: expected the folder of a model, but there is none")
    assert state_of(Path("w")) == before


def test_a_model_without_a_reference(digits: Path, letsam_run: Any) -> None:
    """As an older letsam has written it."""
    for name in ("reference.json", "reference.safetensors"):
        (digits / "model" / name).unlink()
    path = digits / "model" / "manifest.json"
    content = json.loads(path.read_text())
    content["sha256"] = {name: value for name, value in content["sha256"].items() if "reference" not in name}
    path.write_text(json.dumps(content))
    batch(0).to_csv("m.csv", index=False)
    check(letsam_run("watch", "out", "m.csv"), "model: has no reference.json, as an older letsam wrote it")
    known = pandas.concat([batch(4), batch(5), batch(6)])
    known.to_csv("known.csv", index=False)
    check(letsam_run("watch", "out", "m.csv", "--reference", "nowhere.csv"), "nowhere.csv")
    assert not (digits / "model-watch").exists()
    for _ in range(2):  # a scheduler gives it each time
        status, out, _ = letsam_run("watch", "out", "m.csv", "--labels", "--reference", "known.csv")
        assert status == 0
        assert {"accuracy", "generalization", "sharpness"} <= {
            line.split()[0] for line in out.splitlines() if line[1:2]
        }
    assert letsam_run("watch", "out", "m.csv")[0] == 0  # it is kept
    (record,) = read_watch("out/model-watch")
    model = letsam.load("out")
    right = [a == b for a, b in zip(model.predict(known).labels, known["target"], strict=True)]
    assert record.tests["accuracy"]["expected"] == pytest.approx(np.mean(right))
    batch(1).to_csv("other.csv", index=False)
    message = "the watch has begun with another reference; choose another --out"
    check(letsam_run("watch", "out", "m.csv", "--reference", "other.csv"), message)


def test_a_rate_is_that_of_the_whole_watch(digits: Path, letsam_run: Any) -> None:
    for number in range(3):
        batch(number).to_csv(f"m{number}.csv", index=False)
    assert letsam_run("watch", "out", "m0.csv", "--false-alarm-rate", "0.2")[0] == 0
    assert letsam_run("watch", "out", "m1.csv")[0] == 0
    message = "the watch has begun with a false alarm rate of 0.2, got 0.1; choose another --out"
    check(letsam_run("watch", "out", "m2.csv", "--false-alarm-rate", "0.1"), message)
    first, second = read_watch("out/model-watch")
    levels = [record.tests["drift_auc"]["level"] for record in (first, second)]
    assert levels == pytest.approx([0.2 / 7 / 2, 0.2 / 7 / 6])


def test_two_watchers_of_one_folder(digits: Path, letsam_run: Any) -> None:
    batch(0).to_csv("m.csv", index=False)
    code = "import sys, time, pathlib; from letsam.results import locked_folder\n"
    code += "with locked_folder(pathlib.Path('w')): print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        check(letsam_run("watch", "out", "m.csv", "--out", "w"), f"process {other.pid} on")
        assert not Path("w/watch.jsonl").exists()
        other.send_signal(signal.SIGKILL)
    assert letsam_run("watch", "out", "m.csv", "--out", "w")[0] == 0  # the lock ends with its process


def test_a_process_that_is_killed_loses_nothing(digits: Path, letsam_run: Any) -> None:
    for number in range(2):
        batch(number).to_csv(f"m{number}.csv", index=False)
    assert letsam_run("watch", "out", "m0.csv")[0] == 0
    before = read_watch("out/model-watch")
    for delay in (0.5, 2.5, 4.0):
        command = [sys.executable, "-m", "letsam", "watch", "out", "m1.csv"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        known = read_watch("out/model-watch")
        assert known[0] == before[0]
        assert len(known) <= 2
    assert letsam_run("watch", "out", "m1.csv")[0] == 0
    assert [record.batch for record in read_watch("out/model-watch")] == [1, 2]


def test_a_page_that_cannot_be_written_hides_no_alarm(
    digits: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the record is there, and the exit status is that of its alarms."""

    def full(*arguments: object) -> None:
        raise OSError("w/watch.html cannot be written: No space left on device; nothing is written")

    monkeypatch.setattr("letsam.operation.watch_page.write_watch_page", full)
    noisy(batch(0), 2.0).to_csv("m.csv", index=False)
    status, out, err = letsam_run("watch", "out", "m.csv", "--labels", "--out", "w")
    assert status == 1
    assert "alarm: accuracy: " in out
    assert "warning: the record is written, but not the page: w/watch.html cannot be written: No space left" in err
    assert [record.alarmed for record in read_watch("w")] == [True]


def test_a_clock_that_jumps(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime(2030, 5, 1, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now[0]

    with monkeypatch.context() as patch:
        patch.setattr(watch, "datetime", Clock)
        watched = Watch(digits, "jumping")
        for number, days in enumerate((0, 3650, -3650, -1)):
            now[0] += timedelta(days=days)
            watched.observe(batch(number)[:40])
    records = read_watch("jumping")
    assert [record.batch for record in records] == [1, 2, 3, 4]
    behind = [
        "the clock is behind that of an earlier record; the order of the records counts" in r.notes for r in records
    ]
    assert behind == [False, False, True, True]
    straight = Watch(digits, "straight")
    for number in range(4):
        straight.observe(batch(number)[:40])
    assert [r.state for r in read_watch("straight")] == [r.state for r in records]


def test_labels_in_memory(digits: Path) -> None:
    data, watched = batch(0), Watch(digits, "w")
    names = list(data["target"])
    model = watched.model
    for wrong, message in {
        (*names[:-1],): "`labels`: expected one for each of 120 samples, got 119",
        (*["cat"] * 120,): "`labels`: expected classes such as d0",
        (*[None] * 120,): "`labels`: expected at least one that is known, got none",
    }.items():
        with pytest.raises(DataError, match=message):
            watched.observe(data, wrong)
    with pytest.raises(TypeError, match="`labels` must be True, a tensor or a sequence, got int"):
        watched.observe(data, 3)
    with pytest.raises(DataError, match="`labels` must be numbers of classes from 0"):
        watched.observe(data, torch.full((120,), 0.5))
    with pytest.raises(DataError, match="expected at least one sample, got none"):
        watched.observe(torch.empty(0, 60))
    with pytest.raises(DataError, match="`data`: expected inputs as the model was trained on, got others"):
        watched.observe(torch.zeros(30, 7))
    assert watched.records == ()
    by_name = watched.observe(data, [*names[:100], *[None] * 20])
    assert by_name.data["labels"] == 100
    with model.inputs(data) as inputs:
        rows: Any = torch.stack([inputs[place] for place in range(120)])  # type: ignore[index]
    other = Watch(digits, "v")
    by_number = other.observe(rows, torch.tensor([model.classes.index(name) for name in names]))
    predicted = model.predict(data).labels
    assert numbers(by_number)["accuracy"] == np.mean([a == b for a, b in zip(predicted, names, strict=True)])
    assert by_number.data["fingerprint"] == by_name.data["fingerprint"]
    new = other.observe(rows + 0.01, torch.tensor([12, 30, *[0] * 118]))
    assert [alarm.message for alarm in new.alarms if alarm.code == "new_classes"] == [
        "120 labels have 2 classes that the training data do not have: '12', '30'"
    ]


def test_few_samples(digits: Path) -> None:
    record = Watch(digits, "w").observe(batch(0)[:5], True)
    assert set(record.metrics) >= {"accuracy", "loss", "expected_accuracy"}
    assert "drift_auc" not in record.metrics
    assert set(record.tests) == {"expected_accuracy"}
    assert "drift is not tested: 20 samples are needed, got 5" in record.notes
    assert "nothing is tested with labels: 10 of them are needed, got 5" in record.notes


def test_a_damaged_record_is_refused(digits: Path, letsam_run: Any) -> None:
    batch(0).to_csv("m.csv", index=False)
    assert letsam_run("watch", "out", "m.csv", "--out", "w")[0] == 0
    content = json.loads(Path("w/watch.jsonl").read_text())
    content["state"] = {"rate": 0.05}
    Path("w/watch.jsonl").write_text(json.dumps(content) + "\n")
    check(letsam_run("watch", "out", "m.csv", "--out", "w"), "watch.jsonl: expected the state of a watch")
    with pytest.raises(WatchError, match="expected the state of a watch"):
        Watch(digits, "w")
