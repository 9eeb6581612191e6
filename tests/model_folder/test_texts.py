"""Models of texts: from scratch, and a real pretrained one with and without adapters."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas
import pytest
import torch

import letsam
from letsam.cli import run
from letsam.tasks.movie_snippets import minilm_folder, parse_ratings, read_table
from page_code import ROOT


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path: path.write_text("page"))
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


@pytest.mark.data
@pytest.mark.slow
def test_the_commands_with_a_pretrained_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the how-to, on movie snippets and MiniLM; few rows, as only the way is tested."""
    minilm_folder()
    texts, ratings = parse_ratings(read_table())
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
