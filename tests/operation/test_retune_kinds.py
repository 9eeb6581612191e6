"""`letsam retune` on models of every kind: images, texts, numbers, arrays, tasks in code, pretrained, refits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_diabetes, load_digits

import letsam
from cli_cases import check_error
from letsam.cli import run
from letsam.model_folder import version_of
from letsam.results import Results
from picture_files import folder as pictures
from retune_cases import QUICK, champion


@pytest.fixture(autouse=True)
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


def retuned(letsam_run: Any, model: str, data: str, *options: str) -> Results:
    """The results of a re-tuning; its champion has been compared with the model."""
    status, out, err = letsam_run("retune", model, data, *QUICK, *options, "--out", "v")
    assert status in (0, 1), out + err
    version = version_of(Path("v/v0002"))
    assert version is not None
    assert version.parent == letsam.load("v/v0001").fingerprint
    return Results.load("v/retunes/v0002/results.json")


def test_images(here: Path, letsam_run: Any) -> None:
    pictures(here / "old", classes="abc", each=8)
    pictures(here / "new", classes="bc", each=10, first=50)
    assert letsam_run("train", "old", "--method", "lets-sam", "--epochs", "2", "--out", "cnn")[0] == 0
    results = retuned(letsam_run, "cnn", "new", "--old", "old", "--evaluate-shift", "noise:1")
    assert results.runs_of("champion")[0].shifted.keys() == {"clean", "noise:1"}
    assert letsam.load("v").classes == ("a", "b", "c")
    assert len(letsam.load("v/v0002").predict("new").labels) == 20
    for name in ("preparation/preparation.json", "split.json"):
        assert (here / "v" / "v0002" / name).is_file()
    mine, theirs = (here / "v" / v / "preparation" / "preparation.json" for v in ("v0001", "v0002"))
    assert mine.read_bytes() == theirs.read_bytes()
    pictures(here / "new", classes="d", first=70)
    check_error(
        letsam_run("retune", "cnn", "new", *QUICK), "expected classes that the training data have, got 'd' in 6"
    )


def test_numbers_to_predict(here: Path, letsam_run: Any) -> None:
    frame = load_diabetes(as_frame=True).frame.sample(frac=1.0, random_state=0)
    frame[:200].to_csv("old.csv", index=False)
    frame[200:300].assign(target=frame["target"] + 100).to_csv("new.csv", index=False)
    assert (
        letsam_run("train", "old.csv", "--target", "target", "--method", "sam", "--epochs", "20", "--out", "m")[0] == 0
    )
    results = retuned(letsam_run, "m", "new.csv", "--epochs", "10", "--lr", "0.01")
    assert results.metric == "RMSE"
    best = min(run.test_accuracy for run in results.runs if run.method != "champion")
    assert best < min(run.test_accuracy for run in results.runs_of("champion")) - 10
    one, other = (letsam.load(name).config["network"]["rescaled"] for name in ("m", "v/v0002"))
    assert one == other
    assert version_of(Path("v/v0002")).verdict["held_out"]["lower_is_better"]  # type: ignore[union-attr,index]


def test_texts(letsam_run: Any) -> None:
    texts = [f"{word} {'good' if i % 2 else 'bad'} {i}" for i, word in enumerate(["film", "plot", "scene"] * 40)]
    frame = pandas.DataFrame({"text": texts, "label": ["no", "yes"] * 60})
    frame[:80].to_csv("old.csv", index=False)
    frame[80:].to_csv("new.csv", index=False)
    options = ("--target", "label", "--text", "text", "--method", "lets-sam", "--epochs", "1", "--out", "m")
    assert letsam_run("train", "old.csv", *options)[0] == 0
    retuned(letsam_run, "m", "new.csv", "--old", "old.csv")
    tokenizers = [Path("v", name, "preparation", "tokenizer.json").read_bytes() for name in ("v0001", "v0002")]
    assert tokenizers[0] == tokenizers[1]


def test_arrays(letsam_run: Any) -> None:
    images, targets = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 15).astype("uint8")
    for name, rows in (("old", slice(0, 200)), ("new", slice(200, 300))):
        np.savez(f"{name}.npz", x=images[rows], y=targets[rows])
    assert letsam_run("train", "old.npz", "--method", "lets-sam", "--epochs", "2", "--out", "m")[0] == 0
    results = retuned(letsam_run, "m", "new.npz", "--validation-share", "0.2")
    assert results.config["data"]["samples"] == [80, 0, 20]
    assert results.config["validation_share"] == 0.2


def test_a_task_in_code(here: Path, letsam_run: Any) -> None:
    text = "import dataclasses\nimport torch\nfrom torch.utils.data import TensorDataset\n"
    text += "from letsam.tasks import load_task\n\n"
    text += "def part(start, stop, **more):\n    task = load_task('digits')\n"
    text += "    train = TensorDataset(*(tensor[start:stop] for tensor in task.train.tensors))\n"
    text += "    return dataclasses.replace(task, train=train, epochs=2, **more)\n\n"
    text += "def old(): return part(0, 200)\ndef new(): return part(200, 300)\n"
    text += (
        "def wide(): return part(0, 90, model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11)))"
    )
    text += (
        "\ndef more():\n    task = part(0, 90)\n    train = TensorDataset(task.train.tensors[0], torch.arange(90))\n"
    )
    text += "    return dataclasses.replace(task, train=train)\n"
    (here / "mine.py").write_text(text)
    assert letsam_run("train", "mine.py:old", "--method", "lets-sam", "--out", "m")[0] == 0
    results = retuned(letsam_run, "m", "mine.py:new", "--old", "mine.py:old")
    assert results.config["data"]["samples"] == [300, 0, 797]
    record = version_of(here / "v" / "v0002")
    assert record is not None
    assert [(one["role"], one["name"]) for one in record.data["sources"]] == [
        ("train", "mine.py:new"),
        ("old", "mine.py:old"),
    ]
    for data, message in (
        ("mine.py:wide", "expected the weights of this network, got others"),
        ("mine.py:more", "mine.py:more: expected classes from 0 to 9, got 89"),
        ("new.csv", "new.csv: expected a task in code, as the model was trained on 'mine.py:old', got data"),
    ):
        check_error(letsam_run("retune", "m", data, *QUICK, "--out", "other"), message)
        assert not (here / "other").exists()
    check_error(letsam_run("retune", "m", "mine.py:new", *QUICK, "--test", "x.csv"), "`test` needs a model of files")


def test_a_refit_and_a_model_that_was_exported(letsam_run: Any, here: Path) -> None:
    champion(here)
    options = ("--target", "target", "--methods", "lets-sam", "--seeds", "1", "--epochs", "2", "--refit-best")
    assert letsam_run("trial", "old.csv", *options, "--export", "torch", "--out", "trial")[0] == 0
    results = retuned(letsam_run, "trial", "new.csv", "--radius", "continue")
    assert [name.partition(":")[0] for name in results.methods] == ["champion", "sgd", "sam", "lets-sam"]
    assert (here / "v" / "v0002" / "exported" / "model.pt2").is_file()


@pytest.mark.slow
def test_a_pretrained_model_with_adapters(letsam_run: Any, here: Path) -> None:
    pytest.importorskip("peft")
    from tiny_pretrained import tiny_bert

    tiny_bert(here / "tiny")
    texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(80)]
    frame = pandas.DataFrame({"text": texts, "label": ["no", "yes"] * 40})
    frame[:50].to_csv("old.csv", index=False)
    frame[50:].to_csv("new.csv", index=False)
    options = ("--target", "label", "--text", "text", "--pretrained", "tiny", "--lora", "--method", "lets-sam")
    assert letsam_run("train", "old.csv", *options, "--epochs", "1", "--out", "m")[0] == 0
    results = retuned(letsam_run, "m", "new.csv", "--lr", "1e-12")
    labels = letsam.load("m").predict("new.csv").labels
    assert letsam.load("v/v0002").predict("new.csv").labels == labels
    champions = {run.test_accuracy for run in results.runs_of("champion")}
    assert champions == {run.test_accuracy for run in results.runs}
    one, other = (load_file(f"v/{name}/network/model.safetensors") for name in ("v0001", "v0002"))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)
