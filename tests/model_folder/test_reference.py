"""The reference of a model: what new data are compared with in operation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits, load_wine

import letsam
from letsam.cli import run
from letsam.data.loss_by_kind import KindLoss
from letsam.model_folder.activations import activations_of
from letsam.model_folder.input_features import InputFeatures
from letsam.model_folder.manifest import ModelFolderError
from letsam.model_folder.reference import ModelReference, ModelReferenceError
from letsam.model_folder.reference_making import drawn_places, group_sharpness, reference_of_data
from letsam.results import Results
from letsam.sharpness import ascent_sharpness


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def trained(*command: str) -> tuple[letsam.LoadedModel, ModelReference]:
    assert run(["train", *command, "--method", "sgd", "--out", "out"]) == 0
    model = letsam.load("out")
    reference = ModelReference.load(model.folder)
    assert reference is not None
    return model, reference


def loss_of(model: letsam.LoadedModel, reference: ModelReference) -> float:
    assert reference.loss is not None
    return float(reference.loss(reference.outputs, reference.targets))


def test_a_table(here: Path) -> None:
    wine = load_wine(as_frame=True).frame.sample(frac=1.0, random_state=0)
    wine["region"] = (wine["alcohol"] > 13).map({True: "north", False: "south"})
    wine.iloc[:9, 2] = None
    wine[:120].to_csv("train.csv", index=False)
    wine[120:].to_csv("test.csv", index=False)
    model, reference = trained("train.csv", "--target", "target", "--test", "test.csv", "--epochs", "3")
    places = drawn_places(58, 5000)
    assert sorted(places) == list(range(58)) != places
    torch.testing.assert_close(reference.outputs, model.predict("test.csv").outputs[places], rtol=1e-5, atol=1e-6)
    assert torch.equal(reference.targets, model.targets("test.csv").values[places])
    with model.inputs("train.csv") as inputs:
        assert torch.equal(reference.features, torch.stack([inputs[place] for place in drawn_places(120, 2000)]))
    names = [column.name for column in reference.columns]
    assert names[:2] == ["alcohol", "malic_acid"]
    assert names[-2:] == ["ash is missing", "region"]
    region = reference.columns[-1]
    block = reference.features[:, region.start : region.stop]
    assert (region.category, reference.features.shape[1]) == (True, region.stop)
    assert torch.equal(
        block.argmax(dim=1) == 0, torch.tensor((wine["region"][:120] == "north").to_numpy())[drawn_places(120, 2000)]
    )
    run_ = model.results.runs[0]
    assert loss_of(model, reference) == pytest.approx(run_.test_loss, rel=1e-5)
    assert reference.training_loss == run_.train_loss
    assert len(reference.sharpness) == 1  # of 58 test samples a whole group of 32
    assert reference.embeddings.shape[0] == 58
    head: Any = [module for module in model.model.modules() if isinstance(module, torch.nn.Linear)][-1]
    again = head(reference.embeddings)  # they are kept in half precision
    torch.testing.assert_close(again, reference.outputs, rtol=5e-3, atol=5e-3)
    (model.folder / "reference.safetensors").write_bytes(b"changed")
    with pytest.raises(ModelFolderError, match=r"reference\.safetensors: was changed"):
        letsam.load("out")


def test_images(here: Path) -> None:
    pixels, labels = load_digits(return_X_y=True)
    for part, rows in (("train", range(120)), ("test", range(120, 180))):
        for row in rows:
            place = here / part / f"d{labels[row]}" / f"{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels[row].reshape(8, 8) * 15).astype(np.uint8)).save(place)
    model, reference = trained("train", "--test", "test", "--epochs", "1")
    assert (reference.modality, len(reference.features), len(reference.outputs)) == ("image", 120, 60)
    expected = model.predict("test").outputs[drawn_places(60, 5000)]
    torch.testing.assert_close(reference.outputs, expected, rtol=1e-4, atol=1e-5)
    features = InputFeatures.restored(reference.modality, reference.form, reference.image_range, model)
    assert features is not None
    with model.inputs("train") as inputs:
        again = features(inputs[place] for place in range(120))
    torch.testing.assert_close(again.sum(0), reference.features.sum(0), rtol=1e-4, atol=1e-3)  # without augmentation
    means = torch.tensor(pixels[:120].mean(axis=1) / 15).float() * 15 * 15 / 240
    assert reference.columns[0].name == "mean brightness"
    torch.testing.assert_close(again[:, 0].sort().values, means.sort().values, rtol=1e-3, atol=1e-3)


def test_texts(here: Path) -> None:
    words = ["good film", "a bad film", "very good", "this was bad indeed"] * 30
    frame = pandas.DataFrame({"review": words, "mood": ["up", "down"] * 60})
    frame[:100].to_csv("train.csv", index=False)
    frame["review"] = frame["review"] + " today"
    frame[100:].to_csv("test.csv", index=False)
    options = ("--target", "mood", "--text", "review", "--test", "test.csv", "--epochs", "1")
    model, reference = trained("train.csv", *options)
    assert (reference.modality, reference.features.shape) == ("text", (100, 134))
    assert [column.name for column in reference.columns][:2] == ["length", "words"]
    assert reference.features[:, 1].tolist() == [len(words[i].split()) for i in drawn_places(100, 2000)]
    expected = model.predict("test.csv").outputs[drawn_places(20, 5000)]
    torch.testing.assert_close(reference.outputs, expected, rtol=1e-4, atol=1e-5)


def test_numbers_with_weights(here: Path) -> None:
    frame = load_diabetes(as_frame=True).frame.sample(frac=1.0, random_state=0)
    frame["importance"] = 1 + (frame["bmi"] > 0)
    frame.to_csv("data.csv", index=False)
    model, reference = trained("data.csv", "--target", "target", "--weight", "importance", "--epochs", "2")
    assert reference.weights is not None
    light, heavy = reference.weights.unique().tolist()
    assert heavy == pytest.approx(2 * light)
    assert reference.loss is not None
    each = reference.loss.each(reference.outputs, reference.targets)
    weighted = float((each * reference.weights).sum() / reference.weights.sum())
    assert weighted == pytest.approx(model.results.runs[0].test_loss, rel=1e-5)
    assert reference.loss.scale[0] == pytest.approx(frame["target"].std(), rel=0.2)


def test_a_task_in_code_and_the_spread_over_seeds(here: Path) -> None:
    command = ["trial", "digits", "--methods", "sgd", "--seeds", "2", "--epochs", "1", "--refit-best", "--out", "out"]
    assert run(command) == 0
    reference = ModelReference.load(letsam.load("out").folder)
    assert reference is not None
    runs = Results.load("out/results.json").runs
    assert reference.seeds == 2
    accuracies, gaps = [run.test_accuracy for run in runs], [run.generalization_gap for run in runs]
    assert reference.spread["accuracy"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / math.sqrt(2))
    assert reference.spread["generalization_gap"] == pytest.approx(abs(gaps[0] - gaps[1]) / math.sqrt(2))
    assert (reference.modality, reference.features.shape[0]) == ("image", 1000)
    assert len(reference.sharpness) == 16


def test_a_reference_of_other_data_is_that_of_the_run(here: Path) -> None:
    wine = load_wine(as_frame=True).frame.sample(frac=1.0, random_state=0)
    wine[:100].to_csv("train.csv", index=False)
    wine[100:].to_csv("test.csv", index=False)
    model, made = trained("train.csv", "--target", "target", "--test", "test.csv", "--epochs", "2")
    reference = reference_of_data(model, "test.csv", model.targets("test.csv"), "test.csv")
    reference.save(here / "kept")
    kept = ModelReference.load(here / "kept")
    assert kept is not None
    for name in ("outputs", "targets", "embeddings"):
        torch.testing.assert_close(getattr(kept, name), getattr(made, name), rtol=1e-3, atol=1e-3)
    assert kept.sharpness == pytest.approx(made.sharpness, rel=1e-4)
    assert (kept.columns, kept.loss, kept.training_loss) == (made.columns, made.loss, made.training_loss)
    assert kept.held_out == "78 samples of test.csv"
    rows: Any = model.preparation.read("test.csv")  # type: ignore[union-attr]
    assert torch.equal(kept.features, torch.stack([rows[place] for place in drawn_places(78, 2000)]))


def test_the_sharpness_of_groups() -> None:
    stream = torch.Generator().manual_seed(0)
    network = torch.nn.Linear(4, 3)
    groups = [(torch.randn(32, 4, generator=stream), torch.randint(3, (32,), generator=stream)) for _ in range(3)]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = group_sharpness(network, groups, KindLoss("classification"))
    expected = [ascent_sharpness(network, torch.nn.functional.cross_entropy, [group], 0.05) for group in groups]
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(set(found)) == 3
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_embeddings_of_networks_of_several_forms() -> None:
    stream = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 5, generator=stream)
    several = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 2)).eval()
    assert torch.equal(activations_of(several, [rows], 9).embeddings, several[0](rows).detach())
    convolution = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.Flatten()).eval()
    found = activations_of(convolution, [rows[:, None]], 9)
    assert torch.equal(found.embeddings, found.outputs)
    wide = torch.nn.Linear(3000, 1).eval()
    assert activations_of(wide, [torch.ones(2, 3000)], 1).embeddings.shape == (1, 1024)

    class OverTokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(inputs).mean(dim=1)

    tokens = torch.randn(3, 7, 2, generator=stream)
    torch.testing.assert_close(activations_of(OverTokens().eval(), [tokens], 9).embeddings, tokens.mean(dim=1))


def test_damaged_files_are_named(here: Path) -> None:
    assert ModelReference.load(here) is None
    empty = torch.empty(0, 0)
    ModelReference(None, empty, (), torch.zeros(2, 2), torch.tensor([0, 1]), None, empty, "two samples").save(here)
    path = here / "reference.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": "letsam reference 9"}))
    with pytest.raises(
        ModelReferenceError, match=r"expected the format 'letsam reference 1', got 'letsam reference 9'"
    ):
        ModelReference.load(here)
    for text in ("{", json.dumps({"format": "letsam reference 1"})):
        path.write_text(text)
        with pytest.raises(ModelReferenceError, match=r"reference\.json: expected the reference of a model, got"):
            ModelReference.load(here)
