"""`letsam watch` from end to end: real digits, month by month, until their pixels change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import letsam
from letsam.operation import Watch, read_watch
from watch_cases import batch, noisy, numbers


def test_a_watch_from_quiet_to_alarm(digits: Path, letsam_run: Any, real_page: None) -> None:
    for number in range(2):
        batch(number).drop(columns="target").to_csv(f"m{number}.csv", index=False)
        status, out, err = letsam_run("watch", "out", f"m{number}.csv")
        assert (status, err) == (0, ""), out
        assert out.splitlines()[0].strip() == f"batch {number + 1}: m{number}.csv, 120 samples, without labels"
        assert out.splitlines()[-2:] == ["no alarm", f"watch: {Path('out/model-watch/watch.html')}"]
    batch(0).to_csv("m0.csv", index=False)
    status, out, err = letsam_run("watch", "out", "m0.csv", "--labels")  # the labels of the first month arrive
    assert (status, err) == (0, "")
    assert "note: the inputs were measured as batch 1; these are their labels" in out
    noisy(batch(2), 1.5).to_csv("m2.csv", index=False)
    status, out, err = letsam_run("watch", "out", "m2.csv", "--labels")
    assert (status, err) == (1, "")
    records = read_watch("out/model-watch")
    for name in ("drift_auc", "feature_drift", "embedding_distance", "expected_accuracy", "accuracy"):
        assert f"alarm: {name}: " in out
    assert "note: the inputs have changed: the expected accuracy is then often far too high" in out
    assert "not valid here" in next(line for line in out.splitlines() if line.strip().startswith("expected accuracy"))
    expected = next(alarm.message for alarm in records[-1].alarms if alarm.code == "expected_accuracy")
    assert f"expected accuracy is {numbers(records[-1])['expected_accuracy']:.3g}; held-out data" in expected
    assert {alarm.code for alarm in records[-1].alarms} >= {"drift_auc", "accuracy", "generalization_gap"}
    assert [record.batch for record in records] == [1, 2, 3, 4]
    assert [record.alarmed for record in records] == [False, False, False, True]
    assert [record.labelled for record in records] == [False, False, True, True]
    drift = {"drift_auc", "feature_drift", "embedding_distance", "expected_accuracy"}
    labelled = {"accuracy", "loss", "generalization_gap", "sharpness"}
    assert [set(record.metrics) for record in records] == [drift, drift, labelled, drift | labelled]
    page = Path("out/model-watch/watch.html").read_text()
    assert "alarms in batch 4" in page
    assert records[-1].alarms[0].message.split(";")[0] in page


def test_the_numbers_are_those_of_the_model(digits: Path, letsam_run: Any) -> None:
    data = batch(3)
    data.to_csv("m.csv", index=False)
    assert letsam_run("watch", "out", "m.csv", "--labels", "--out", "w")[0] == 0
    (record,) = read_watch("w")
    model = letsam.load("out")
    found, table = numbers(record), model.predict(data)
    assert found["accuracy"] == np.mean([a == b for a, b in zip(table.labels, data["target"], strict=True)])
    places = [model.classes.index(name) for name in data["target"]]
    loss = -np.log(table.probabilities.numpy()[range(len(places)), places]).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["generalization_gap"] == pytest.approx(loss - model.results.runs[0].train_loss, rel=1e-5)
    for one in record.metrics.values():
        assert one.low <= one.value <= one.high
    assert record.metrics["accuracy"].low < found["accuracy"]
    content = json.loads(Path("w/watch.jsonl").read_text())
    assert content["format"] == "letsam watch 1"
    assert content["model"] == model.fingerprint
    assert content["data"]["name"] == "m.csv"
    assert (content["data"]["samples"], content["data"]["labels"]) == (120, 120)


def test_a_batch_that_comes_again_is_not_counted_twice(digits: Path, letsam_run: Any) -> None:
    data = batch(0)
    data.to_csv("m.csv", index=False)
    assert letsam_run("watch", "out", "m.csv", "--labels")[0] == 0
    before = Path("out/model-watch/watch.jsonl").read_bytes()
    data.sample(frac=1.0, random_state=1).to_csv("shuffled.csv", index=False)
    data.drop(columns="target").to_csv("without.csv", index=False)
    for arguments in (("m.csv", "--labels"), ("m.csv",), ("shuffled.csv", "--labels"), ("without.csv",)):
        Path("out/model-watch/watch.html").unlink()
        status, out, err = letsam_run("watch", "out", *arguments)
        assert (status, err) == (0, "note: this batch was watched already, as batch 1; nothing is added\n")
        assert "batch 1: m.csv" in out
        assert Path("out/model-watch/watch.jsonl").read_bytes() == before
        assert Path("out/model-watch/watch.html").is_file()


def test_some_labels_are_missing(digits: Path, letsam_run: Any) -> None:
    data = batch(1)
    data.loc[30:, "target"] = None
    data.to_csv("m.csv", index=False)
    status, out, _ = letsam_run("watch", "out", "m.csv", "--labels")
    assert status == 0
    assert "120 samples, 30 with labels" in out
    assert "note: sharpness is not measured: it needs 64 samples with labels" in out
    (record,) = read_watch("out/model-watch")
    predicted = letsam.load("out").predict(data).labels[:30]
    assert numbers(record)["accuracy"] == np.mean([a == b for a, b in zip(predicted, data["target"][:30], strict=True)])


def test_a_class_that_was_never_seen_is_an_alarm(digits: Path, letsam_run: Any) -> None:
    data = batch(1)
    data.loc[:5, "target"] = "x1"
    data.loc[6:8, "target"] = "x2"
    data.to_csv("m.csv", index=False)
    status, out, _ = letsam_run("watch", "out", "m.csv", "--labels")
    assert status == 1
    assert "alarm: new_classes: 120 labels have 2 classes that the training data do not have: 'x1', 'x2'" in out
    (record,) = read_watch("out/model-watch")
    right = [a == b for a, b in zip(letsam.load("out").predict(data).labels, data["target"], strict=True)]
    assert numbers(record)["accuracy"] == np.mean(right)  # they count as errors
    assert np.isfinite(numbers(record)["loss"])


def test_the_help_has_an_example(digits: Path, letsam_run: Any) -> None:
    status, out, _ = letsam_run("watch", "--help")
    assert status == 0
    assert "Examples: letsam watch runs/patients july.csv" in " ".join(out.split())


def test_progress_and_an_interruption(digits: Path, letsam_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    watched = Watch(digits, "w", batch_size=50)
    watched.observe(batch(0), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(50, 120), (100, 120), (120, 120)]

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched.observe(batch(1), progress=interrupted)
    assert len(read_watch("w")) == 1
    assert watched.observe(batch(1)).batch == 2
