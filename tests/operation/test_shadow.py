"""`letsam shadow` on real models: its numbers against the predictions, with labels and without."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

import letsam
from letsam.decision import matched_bounds
from letsam.operation import ShadowReport, shadow
from letsam.operation.model_pair import ModelPair
from rollout_cases import call, diabetes, digits, july


def answers(folder: Path, data: Any) -> tuple[list[str], list[str]]:
    return tuple(letsam.load(folder / name).predict(data).labels for name in ("v1", "v2"))  # type: ignore[return-value]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_without_labels(tmp_path: Path) -> None:
    folder = digits()
    bare = july(folder).drop(columns="target")
    bare.to_csv(tmp_path / "bare.csv", index=False)
    status, out, err = call("shadow", folder / "v1", folder / "v2", tmp_path / "bare.csv", "--out", tmp_path / "out")
    assert status == 0, err
    old, new = answers(folder, bare)
    differ = [i for i in range(497) if old[i] != new[i]]
    assert 5 < len(differ) < 150
    found = ShadowReport.load(tmp_path / "out" / "shadow.json")
    assert (found.differing, found.samples, found.labelled, found.gain) == (len(differ), 497, 0, None)
    exact = stats.binomtest(len(differ), 497).proportion_ci(0.9, "exact")
    assert found.disagreement.low == pytest.approx(exact.low)
    assert found.disagreement.high == pytest.approx(exact.high)
    assert found.most_change_metric == "accuracy"
    assert found.most_change.high == pytest.approx(100 * exact.high)
    assert f"different answers for {len(differ)} of 497 samples ({100 * len(differ) / 497:.2f} %)." in out
    assert f"differs by at most {100 * exact.high:.2f} points" in " ".join(out.split())
    assert "There are no labels" in out
    assert out.endswith(f"report: {tmp_path / 'out' / 'shadow.html'}\n")

    probabilities = [letsam.load(folder / name).predict(bare).probabilities.numpy() for name in ("v1", "v2")]
    distances = np.abs(probabilities[1] - probabilities[0]).sum(axis=1) / 2
    assert found.distance.value == pytest.approx(float(distances.mean()))
    assert (found.distance_high, found.distance_largest) == pytest.approx(
        (np.quantile(distances, 0.95), distances.max())
    )
    listed = rows(tmp_path / "out" / "differing.csv")
    assert [int(row["sample"]) for row in listed] == sorted(differ, key=lambda i: -distances[i])
    for row in listed:
        place = int(row["sample"])
        assert (row["champion"], row["challenger"]) == (old[place], new[place])
        assert float(row["confidence of champion"]) == pytest.approx(probabilities[0][place].max(), rel=1e-5)
        assert float(row["confidence of challenger"]) == pytest.approx(probabilities[1][place].max(), rel=1e-5)
        assert float(row["distance"]) == pytest.approx(distances[place], rel=1e-5)
        assert (row["label"], row["right"]) == ("", "")
    for one in found.by_class:
        mine = [i for i in range(497) if old[i] == one.name]
        assert (one.samples, one.differing) == (len(mine), sum(old[i] != new[i] for i in mine))
        if one.mostly is not None:
            counts = {name: sum(new[i] == name for i in mine) for name in set(new) - {one.name}}
            assert counts[one.mostly] == max(counts.values())
        assert one.labelled is None


def test_with_labels_for_some_rows(tmp_path: Path) -> None:
    folder, frame = digits(), july(digits())
    frame.loc[::3, "target"] = None
    frame.to_csv(tmp_path / "late.csv", index=False)
    arguments = ("shadow", folder / "v1", folder / "v2", tmp_path / "late.csv", "--labels", "--out", tmp_path / "out")
    status, out, err = call(*arguments)
    assert status == 0, err
    found = ShadowReport.load(tmp_path / "out" / "shadow.json")
    old, new = answers(folder, frame)
    truth = dict(frame["target"].dropna())
    assert found.labelled == len(truth) == 331
    better = sum(new[i] == name != old[i] for i, name in truth.items())
    worse = sum(old[i] == name != new[i] for i, name in truth.items())
    assert found.gain is not None
    assert (found.gain.metric, found.gain.better, found.gain.worse) == ("accuracy", better, worse)
    assert found.gain.gain == pytest.approx(100 * (better - worse) / 331)
    assert [found.gain.lower, found.gain.upper] == pytest.approx(
        [100 * b for b in matched_bounds(better, worse, 331, 0.05)]
    )
    assert abs(found.gain.gain) <= 100 * found.disagreement.value * 497 / 331  # what differs bounds what can be gained
    verdict = "The challenger is better" if found.gain.lower > 0 else "Which model is better is open"
    assert verdict in out
    for row in rows(tmp_path / "out" / "differing.csv"):
        place = int(row["sample"])
        assert row["label"] == truth.get(place, "")
        right = {old[place]: "champion", new[place]: "challenger"}.get(row["label"], "neither")
        assert row["right"] == (right if place in truth else "")
    for one in found.by_class:
        truly = [i for i, name in truth.items() if name == one.name]
        assert one.labelled == len(truly)
        assert one.champion_right == sum(old[i] == one.name for i in truly)
        assert one.challenger_right == sum(new[i] == one.name for i in truly)


@pytest.mark.parametrize("metric", ["balanced accuracy", "log loss", "F1", "AUROC"])
def test_another_metric(metric: str) -> None:
    folder, frame = digits(), july(digits())
    found = shadow(folder / "v1", folder / "v2", frame, labels=True, metric=metric).gain
    assert found is not None
    outputs = letsam.load(folder / "v2").predict(frame)
    place = {name: index for index, name in enumerate(outputs.names)}
    truth = [place[name] for name in frame["target"]]
    if metric == "balanced accuracy":
        assert found.new == pytest.approx(metrics.balanced_accuracy_score(truth, outputs.outputs.argmax(1)))
    if metric == "log loss":
        assert found.new == pytest.approx(metrics.log_loss(truth, outputs.probabilities.numpy()), rel=1e-5)
        assert found.gain == pytest.approx(found.old - found.new)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.gain < found.upper


def test_numbers_to_predict(tmp_path: Path) -> None:
    folder, frame = diabetes(), july(diabetes())
    arguments = ("shadow", folder / "v1", folder / "v2", folder / "july.csv", "--labels", "--out", tmp_path / "out")
    status, out, err = call(*arguments)
    assert status == 0, err
    found = ShadowReport.load(tmp_path / "out" / "shadow.json")
    old, new = (letsam.load(folder / name).predict(frame).outputs.double().numpy()[:, 0] for name in ("v1", "v2"))
    truth = frame["target"].to_numpy()
    apart = np.abs(new - old)
    assert found.differing is None
    assert found.disagreement.value == pytest.approx(apart.mean())
    half = stats.t.isf(0.05, 141) * apart.std(ddof=1) / math.sqrt(142)
    assert [found.disagreement.low, found.disagreement.high] == pytest.approx(
        [apart.mean() - half, apart.mean() + half]
    )
    assert found.mean_difference is not None
    assert found.mean_difference.value == pytest.approx((new - old).mean())
    rmse = [math.sqrt(((one - truth) ** 2).mean()) for one in (old, new)]
    assert found.gain is not None
    assert (found.gain.metric, found.gain.old, found.gain.new) == (
        "RMSE",
        *(pytest.approx(one, rel=1e-5) for one in rmse),
    )
    assert found.gain.gain == pytest.approx(rmse[0] - rmse[1], rel=1e-4)
    assert found.most_change_metric == "RMSE"
    assert found.most_change.value == pytest.approx(math.sqrt((apart**2).mean()))
    assert abs(rmse[0] - rmse[1]) <= found.most_change.value
    assert f"differ by {apart.mean():.4g} on average over 142 samples." in out
    (row,) = found.by_class
    assert (row.name, row.labelled) == ("target", 142)
    assert (row.champion_error, row.challenger_error) == pytest.approx(
        tuple(np.abs(one - truth).mean() for one in (old, new))
    )
    listed = rows(tmp_path / "out" / "differing.csv")
    assert [int(one["sample"]) for one in listed] == np.argsort(-apart, kind="stable").tolist()
    first = int(listed[0]["sample"])
    assert float(listed[0]["champion"]) == pytest.approx(old[first], rel=1e-5)
    closer = "champion" if abs(old[first] - truth[first]) < abs(new[first] - truth[first]) else "challenger"
    assert listed[0]["right"] == closer


def test_the_bound_without_labels_holds_whatever_the_labels_are() -> None:
    folder, frame = digits(), july(digits())
    for seed in range(3):
        labels = torch.randint(10, (497,), generator=torch.Generator().manual_seed(seed))
        found = shadow(folder / "v1", folder / "v2", frame, labels=labels)
        assert found.gain is not None
        assert abs(found.gain.gain) <= 100 * found.disagreement.value + 1e-9
    names = [f"digit {number}" for number in labels.tolist()]
    assert shadow(folder / "v1", folder / "v2", frame, labels=names).gain == found.gain


def test_a_model_agrees_with_itself(tmp_path: Path) -> None:
    folder = digits()
    found = shadow(folder / "v1", folder / "v1", folder / "july.csv", labels=True)
    assert (found.differing, found.differing_samples) == (0, ())
    assert found.distance_largest == 0
    assert found.gain is not None
    assert found.gain.gain == 0
    assert found.gain.lower == pytest.approx(-found.gain.upper)  # type: ignore[operator]
    assert found.gain.lower < 0  # of 497 samples none differs: that shows no more than half a point
    found.save(tmp_path / "out")
    page = (tmp_path / "out" / "shadow.html").read_text(encoding="utf-8")
    assert "The models give the same answer for all 497 samples." in page
    assert "There is none." in page


def test_classes_that_neither_model_knows(tmp_path: Path) -> None:
    folder, frame = digits(), july(digits())
    frame.loc[:9, "target"] = "letter A"
    frame.to_csv(tmp_path / "new.csv", index=False)
    found = shadow(folder / "v1", folder / "v2", str(tmp_path / "new.csv"), labels=True)
    assert found.unseen == {"letter A": 10}
    assert found.labelled == 497
    assert found.gain is not None
    assert found.gain.samples == 487
    found.save(tmp_path / "out")
    assert "letter A (10)" in (tmp_path / "out" / "shadow.html").read_text(encoding="utf-8")
    for one in found.differing_samples:
        if one.label == "letter A":
            assert one.right == "neither"


def test_progress_is_told() -> None:
    folder, told = digits(), list[tuple[str, int, int]]()
    pair = ModelPair.loaded(folder / "v1", folder / "v2")
    pair.outputs(july(folder), batch_size=200, progress=lambda *values: told.append(values))
    counts = (200, 400, 497)
    assert told == [(role, count, 497) for role in ("champion", "challenger") for count in counts]


def test_the_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = digits()
    made = shadow(folder / "v1", folder / "v2", folder / "july.csv", labels=True)
    made.save(tmp_path / "one")
    read = ShadowReport.load(tmp_path / "one" / "shadow.json")
    assert read.as_json() == made.as_json()
    read.save(tmp_path / "two")
    assert read.champion.fingerprint == letsam.load(folder / "v1").fingerprint
    assert (read.champion.method, read.champion.version, read.challenger.method) == ("sgd", 1, "sam")
    assert read.data["name"] == str(folder / "july.csv")
    text = (tmp_path / "one" / "shadow.json").read_text(encoding="utf-8")
    assert json.loads(text)["format"] == "letsam shadow 1"
    for wrong, reason in (
        ("[]", "expected a report of letsam shadow"),
        (text.replace("shadow 1", "shadow 9"), "got the format 'letsam shadow 9'"),
        (text[:-40], "expected a report of letsam shadow"),
        (text.replace('"level"', '"levels"'), "levels"),
    ):
        (tmp_path / "wrong.json").write_text(wrong)
        with pytest.raises(ValueError, match=reason) as caught:
            ShadowReport.load(tmp_path / "wrong.json")
        assert str(caught.value).startswith(f"{tmp_path / 'wrong.json'}: expected a report of letsam shadow")
        assert "\n" not in str(caught.value)
