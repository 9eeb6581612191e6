"""Watches of images, texts, recordings, several labels, numbers and tasks in code: quiet first, then a change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

import letsam
from letsam.cli import run
from letsam.operation import Watch, WatchRecord, read_watch
from watch_cases import numbers

DRIFT = {"drift_auc", "feature_drift", "embedding_distance"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def codes(record: WatchRecord) -> set[str]:
    return {alarm.code for alarm in record.alarms}


def watched(*arguments: str) -> WatchRecord:
    status = run(["watch", "out", *arguments])
    record = read_watch("out/model-watch")[-1]
    assert status == int(record.alarmed)
    return record


@pytest.mark.slow
def test_images(here: Path) -> None:
    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))

    def save(folder: str, rows: range, change: float = 0.0) -> None:
        for row in order[rows.start : rows.stop]:
            place = Path(folder) / f"d{classes[row]}" / f"{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            image = pixels[row].reshape(8, 8) * 12
            Image.fromarray((image + change).clip(0, 255).astype(np.uint8)).resize((16, 16)).save(place)

    save("train", range(500))
    save("test", range(500, 800))
    save("may", range(800, 900))
    save("june", range(900, 1000), change=60.0)
    assert run(["train", "train", "--test", "test", "--method", "sgd", "--epochs", "8", "--out", "out"]) == 0
    quiet = watched("may")
    assert set(quiet.metrics) == DRIFT | {"expected_accuracy"}
    assert not quiet.alarms
    labelled = watched("may", "--labels")
    model = letsam.load("out")
    table = model.predict("may")
    right = [name.startswith(label) for name, label in zip(table.samples, table.labels, strict=True)]
    assert numbers(labelled)["accuracy"] == np.mean(right)
    changed = watched("june", "--labels")
    assert codes(changed) >= DRIFT
    assert "mean brightness" in changed.tests["feature_drift"]["features"]


def texts(count: int, seed: int, words: str) -> pandas.DataFrame:
    """Reviews of which one word in ten tells the mood."""
    stream = np.random.default_rng(seed)
    moods = stream.choice(["up", "down"], count)
    filler = words.split()
    rows = [
        " ".join(stream.choice([*filler, *(["good", "fine"] if mood == "up" else ["bad", "dull"])], 12))
        for mood in moods
    ]
    return pandas.DataFrame({"review": rows, "mood": moods})


@pytest.mark.slow
def test_texts(here: Path) -> None:
    usual = "the film was about a house near some river and people who lived there"
    texts(600, 0, usual).to_csv("train.csv", index=False)
    texts(120, 1, usual).to_csv("may.csv", index=False)
    texts(120, 2, usual.upper() + " !!!").to_csv("june.csv", index=False)
    options = ("--target", "mood", "--text", "review", "--test-share", "0.4", "--epochs", "4")
    assert run(["train", "train.csv", *options, "--method", "sgd", "--out", "out"]) == 0
    quiet = watched("may.csv", "--labels")
    assert not quiet.alarms
    assert set(quiet.metrics) >= DRIFT | {"expected_accuracy", "accuracy", "loss", "generalization_gap", "sharpness"}
    changed = watched("june.csv")
    assert codes(changed) >= {"drift_auc", "feature_drift"}


@pytest.mark.slow
def test_recordings(here: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    stream = np.random.default_rng(0)

    def save(folder: str, count: int, noise: float) -> None:
        for name, pitch in (("low", 300), ("high", 900)):
            Path(folder, name).mkdir(parents=True)
            for number in range(count):
                times = np.arange(2000) / 8000
                wave = 0.3 * np.sin(2 * np.pi * pitch * stream.uniform(0.9, 1.1) * times) + noise * stream.normal(
                    size=2000
                )
                soundfile.write(Path(folder, name, f"{number}.wav"), wave.clip(-1, 1), 8000)

    save("train", 60, 0.02)
    save("may", 20, 0.02)
    save("june", 20, 0.3)
    assert run(["train", "train", "--test-share", "0.4", "--method", "sgd", "--epochs", "2", "--out", "out"]) == 0
    assert not watched("may", "--labels").alarms
    changed = watched("june", "--labels")
    assert codes(changed) >= DRIFT
    assert "energy, band 1" in changed.tests["feature_drift"]["features"]


def test_several_labels(here: Path) -> None:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(700, 4, generator=stream)
    frame = pandas.DataFrame(inputs.numpy(), columns=list("abcd"))
    warm, wet = inputs[:, 0] > 0, inputs[:, 1] > 0.5
    frame["tags"] = [f"{'warm' if a else 'cold'}|{'wet' if b else 'dry'}" for a, b in zip(warm, wet, strict=True)]
    frame[:500].to_csv("train.csv", index=False)
    frame[500:600].to_csv("may.csv", index=False)
    later = frame[600:].copy()
    later["a"] += 2
    later.iloc[0, 4] = "warm|icy"
    later.to_csv("june.csv", index=False)
    options = ("--target", "tags", "--test-share", "0.4", "--method", "sgd", "--epochs", "6", "--out", "out")
    assert run(["train", "train.csv", *options]) == 0
    quiet = watched("may.csv", "--labels")
    assert not quiet.alarms
    assert set(quiet.metrics) >= DRIFT | {"expected_accuracy", "accuracy", "loss", "sharpness"}
    model = letsam.load("out")
    truth = model.targets("may.csv").values
    right = (model.predict("may.csv").probabilities >= 0.5) == (truth == 1)
    assert numbers(quiet)["accuracy"] == pytest.approx(float(right.double().mean()))
    changed = watched("june.csv", "--labels")
    assert codes(changed) >= DRIFT | {"new_classes"}
    assert "a" in changed.tests["feature_drift"]["features"]
    assert any(name.startswith("predicted label") for name in changed.tests["feature_drift"]["features"])


def test_numbers(here: Path) -> None:
    """Nothing says how accurate numbers are before they are known: drift alone is watched without labels."""
    frame = load_diabetes(as_frame=True).frame.sample(frac=1.0, random_state=0)
    frame["importance"] = 1 + (frame["bmi"] > 0)
    frame[:300].to_csv("train.csv", index=False)
    frame[300:370].to_csv("may.csv", index=False)
    later = frame[370:].copy()
    later["target"] += 150
    later["age"] += 0.2
    later.to_csv("june.csv", index=False)
    options = ("--target", "target", "--weight", "importance", "--test-share", "0.4", "--epochs", "6")
    assert run(["train", "train.csv", *options, "--method", "sgd", "--out", "out"]) == 0
    quiet = watched("may.csv")
    assert set(quiet.metrics) == DRIFT
    assert not quiet.alarms
    labelled = watched("may.csv", "--labels")
    assert set(labelled.metrics) == {"RMSE", "loss", "generalization_gap", "sharpness"}
    predicted = letsam.load("out").predict("may.csv").outputs.flatten().numpy()
    errors, weights = predicted - frame["target"][300:370], frame["importance"][300:370]
    assert numbers(labelled)["RMSE"] == pytest.approx(np.sqrt(np.average(errors**2, weights=weights)), rel=1e-5)
    changed = watched("june.csv", "--labels")
    assert codes(changed) >= {"drift_auc", "feature_drift", "RMSE", "generalization_gap"}
    assert "age" in changed.tests["feature_drift"]["features"]


def test_a_task_in_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A built-in task is no file: its batches are prepared inputs, in Python."""
    assert run(["train", "digits", "--method", "sgd", "--epochs", "3", "--out", "out"]) == 0
    from letsam.tasks import load_task

    test = load_task("digits").test
    inputs, targets = (torch.stack([torch.as_tensor(test[i][place]) for i in range(200)]) for place in (0, 1))
    watch = Watch("out")
    record = watch.observe(inputs, targets)
    assert not record.alarms
    predicted = watch.model.predict(inputs).outputs.argmax(dim=1)
    assert numbers(record)["accuracy"] == pytest.approx(float((predicted == targets).double().mean()))
    changed = watch.observe(inputs.flip(-1), targets.tolist())  # the names of its classes are their numbers
    assert codes(changed) >= {"drift_auc", "embedding_distance", "accuracy"}
    capsys.readouterr()
    assert run(["watch", "out", "new.csv"]) == 2
    message = "error: out: batches for the model of the task 'digits' are no files; see letsam.operation.Watch"
    assert capsys.readouterr().err == f"{message} (more: letsam docs how-to/watch)\n"
