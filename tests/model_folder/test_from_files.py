"""Models of files of data: `letsam predict` and `letsam.load` give for the test file what the run has measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_wine

import letsam
from letsam.cli import run
from letsam.data import DataError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (run(arguments), *capsys.readouterr())

    return call


def divided(frame: pandas.DataFrame) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    shuffled = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    shuffled[:-40].to_csv("train.csv", index=False)
    shuffled[-40:].to_csv("test.csv", index=False)
    return shuffled[:-40], shuffled[-40:].reset_index(drop=True)


def table(name: str) -> list[list[str]]:
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


TRAIN = ("--test", "test.csv", "--method", "lets-sam", "--epochs", "3", "--out", "out")


def test_a_table_of_classes(here: Path, letsam_run: Any) -> None:
    wine = load_wine(as_frame=True).frame
    wine["target"] = wine["target"].map({0: "Barolo", 1: "Grignolino, old", 2: "Barbera"})
    wine["region"] = (wine["alcohol"] > 13).map({True: "north", False: "south"})
    _, test = divided(wine)
    assert letsam_run("train", "train.csv", "--target", "target", *TRAIN)[0] == 0
    status, out, err = letsam_run("predict", "out", "test.csv", "--out", "p.csv")
    assert (status, out, err) == (0, "40 predictions: p.csv\n", "")
    head, *rows = table("p.csv")
    assert head[:2] == ["sample", "prediction"]
    assert head[2:] == [f"probability of {name}" for name in ("Barbera", "Barolo", "Grignolino, old")]
    model = letsam.load("out")
    right = [row[1] == wanted for row, wanted in zip(rows, test["target"], strict=True)]
    assert sum(right) / 40 == pytest.approx(model.results.runs[0].metrics["accuracy"])
    assert sum(right) / 40 > 0.5

    for data in (test, test.drop(columns="target"), "test.csv", Path("test.csv")):
        assert model.predict(data).labels == [row[1] for row in rows]
    message = "^`data`: expected the columns of the training data, got none of the name 'hue'$"
    with pytest.raises(DataError, match=message):
        model.predict(test.drop(columns="hue"))
    test.drop(columns="hue").to_csv("other.csv", index=False)
    status, out, err = letsam_run("predict", "out", "other.csv")
    assert (status, out) == (2, "")
    assert err.startswith("error: other.csv: expected the columns of the training data, got none of the name 'hue'")
    assert err.count("\n") == 1
    assert not Path("predictions.csv").exists()
    assert letsam_run("predict", "out", "nowhere.csv")[0] == 2
    with pytest.raises(TypeError, match=r"`data` must be a path, a DataFrame, .* got int"):
        model.predict(3)


def test_a_table_of_numbers_with_weights(here: Path, letsam_run: Any) -> None:
    frame = load_diabetes(as_frame=True).frame
    frame["importance"] = 1 + (frame["bmi"] > 0)
    _, test = divided(frame)
    command = ("train", "train.csv", "--target", "target", "--weight", "importance", *TRAIN)
    assert letsam_run(*command)[0] == 0
    model = letsam.load("out")
    predicted = model.predict("test.csv")
    assert next(iter(predicted.rows())) == ["sample", "target"]
    errors = predicted.outputs.flatten().double() - torch.tensor(test["target"].to_numpy())
    weights = torch.tensor(test["importance"].to_numpy())
    rmse = math.sqrt(float((weights * errors.square()).sum() / weights.sum()))
    assert rmse == pytest.approx(model.results.runs[0].metrics["RMSE"], rel=1e-5)
    assert model.config["network"]["rescaled"]["mean"] == pytest.approx([frame["target"].mean()], rel=0.1)


def test_several_labels(here: Path, letsam_run: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(160, 4, generator=generator)
    frame = pandas.DataFrame(inputs.numpy(), columns=list("abcd"))
    frame["warm"], frame["wet"] = (inputs[:, 0] > 0).int().numpy(), (inputs[:, 1] > 0).int().numpy()
    _, test = divided(frame)
    assert letsam_run("train", "train.csv", "--target", "warm,wet", *TRAIN)[0] == 0
    model = letsam.load("out")
    predicted = model.predict("test.csv")
    assert predicted.kind == "multilabel"
    assert predicted.names == ("warm", "wet")
    shown = [set(label.split(";")) - {""} for label in predicted.labels]
    wanted = test[["warm", "wet"]].to_numpy()
    targets = torch.tensor(wanted).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(predicted.outputs, targets)
    assert float(loss) == pytest.approx(model.results.runs[0].test_loss, rel=1e-5)
    right = [("warm" in s) == w[0] and ("wet" in s) == w[1] for s, w in zip(shown, wanted, strict=True)]
    assert sum(right) > 20


@pytest.mark.slow
def test_a_folder_of_images(here: Path, letsam_run: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 20), ("test", 6)):
        for number, name in enumerate(("dark", "light")):
            (here / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(120 * number, 120 * number + 100, (12, 12, 3), generator=generator)
                Image.fromarray(pixels.byte().numpy()).save(here / part / name / f"{index}.png")
    arguments = ("--test", "test", "--method", "sam", "--epochs", "8", "--out", "out", "--export", "torch")
    assert letsam_run("train", "train", *arguments)[0] == 0
    assert letsam_run("predict", "out", "test", "--out", "p.csv")[0] == 0
    rows = table("p.csv")[1:]
    assert [row[0] for row in rows][:2] == ["dark/0.png", "dark/1.png"]
    right = sum(row[0].startswith(row[1]) for row in rows)
    model = letsam.load("out")
    assert right / 12 == pytest.approx(model.results.runs[0].test_accuracy)
    assert right > 9
    assert len(model.predict("test/dark/3.png")) == 1
    images = torch.stack(list(model.preparation.read("test")))  # type: ignore[union-attr]
    exported = torch.export.load(model.folder / model.config["exported"]).module()
    torch.testing.assert_close(exported(images).detach(), model.predict("test").outputs, rtol=1e-4, atol=1e-5)
