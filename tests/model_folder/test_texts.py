"""Models of texts from scratch, and pretrained ones of texts and images, with and without adapters."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas
import pytest
import torch
from PIL import Image

import letsam
from letsam.cli import run
from letsam.tasks import TaskError
from letsam.tasks.movie_snippets import minilm_folder, parse_ratings, read_table
from page_code import ROOT
from tiny_pretrained import tiny_bert, tiny_vit


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def test_texts_in_memory_and_in_a_file(here: Path) -> None:
    words = {"up": "good great fine", "down": "bad poor awful"}
    rows = [(f"a {word} film number {i}", name) for i in range(12) for name in words for word in words[name].split()]
    pandas.DataFrame(rows, columns=["review", "label"]).to_csv("train.csv", index=False)
    pandas.DataFrame(rows[::5], columns=["review", "label"]).drop(columns="label").to_csv("new.csv", index=False)
    command = ("train", "train.csv", "--text", "review", "--target", "label", "--method", "sgd", "--epochs", "12")
    assert run([*command, "--out", "out"]) == 0
    model = letsam.load("out")
    texts = [text for text, _ in rows[::5]]
    labels = model.predict(texts).labels
    assert labels == [label for _, label in rows[::5]]
    assert model.predict("new.csv").labels == labels
    single = model.predict(texts[:1])
    torch.testing.assert_close(single.outputs, model.predict(texts).outputs[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [(), ("--lora",)])
def test_numbers_by_a_pretrained_model(here: Path, lora: tuple[str, ...]) -> None:
    """Its outputs are in the units of the target, after reading it again as well."""
    tiny_bert(here / "bert")
    rows = [
        (f"a {'good' if i % 2 else 'bad'} film w{i % 9} w{i % 31}", 100.0 + 20 * (i % 2) + i % 3) for i in range(60)
    ]
    frame = pandas.DataFrame(rows, columns=["review", "score"])
    frame[:40].to_csv("train.csv", index=False)
    frame[40:].to_csv("test.csv", index=False)
    command = ("train", "train.csv", "--test", "test.csv", "--text", "review", "--target", "score", "--method", "sgd")
    assert run([*command, "--kind", "regression", "--pretrained", "bert", *lora, "--epochs", "2", "--out", "out"]) == 0
    model = letsam.load("out")
    errors = model.predict("test.csv").outputs.flatten().double() - torch.tensor(frame["score"][40:].to_numpy())
    assert float(errors.square().mean().sqrt()) == pytest.approx(model.results.runs[0].metrics["RMSE"], rel=1e-4)
    assert float(errors.abs().max()) < 60


def test_images_by_a_pretrained_model(here: Path) -> None:
    tiny_vit(here / "vit")
    generator = torch.Generator().manual_seed(0)
    for number, name in enumerate(("dark", "light")):
        (here / "images" / name).mkdir(parents=True)
        for index in range(20):
            pixels = torch.randint(120 * number, 120 * number + 100, (20, 24, 3), generator=generator)
            Image.fromarray(pixels.byte().numpy()).save(here / "images" / name / f"{index}.png")
    command = ("train", "images", "--test", "test", "--method", "sam", "--pretrained", "vit", "--epochs", "2")
    shutil.copytree("images", "test")
    for path in Path("test").rglob("*.png"):  # other pictures than those of the training
        Image.open(path).rotate(180).save(path)
    assert run([*command, "--out", "out"]) == 0
    model = letsam.load("out")
    predicted = model.predict("test")
    right = sum(sample.startswith(label) for sample, label in zip(predicted.samples, predicted.labels, strict=True))
    assert right / 40 == pytest.approx(model.results.runs[0].test_accuracy)
    assert model.preparation is not None
    assert model.preparation.read("test")[0].shape == (3, 16, 16)


@pytest.mark.data
@pytest.mark.slow
def test_the_commands_with_a_pretrained_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the how-to, on movie snippets and MiniLM; few rows, as only the way is tested."""
    try:
        minilm_folder()
        texts, ratings = parse_ratings(read_table())
    except TaskError as error:
        pytest.skip(str(error))
    labels = ["good" if rating > 0 else "bad" for rating in ratings.tolist()]
    frame = pandas.DataFrame({"review": texts, "sentiment": labels}).sample(40, random_state=0)
    frame.to_csv("reviews.csv", index=False)
    page = (ROOT / "docs/how-to/models.md").read_text(encoding="utf-8")
    commands = re.findall(r"^letsam (.*reviews\.csv.*)$", page, re.M)
    assert len(commands) == 2
    for command in commands:
        assert run(shlex.split(command)) == 0, capsys.readouterr().err
    for name in ("reviews", "lora"):
        model = letsam.load(f"runs/{name}")
        assert (model.folder / "adapter").is_dir() == (name == "lora")
        assert not (model.folder / "weights.safetensors").exists()
        predicted = model.predict("reviews.csv")
        assert len(predicted) == 40
        assert predicted.outputs.std() > 0
        assert model.predict(frame["review"].tolist()[:2]).labels == predicted.labels[:2]
