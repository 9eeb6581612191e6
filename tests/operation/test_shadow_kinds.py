"""Shadow mode for images, several labels, several numbers and models of tasks in code; how the page looks."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch import nn

import letsam
from letsam.model_folder.model_places import set_current, version_name
from letsam.operation import ShadowReport, shadow
from reports.browser import Opened, chromium
from rollout_cases import call, diabetes, digits, july, train


def test_images_have_names(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("new", 8)):
        for level, name in enumerate(("dark", "light")):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 200, (8, 8), dtype=np.uint8) + np.uint8(40 * level)
                Image.fromarray(pixels).save(tmp_path / part / name / f"={index}.png")
    for name, epochs in (("v1", 1), ("v2", 4)):
        options = ("--method", "sgd", "--epochs", str(epochs), "--seed", str(epochs))
        train(tmp_path / "train", tmp_path / name, *options, target=None)
    arguments = (tmp_path / "v1", tmp_path / "v2", tmp_path / "new", "--labels")
    status, _, err = call("shadow", *arguments)
    assert status == 0, err
    with (tmp_path / "v2" / "model-shadow" / "differing.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row["sample"].startswith(row["label"] + "/=")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (tmp_path / "new").rglob("*.png"):
        path.rename(flat / path.name.replace("=", f"=={path.parent.name}"))
    found = shadow(tmp_path / "v1", tmp_path / "v2", flat)
    assert found.labelled == 0
    assert len(found.differing_samples) == len(rows)
    found.save(tmp_path / "flat-out")
    with (tmp_path / "flat-out" / "differing.csv").open(newline="") as file:
        assert all(row["sample"].startswith("'==") for row in csv.DictReader(file))  # no formula of a spreadsheet


def labelled_frame(rows: int) -> pandas.DataFrame:
    inputs = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))
    frame = pandas.DataFrame(inputs.numpy(), columns=list("abc"))
    frame["target"] = [
        "|".join(n for n, x in zip(("warm", "wet"), row, strict=False) if x > 0) for row in inputs.tolist()
    ]
    return frame


def test_several_labels(tmp_path: Path) -> None:
    labelled_frame(160).to_csv(tmp_path / "train.csv", index=False)
    for name, epochs in (("v1", "1"), ("v2", "3")):
        train(tmp_path / "train.csv", tmp_path / name, "--kind", "multilabel", "--method", "sgd", "--epochs", epochs)
    frame = labelled_frame(90)
    found = shadow(tmp_path / "v1", tmp_path / "v2", frame, labels=True, metric="exact match")
    old, new = (letsam.load(tmp_path / name).predict(frame) for name in ("v1", "v2"))
    assert found.differing == sum(a != b for a, b in zip(old.labels, new.labels, strict=True)) > 0
    for one, column in zip(found.by_class, range(2), strict=True):
        answers = [table.outputs[:, column] > 0 for table in (old, new)]
        assert one.differing == int((answers[0] != answers[1]).sum())
        truth = torch.tensor([one.name in cell.split("|") for cell in frame["target"]])
        assert (one.champion_right, one.challenger_right) == tuple(int((a == truth).sum()) for a in answers)
    first = found.differing_samples[0]
    place = int(first.name)
    assert first.answers == (old.labels[place], new.labels[place])
    assert first.label == frame["target"][place].replace("|", ";")
    assert found.distance_largest == pytest.approx(float((old.probabilities - new.probabilities).abs().mean(1).max()))
    assert found.gain is not None
    right = [
        np.mean([a == t.replace("|", ";") for a, t in zip(t.labels, frame["target"], strict=True)]) for t in (old, new)
    ]
    assert (found.gain.old, found.gain.new) == pytest.approx(tuple(right))
    assert found.most_change_metric == "exact match"
    assert found.most_change.high is not None
    assert abs(found.gain.gain) <= found.most_change.high


def test_several_numbers(tmp_path: Path) -> None:
    frame = july(diabetes())
    frame["other"] = 100 * frame["bmi"] + frame["target"] / 100
    frame[:100].to_csv(tmp_path / "train.csv", index=False)
    for name, epochs in (("v1", "1"), ("v2", "3")):
        options = ("--method", "sgd", "--epochs", epochs)
        train(tmp_path / "train.csv", tmp_path / name, *options, target="target,other")
    found = shadow(tmp_path / "v1", tmp_path / "v2", frame[100:].reset_index(drop=True), labels=True)
    old, new = (
        letsam.load(tmp_path / n).predict(frame[100:].reset_index(drop=True)).outputs.double() for n in ("v1", "v2")
    )
    assert [one.name for one in found.by_class] == ["target", "other"]
    assert [one.disagreement.value for one in found.by_class] == pytest.approx((new - old).abs().mean(0).tolist())
    scaled = ((new - old).abs() / old.std(0, correction=0)).mean(1)
    assert [int(one.name) for one in found.differing_samples[:5]] == scaled.argsort(descending=True)[:5].tolist()
    roots = (new - old).square().mean(0).sqrt().mean()
    assert found.most_change.value == pytest.approx(float(roots))


def test_the_order_of_the_classes_does_not_matter() -> None:
    folder, frame = digits(), july(digits())
    plain = shadow(folder / "v1", folder / "v2", frame, labels=True)
    model = letsam.load(folder / "v2")
    order = list(reversed(range(10)))

    class Turned(nn.Module):
        def forward(self, inputs: Any) -> Any:
            return model.model(inputs)[:, order]

    turned = dataclasses.replace(model, model=Turned().eval(), classes=tuple(reversed(model.classes)))
    found = shadow(folder / "v1", turned, frame, labels=True)
    assert dataclasses.replace(found, time="") == dataclasses.replace(plain, time="")


def test_versions_of_a_model(tmp_path: Path) -> None:
    for number, name in ((1, "v1"), (2, "v2")):
        shutil.copytree(digits() / name / "model", tmp_path / "versions" / version_name(number))
    set_current(tmp_path / "versions", tmp_path / "versions" / "v0001")
    data = digits() / "july.csv"
    status, out, err = call("shadow", tmp_path / "versions", tmp_path / "versions" / "v0002", data)
    assert status == 0, err
    assert out.endswith(f"report: {tmp_path / 'versions' / 'v0002-shadow' / 'shadow.html'}\n")
    found = ShadowReport.load(tmp_path / "versions" / "v0002-shadow" / "shadow.json")
    assert found.champion.folder == str(tmp_path / "versions" / "v0001")
    (tmp_path / "plan.toml").write_text(
        'champion = "versions/v0001"\nchallenger = "versions/v0002"\n[[stages]]\nshare = "0%"\nmin_samples = 400\n'
    )
    assert call("rollout", tmp_path / "plan.toml")[0] == 0


def test_models_of_tasks_in_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, epochs in (("v1", "1"), ("v2", "2")):
        train("digits", name, "--train-size", "300", "--method", "sgd", "--epochs", epochs, target=None)
    inputs = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 10
    found = shadow("v1", "v2", inputs, labels=labels)
    assert found.gain is not None
    assert found.gain.samples == 60
    assert found.data == {"name": "`data` (Tensor)", "fingerprint": None, "samples": 60}
    with pytest.raises(
        TypeError, match=r"^`data`: the model of the task 'digits', which is no file of data, has none$"
    ):
        shadow("v1", "v2", inputs, labels=True)
    status, _, err = call("shadow", "v1", "v2", "new.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "the model of the task 'digits', which is no file of data, takes none" in err


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    pages = []
    for name, folder in (("classes", digits()), ("numbers", diabetes())):
        shadow(folder / "v1", folder / "v2", folder / "july.csv", labels=True).save(tmp_path / name)
        pages.append(tmp_path / name / "shadow.html")
    with chromium() as browser:
        for path in pages:
            for theme in ("light", "dark"):
                for width in (1280, 360):
                    opened = Opened(browser, path, width, color_scheme=theme, java_script_enabled=False)
                    assert opened.width() <= width
                    assert opened.problems == []
                    assert opened.requests == [path.as_uri()]
                    assert opened.page.locator("h2").count() >= 3
