"""Data sets of the library `datasets`: features tell images, recordings, texts and tables apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_cases import error, loaded
from letsam.data import DataError
from letsam.tasks import targets_of
from picture_files import pixels

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, "PNG")
    return buffer.getvalue()


def images(count: int, *, first: int = 0, **more: list[Any]) -> Any:
    cells = [{"bytes": png(first + i), "path": None} for i in range(count)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    columns = {"image": cells, "label": [i % 2 for i in range(count)], **more}
    plain = {name: datasets.Value("string" if isinstance(values[0], str) else "int64") for name, values in more.items()}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(**features, **plain))


def test_images_that_were_saved(tmp_path: Path) -> None:
    splits = {"train": images(12), "test": images(6, first=50), "extra": images(4)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "pets")
    data = loaded(tmp_path / "pets")
    assert (data.name, data.modality, data.classes) == ("pets", "image", ("cat", "dog"))
    assert (len(data.train), len(data.test)) == (12, 6)  # type: ignore[arg-type]
    assert targets_of(data.train).tolist() == [0, 1] * 6
    rows = dict(data.inferred)
    assert rows["splits not used"] == "extra"
    assert rows["columns"] == "image to predict label"
    assert float(data.train[0][0].mean()) == pytest.approx(0, abs=1.0)


def test_images_are_not_decoded_for_their_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(12).save_to_disk(tmp_path / "pets")
    data = loaded(tmp_path / "pets", memory=0)
    monkeypatch.setattr(Image, "open", None)
    assert torch.bincount(torch.cat([targets_of(data.train), targets_of(data.test)])).tolist() == [6, 6]
    with pytest.raises(DataError, match=r"^train\[\d+\]: cannot be read as a picture"):
        data.train[0]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(i) if i != 3 else b"no", "path": None} for i in range(8)], "label": [0, 1] * 4},
        features=datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"])),
    )
    table.save_to_disk(tmp_path / "pets")
    assert error(tmp_path / "pets").startswith("FOLDER: train: train[3] cannot be read: it has no format that Pillow")
    assert len(loaded(tmp_path / "pets", skip_broken=True).train) == 6  # type: ignore[arg-type]


def test_groups_of_rows(tmp_path: Path) -> None:
    images(20, patient=[f"p{i // 4}" for i in range(20)]).save_to_disk(tmp_path / "pets")
    groups = loaded(tmp_path / "pets", group="patient").groups
    assert groups is not None
    assert set(torch.bincount(groups, minlength=5).tolist()) == {0, 4}
    assert error(tmp_path / "pets", group="x") == ("FOLDER: expected the column x in train, got image, label, patient")


def test_recordings_that_were_saved(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    cells: list[dict[str, Any]] = []
    for i in range(8):
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.3 * np.sin(np.arange(4000) * (0.1 + i % 2)), 8000, format="WAV")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    table = datasets.Dataset.from_dict({"sound": cells, "label": ["low", "high"] * 4})
    table.cast_column("sound", datasets.Audio(decode=False)).save_to_disk(tmp_path / "tones")
    data = loaded(tmp_path / "tones")
    assert (data.modality, data.classes, data.input_shape) == ("audio", ("high", "low"), (1, 64, 51))


def test_a_table_in_parquet_files(tmp_path: Path) -> None:
    features = datasets.Features(
        length=datasets.Value("float64"), width=datasets.Value("float64"), kind=datasets.ClassLabel(names=["a", "b"])
    )
    numbers = np.random.default_rng(0).normal(size=(60, 2))
    for name, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
        part = numbers[rows]
        columns = {"length": part[:, 0], "width": part[:, 1], "kind": (part[:, 0] > 0).astype(int)}
        table = datasets.Dataset.from_dict(columns, features=features)
        (tmp_path / "flowers").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "flowers" / f"{name}-00000-of-00001.parquet")
    data = loaded(tmp_path / "flowers")
    assert (data.name, data.modality, data.classes) == ("flowers", "table", ("a", "b"))
    assert (len(data.train), len(data.test)) == (40, 20)  # type: ignore[arg-type]
    assert str(tmp_path / "flowers") in dict(data.inferred)["data"]
    assert not any("/tmp" in value and "flowers" not in value for _, value in data.inferred)


def test_the_target_must_be_known(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"a": [1.5, 2.5], "b": [1, 2]})
    table.save_to_disk(tmp_path / "table")
    assert error(tmp_path / "table") == "FOLDER: expected --target COLUMN, one of a, b"


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"no table")
    assert error(tmp_path).startswith("FOLDER: cannot be loaded by the library datasets (")
    splits = {"one": images(2), "two": images(2)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "pets")
    assert error(tmp_path / "pets") == "FOLDER: expected a split train, got one, two"


def test_the_hub_is_asked_for_a_name_and_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*arguments: Any) -> Any:
        asked.append(arguments)
        return datasets.DatasetDict(train=images(8), validation=images(4, first=50))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(loaded("hf:someone/pets:small").test) == 4  # type: ignore[arg-type]
    assert loaded("hf:someone/pets").name == "pets"
    assert asked == [("someone/pets", "small"), ("someone/pets", None)]


def test_texts(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    texts = [f"scene {i} has a {'great' if i % 2 else 'dull'} plot" for i in range(40)]
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    table = datasets.Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(40)]}, features=features)
    table.save_to_disk(tmp_path / "reviews")
    data = loaded(tmp_path / "reviews")
    assert (data.name, data.modality, data.classes) == ("reviews", "text", ("bad", "good"))
    assert len(data.train) + len(data.test) == 40  # type: ignore[arg-type]
