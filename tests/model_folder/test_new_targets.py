"""The targets of new data: a model that is compared with them gives what its run has measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_wine

import letsam
from letsam.cli import run
from letsam.data import DataError, DataOptions
from letsam.data.new_targets import read_targets


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def trained(frame: pandas.DataFrame, *options: str) -> tuple[letsam.LoadedModel, pandas.DataFrame]:
    """A model of the first rows of a table, and the last ones, which it was tested on."""
    mixed = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    mixed[:-40].to_csv("train.csv", index=False)
    mixed[-40:].to_csv("test.csv", index=False)
    command = ("train", "train.csv", *options, "--test", "test.csv", "--method", "sgd", "--epochs", "2", "--out", "out")
    assert run(command) == 0
    return letsam.load("out"), mixed[-40:].reset_index(drop=True)


def test_classes_of_a_table(here: Path) -> None:
    wine = load_wine(as_frame=True).frame
    wine["target"] = wine["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    model, test = trained(wine, "--target", "target")
    for data in ("test.csv", test):
        found = model.targets(data)
        right = model.predict(data).outputs.argmax(dim=1)[found.places] == found.values
        assert float(right.double().mean()) == pytest.approx(model.results.runs[0].metrics["accuracy"])
    late = test.copy()
    late.loc[[0, 5], "target"] = None  # labels that have not arrived yet
    found = model.targets(late)
    assert len(found) == 38
    assert found.places.tolist() == [i for i in range(40) if i not in (0, 5)]
    assert [model.classes[i] for i in found.values] == list(late["target"].dropna())
    with pytest.raises(DataError, match=r"^`data`: expected the target 'target' of the training data, got the columns"):
        model.targets(test.drop(columns="target"))
    with pytest.raises(DataError, match=r"^`data`: expected at least one sample with a target, got none$"):
        model.targets(test.assign(target=None))
    with pytest.raises(DataError, match="its 'target' has the class 'Merlot', which no training row has"):
        model.targets(test.assign(target="Merlot"))
    with pytest.raises(TypeError, match=r"`data` must be a path, a DataFrame, .* got int"):
        model.targets(3)


def test_numbers_of_a_table(here: Path) -> None:
    model, test = trained(load_diabetes(as_frame=True).frame, "--target", "target")
    found = model.targets("test.csv")
    assert found.values.shape == (40, 1)
    errors = model.predict("test.csv").outputs - found.values
    assert float(errors.square().mean().sqrt()) == pytest.approx(model.results.runs[0].metrics["RMSE"], rel=1e-5)
    with pytest.raises(DataError, match="expected numbers in the target 'target', got 'high'"):
        model.targets(test.assign(target="high"))


@pytest.mark.parametrize("mark", ["|", ","])
def test_labels_in_one_cell(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "new.tsv"
    path.write_text(f"x\ttags\n1\tred{mark}round\n2\t\n3\tround\n")
    options = DataOptions(path="old.tsv", target="tags", kind="multilabel")
    found = read_targets(str(path), options, "table", "multilabel", ("red", "round"))
    assert found.values.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert found.places.tolist() == [0, 1, 2]


def images(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / name)


def test_folders_of_files(tmp_path: Path) -> None:
    options = DataOptions(path="old")
    images(tmp_path / "new", ["dark/a.png", "dark/b.png", "light/a.png"])
    found = read_targets(str(tmp_path / "new"), options, "image", "classification", ("dark", "light"))
    assert (found.values.tolist(), found.places.tolist()) == ([0, 0, 1], [0, 1, 2])
    with pytest.raises(DataError, match="expected classes that the training data have, got 'light' in 1 of 3 samples"):
        read_targets(str(tmp_path / "new"), options, "image", "classification", ("dark", "grey"))

    images(tmp_path / "named", ["b.png", "a.png", "c.png", "d.png"])
    (tmp_path / "named" / "metadata.csv").write_text("file_name,label\nc.png,light\na.png,dark\nd.png,\n")
    found = read_targets(str(tmp_path / "named"), options, "image", "classification", ("dark", "light"))
    assert (found.values.tolist(), found.places.tolist()) == ([0, 1], [0, 2])  # in the order of the inputs
    (tmp_path / "named" / "metadata.csv").write_text("file_name,label\nc.png,2.5\na.png,-1\n")
    found = read_targets(str(tmp_path / "named"), options, "image", "regression")
    assert (found.values.tolist(), found.places.tolist()) == ([[-1.0], [2.5]], [0, 2])


def test_arrays(tmp_path: Path) -> None:
    inputs: Any = np.zeros((3, 2), dtype=np.float32)
    options = DataOptions(path="old.npz")
    path = tmp_path / "new.npz"
    np.savez(path, x_test=inputs, y_test=np.array([1, 0, 1]))
    found = read_targets(str(path), options, "tensors", "classification", ("0", "1"))
    assert torch.equal(found.values, torch.tensor([1, 0, 1]))
    np.savez(path, x=inputs, y=np.array([0.5, np.nan, 2.0]))
    found = read_targets(str(path), options, "tensors", "regression")
    assert (found.values.tolist(), found.places.tolist()) == ([[0.5], [2.0]], [0, 2])
    np.savez(path, x=inputs)
    with pytest.raises(DataError, match=r"expected targets under one of the names y, .* got x$"):
        read_targets(str(path), options, "tensors", "regression")


def test_new_classes_get_numbers_after_the_known_ones(tmp_path: Path) -> None:
    path, options = tmp_path / "new.csv", DataOptions(path="old.csv", target="kind")
    path.write_text("x,kind\n1,emu\n2,cat\n3,\n4,ant\n")
    found = read_targets(str(path), options, "table", "classification", ("cat", "dog"), new_classes=True)
    assert (found.values.tolist(), found.places.tolist(), found.unseen) == ([3, 0, 2], [0, 1, 3], ("ant", "emu"))
    with pytest.raises(DataError, match=r"expected classes such as owl, got others alone: ant, cat, emu$"):
        read_targets(str(path), options, "table", "classification", ("owl",), new_classes=True)
    images(tmp_path / "new", ["dark/a.png", "red/a.png"])
    options = DataOptions(path="old")
    found = read_targets(str(tmp_path / "new"), options, "image", "classification", ("dark", "light"), new_classes=True)
    assert (found.values.tolist(), found.unseen) == ([0, 2], ("red",))


def test_new_labels_are_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("x,tags\n1,red|wet\n2,\n3,round\n")
    options = DataOptions(path="old.csv", target="tags", kind="multilabel")
    found = read_targets(str(path), options, "table", "multilabel", ("red", "round"), new_classes=True)
    assert (found.values.tolist(), found.unseen) == ([[1, 0], [0, 0], [0, 1]], ("wet",))


def test_weights_come_with_the_targets(tmp_path: Path) -> None:
    path, options = tmp_path / "new.csv", DataOptions(path="old.csv", target="y", weight="w")
    path.write_text("x,y,w\n1,2.5,1\n2,,9\n3,1.5,2\n")
    found = read_targets(str(path), options, "table", "regression")
    assert found.weights is not None
    assert found.weights.tolist() == [1, 2]
    path.write_text("x,y\n1,2.5\n")
    assert read_targets(str(path), options, "table", "regression").weights is None
    path.write_text("x,y,w\n1,2.5,-1\n")
    with pytest.raises(DataError, match="expected weights >= 0 in 'w', got others"):
        read_targets(str(path), options, "table", "regression")
