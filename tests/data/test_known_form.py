"""New data with targets, prepared as those that a model was trained on: equal inputs and classes, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from torch import Tensor

from data_cases import loaded
from letsam.data import DataError, DataOptions, KnownForm, LoadedData, read_data
from picture_files import folder as pictures


def known(data: LoadedData) -> KnownForm:
    return KnownForm(data.preparation, data.kind, data.classes)


def again(path: Path | str, of: LoadedData, **options: Any) -> LoadedData:
    return read_data(DataOptions(path=str(path), **options), known(of))


def samples(data: LoadedData) -> list[tuple[Any, Any]]:
    """Test and training samples, without augmentation, in an order that the division does not change."""
    sets: list[Any] = [data.train, data.test]
    plain = [one.without_augmentation() if hasattr(one, "without_augmentation") else one for one in sets]
    pairs = [(one[i][0], one[i][1]) for one in plain for i in range(len(one))]
    return sorted(pairs, key=lambda pair: _numbers(pair[0]).sum().item())


def _numbers(inputs: Any) -> Tensor:
    return (inputs["input_ids"] if isinstance(inputs, dict) else inputs).double()


def wine() -> pandas.DataFrame:
    frame = load_wine(as_frame=True).frame
    frame["target"] = frame["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    frame["region"] = (frame["alcohol"] > 13).map({True: "north", False: "south"})
    return frame.sample(frac=1.0, random_state=0).reset_index(drop=True)


def test_a_table(tmp_path: Path) -> None:
    frame = wine()
    frame[:100].to_csv(tmp_path / "old.csv", index=False)
    drifted = frame[100:].assign(alcohol=frame["alcohol"] + 5, more=1)  # a column that is not known is left out
    drifted[drifted["target"] != "Barbera"].to_csv(tmp_path / "new.csv", index=False)
    first = loaded(tmp_path / "old.csv", target="target")
    data = again(tmp_path / "new.csv", first, target="target")
    assert data.classes == first.classes == ("Barbera", "Barolo", "Grignolino")
    assert data.outputs == 3
    assert data.preparation is first.preparation
    inputs = first.preparation.read(str(tmp_path / "new.csv"))
    expected = sorted([inputs[i] for i in range(len(inputs))], key=lambda row: row.double().sum().item())  # type: ignore[arg-type]
    found = samples(data)
    assert torch.equal(torch.stack([one for one, _ in found]), torch.stack(expected))
    assert {int(target) for _, target in found} == {1, 2}
    refitted = loaded(tmp_path / "new.csv", target="target")
    assert not torch.equal(samples(refitted)[0][0], found[0][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.drop(columns="alcohol"),
            "expected the columns of the training data, got none of the name 'alcohol'",
        ),
        (lambda f: f.drop(columns="target"), "`target` must name one of its columns"),
        (lambda f: f.assign(alcohol="much"), "expected numbers in 'alcohol', got 'much'"),
        (lambda f: f.replace({"target": {"Barolo": "Chianti"}}), "has the class 'Chianti', which no training row has"),
        (lambda f: f[:0], "expected a table with a header and rows, got no rows"),
        (lambda f: f.assign(target=np.nan), "expected values in the target target, got none"),
    ],
)
def test_other_tables_are_refused(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    frame = wine()
    frame[:100].to_csv(tmp_path / "old.csv", index=False)
    change(frame[100:]).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match=message) as caught:
        again(tmp_path / "new.csv", loaded(tmp_path / "old.csv", target="target"), target="target")
    assert str(tmp_path / "new.csv") in str(caught.value)


def test_numbers_to_predict_and_labels_in_a_cell(tmp_path: Path) -> None:
    frame = load_diabetes(as_frame=True).frame.sample(frac=1.0, random_state=0)
    frame["target"] = frame["target"].round(-1)  # few values, which would be told to be classes
    frame["kinds"] = np.where(frame["bmi"] > 0, "red|round", np.where(frame["bp"] > 0, "red", "blue"))
    frame[:200].to_csv(tmp_path / "old.csv", index=False)
    frame[200:250].assign(kinds="red").to_csv(tmp_path / "new.csv", index=False)
    first = loaded(tmp_path / "old.csv", target="target", kind="regression", drop=("kinds",))
    assert again(tmp_path / "new.csv", first, target="target", drop=("kinds",)).kind == "regression"
    first = loaded(tmp_path / "old.csv", target="kinds", drop=("target",))
    data = again(tmp_path / "new.csv", first, target="kinds", drop=("target",))
    assert data.classes == ("blue", "red", "round")
    assert {tuple(target.tolist()) for _, target in samples(data)} == {(0, 1, 0)}
    frame[200:250].assign(kinds="red|square").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match="has the class 'square'"):
        again(tmp_path / "new.csv", first, target="kinds", drop=("target",))


def test_texts(tmp_path: Path) -> None:
    texts = [f"{word} {'good' if i % 2 else 'bad'} {i}" for i, word in enumerate(["film", "plot", "scene"] * 20)]
    frame = pandas.DataFrame({"text": texts, "label": ["no", "yes"] * 30})
    frame[:40].to_csv(tmp_path / "old.csv", index=False)
    frame[40:].assign(text="unseen " + frame["text"]).to_csv(tmp_path / "new.csv", index=False)
    options = {"target": "label", "text": "text"}
    first = loaded(tmp_path / "old.csv", **options)
    data = again(tmp_path / "new.csv", first, **options)
    assert data.vocabulary == first.vocabulary
    inputs = first.preparation.read(str(tmp_path / "new.csv"))
    expected = sorted(inputs[i]["input_ids"].tolist() for i in range(len(inputs)))  # type: ignore[arg-type]
    assert sorted(pair[0]["input_ids"].tolist() for pair in samples(data)) == expected
    with pytest.raises(DataError, match="expected data of the kind text, which the model was trained on, got table"):
        again(tmp_path / "new.csv", first, target="label")


def test_images(tmp_path: Path) -> None:
    first = loaded(pictures(tmp_path / "old", classes="abc"))
    new = pictures(tmp_path / "new", classes="bc", first=50, size=(20, 16))
    data = again(new, first)
    assert (data.classes, data.input_shape) == (("a", "b", "c"), first.input_shape)
    inputs = first.preparation.read(str(new))
    expected = sorted([inputs[i] for i in range(len(inputs))], key=lambda one: one.double().sum().item())  # type: ignore[arg-type]
    found = samples(data)
    assert torch.equal(torch.stack([one for one, _ in found]), torch.stack(expected))
    assert {int(target) for _, target in found} == {1, 2}
    pictures(new, classes="d", first=70)
    with pytest.raises(DataError, match="expected classes that the training data have, got 'd' in 6 of 18 samples"):
        again(new, first)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="expected a folder of images, recordings or tables, got no files"):
        again(tmp_path / "none", first)


def test_images_for_a_model_of_tables(tmp_path: Path) -> None:
    wine().to_csv(tmp_path / "old.csv", index=False)
    first = loaded(tmp_path / "old.csv", target="target")
    with pytest.raises(DataError, match="expected data of the kind table, which the model was trained on, got image"):
        again(pictures(tmp_path / "new"), first)


def test_recordings(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for part, start in (("old", 0), ("new", 50)):
        for name, hertz in (("low", 300), ("high", 2500)):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(5):
                wave = 0.4 * np.sin(2 * np.pi * (hertz + start + i) * np.arange(4000) / 8000)
                soundfile.write(tmp_path / part / name / f"{i}.wav", wave, 8000)
    first = loaded(tmp_path / "old")
    data = again(tmp_path / "new", first)
    inputs = first.preparation.read(str(tmp_path / "new"))
    expected = sorted([inputs[i] for i in range(10)], key=lambda one: one.double().sum().item())
    assert torch.equal(torch.stack([one for one, _ in samples(data)]), torch.stack(expected))


def test_arrays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values, targets = random.normal(size=(60, 4)).astype("float32"), np.arange(60) % 3
    np.savez(tmp_path / "old.npz", x=values, y=targets)
    np.savez(tmp_path / "new.npz", x=values[:30] + 5, y=np.arange(30) % 2)
    first = loaded(tmp_path / "old.npz")
    data = again(tmp_path / "new.npz", first)
    inputs = first.preparation.read(str(tmp_path / "new.npz"))
    expected = sorted([inputs[i] for i in range(30)], key=lambda one: one.double().sum().item())
    assert torch.equal(torch.stack([one for one, _ in samples(data)]), torch.stack(expected))
    assert data.outputs == 3
    np.savez(tmp_path / "new.npz", x=values[:, :3], y=targets)
    with pytest.raises(DataError, match=r"expected samples of the shape \(4,\), got \(3,\)"):
        again(tmp_path / "new.npz", first)
    np.savez(tmp_path / "new.npz", x=values, y=targets + 1)
    with pytest.raises(DataError, match="got '3' in 20 of 60 samples"):
        again(tmp_path / "new.npz", first)
