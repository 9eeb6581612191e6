"""Folders of images: layouts, sizes, broken files, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_cases import error, loaded
from letsam.data import DataError, DataOptions, LoadedData, load_preparation
from letsam.data.pictures import PixelFormat, pixels_of
from letsam.tasks import targets_of
from letsam.tasks.label_noise import targets_of as known_targets
from letsam.tasks.task import Task
from picture_files import folder, pixels, save


def table(data: LoadedData) -> dict[str, str]:
    return dict(data.inferred)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    data = loaded(folder(tmp_path / "shapes", classes="abc"), augment="none")
    assert (data.name, data.modality, data.kind) == ("shapes", "image", "classification")
    assert (data.classes, data.outputs, data.input_shape) == (("a", "b", "c"), 3, (3, 32, 32))
    assert torch.bincount(targets_of(data.train)).tolist() == [5, 5, 4] or len(data.train) == 14  # type: ignore[arg-type]
    assert len(data.train) + len(data.test) == 18  # type: ignore[arg-type]
    assert table(data)["classes"].startswith("3: a (")
    brightness = [float(data.train[i][0].mean()) for i in range(len(data.train))]  # type: ignore[arg-type]
    order = np.argsort(brightness)
    assert known_targets(data.train)[order].diff().min() >= 0  # each picture has the class of its folder


def test_the_inputs_are_those_of_the_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "shapes", size=(16, 16))
    data = loaded(root, augment="none", test_share=0.5)
    assert data.input_shape == (3, 16, 16)
    expected = {
        (data.preparation.scale(pixels_of(path, data.preparation.form)[None])[0].numpy().tobytes(), path.parent.name)  # type: ignore[attr-defined]
        for path in root.glob("*/*.png")
    }
    samples = [part[i] for part in (data.train, data.test) for i in range(len(part))]  # type: ignore[arg-type]
    assert {(x.numpy().tobytes(), data.classes[y]) for x, y in samples} == expected


@pytest.mark.parametrize("names", [("train", "test"), ("training", "val"), ("Train", "Test")])
def test_folders_of_training_and_test_data(names: tuple[str, str], tmp_path: Path) -> None:
    folder(tmp_path / names[0], each=5)
    folder(tmp_path / names[1], each=2, first=4)
    data = loaded(tmp_path)
    assert (len(data.train), len(data.test), data.validation) == (10, 4, None)  # type: ignore[arg-type]
    assert table(data)["warning"] == "2 of 4 test samples are in the training data as well"
    assert (
        table(data)["samples"] == "10 for training, 4 for the test, so few that the numbers of single seeds say little"
    )


def test_test_data_that_are_training_data_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "train", each=5)
    folder(tmp_path / "test", each=2)
    assert error(tmp_path) == (
        "FOLDER/test: expected test samples that are no training samples, got 4 that are all in the training data as "
        "well"
    )


def test_validation_data_of_their_own(tmp_path: Path) -> None:
    for name, each in (("train", 5), ("val", 3), ("test", 2)):
        folder(tmp_path / name, each=each, first=10 * each)
    data = loaded(tmp_path)
    sizes = [len(part) for part in (data.train, data.validation, data.test)]  # type: ignore[arg-type]
    assert sizes == [10, 6, 4]


def test_classes_named_as_parts_are_classes(tmp_path: Path) -> None:
    for name in ("train", "plane"):
        folder(tmp_path / "both" / name / "x", classes="a")
    assert loaded(tmp_path / "both").classes == ("plane", "train")


def test_test_data_elsewhere(tmp_path: Path) -> None:
    folder(tmp_path / "one")
    folder(tmp_path / "two", each=3, first=50)
    assert len(loaded(tmp_path / "one", test=str(tmp_path / "two")).test) == 6  # type: ignore[arg-type]


def with_metadata(root: Path, header: str, values: list[Any]) -> Path:
    for i in range(len(values)):
        save(root / "pictures" / f"{i}.png", pixels(i))
    rows = [f"pictures/{i}.png,{value}" for i, value in enumerate(values)]
    (root / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def test_a_table_of_names_and_classes(tmp_path: Path) -> None:
    data = loaded(with_metadata(tmp_path, "file_name,label", ["red", "blue"] * 5))
    assert (data.classes, data.kind) == (("blue", "red"), "classification")


def test_a_table_of_names_and_numbers(tmp_path: Path) -> None:
    values = [1.5 * i for i in range(30)]
    data = loaded(with_metadata(tmp_path, "file_name,age", values))
    assert (data.kind, data.outputs, data.classes) == ("regression", 1, ())
    found = torch.cat([targets_of(data.train), targets_of(data.test)])
    assert sorted(found.tolist()) == values
    assert data.train[0][1].dtype == torch.float32


def test_a_table_with_several_columns_needs_the_target(tmp_path: Path) -> None:
    with_metadata(tmp_path, "file_name,age,size", [f"{i},{i % 2}" for i in range(10)])
    assert error(tmp_path) == "FOLDER/metadata.csv: expected --target COLUMN, one of age, size"
    assert loaded(tmp_path, target="size").classes == ("0", "1")
    assert error(tmp_path, target="colour").endswith("expected the column colour, got file_name, age, size")


def test_several_columns_of_a_table_are_labels(tmp_path: Path) -> None:
    values = [f"{i % 2},{i % 3 // 2},x" for i in range(12)]
    data = loaded(with_metadata(tmp_path, "file_name,sharp,bright,note", values), target="sharp,bright")
    assert (data.kind, data.classes, data.outputs) == ("multilabel", ("sharp", "bright"), 2)
    assert targets_of(data.train).shape == (len(data.train), 2)  # type: ignore[arg-type]
    assert table(data)["labels"].startswith("2: sharp (")


def test_groups_of_a_table_stay_together(tmp_path: Path) -> None:
    root = with_metadata(tmp_path, "file_name,label,patient", [f"{i % 2},p{i // 4}" for i in range(40)])
    data = loaded(root, target="label", group="patient")
    groups = data.groups
    assert groups is not None
    assert (torch.bincount(groups, minlength=10) % 4 == 0).all()
    assert len(groups) == len(data.train)  # type: ignore[arg-type]


def test_the_latest_of_a_table_are_the_test_data(tmp_path: Path) -> None:
    root = with_metadata(tmp_path, "file_name,label,day", [f"{i % 2},2024-01-{30 - i:02d}" for i in range(20)])
    data = loaded(root, target="label", time="day", memory=0)
    assert sorted(data.test.pixels.names) == sorted(f"pictures/{i}.png" for i in range(4))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "", "b"], "expected a value for every sample, got 1 of 3 without one"),
        (["a", "a", "a"], "expected at least 2 classes, got a alone"),
    ],
)
def test_labels_of_a_table_that_cannot_be_used(values: list[str], message: str, tmp_path: Path) -> None:
    assert error(with_metadata(tmp_path, "file_name,label", values)) == f"FOLDER/metadata.csv: {message}"


def test_files_that_a_table_names_must_exist(tmp_path: Path) -> None:
    root = with_metadata(tmp_path, "file_name,label", ["a", "b"])
    (root / "pictures" / "1.png").unlink()
    assert error(root) == "FOLDER/metadata.csv: expected files that exist, got pictures/1.png"


# What is in a folder


def test_an_empty_folder(tmp_path: Path) -> None:
    assert error(tmp_path) == "FOLDER: expected a folder of images, recordings or tables, got no files"


def test_images_without_a_class(tmp_path: Path) -> None:
    save(tmp_path / "a.png", pixels(0))
    assert error(tmp_path) == (
        "FOLDER: expected a folder of images for each class, or metadata.csv, got 1 images without a class"
    )


def test_images_outside_the_folders_of_classes(tmp_path: Path) -> None:
    save(folder(tmp_path) / "loose.png", pixels(9))
    assert error(tmp_path).endswith("got 1 outside them, such as loose.png")


def test_one_class_alone(tmp_path: Path) -> None:
    assert error(folder(tmp_path, classes="a")) == "FOLDER: expected at least 2 classes, got a alone"


def test_other_files_are_not_read_and_said(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "a" / "notes.txt").write_text("hello")
    (root / ".hidden").write_text("hello")
    (root / "empty").mkdir()
    rows = table(loaded(root))
    assert rows["not read"] == "1 file of another kind: a/notes.txt"
    assert rows["empty folders"] == "empty"


def test_a_class_with_a_single_sample_is_trained_on(tmp_path: Path) -> None:
    root = folder(tmp_path)
    save(root / "c" / "0.png", pixels(77))
    data = loaded(root, test_share=0.5)
    assert (targets_of(data.train) == 2).sum() == 1
    assert ("warning", "c has a single training sample") in data.inferred
    assert ("warning", "c has no test sample") in data.inferred


def test_classes_of_one_sample_each(tmp_path: Path) -> None:
    folder(tmp_path, each=1)
    assert error(tmp_path) == (
        "FOLDER: no class has more than one sample, so none can be held out for the test: at least one class must have "
        "two, or the test data must be in a folder of their own"
    )


def test_a_class_of_the_test_data_alone(tmp_path: Path) -> None:
    folder(tmp_path / "train")
    folder(tmp_path / "test", classes="abz", each=2)
    assert error(tmp_path) == ("FOLDER/test: expected classes that the training data have, got 'z' in 2 of 6 samples")


def broken_folder(root: Path) -> Path:
    folder(root)
    (root / "b" / "3.png").write_bytes((root / "b" / "3.png").read_bytes()[:90])
    (root / "a" / "2.png").write_bytes(b"")
    return root


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    text = error(broken_folder(tmp_path))
    assert text == (
        "FOLDER: a/2.png cannot be read: the file is empty (2 such files); --skip-broken leaves such files out"
    )


def test_broken_files_are_skipped_when_asked(tmp_path: Path) -> None:
    data = loaded(broken_folder(tmp_path), skip_broken=True)
    assert len(data.train) + len(data.test) == 10  # type: ignore[arg-type]
    assert table(data)["skipped"] == "2 broken files: a/2.png, b/3.png"
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"")
    assert error(tmp_path, skip_broken=True) == "FOLDER: expected a file that can be read, got none of 12"


def test_options_for_tables_are_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    assert error(tmp_path, target="x") == "FOLDER: `target` needs a table metadata.csv in the folder, got none"
    assert error(tmp_path, weight="x") == "FOLDER: `weight` must not be given with images"


def test_imbalance_is_said(tmp_path: Path) -> None:
    folder(tmp_path, each=4)
    folder(tmp_path, classes="b", each=40, size=(9, 9))
    assert table(loaded(tmp_path))["imbalance"] == "the largest class has 10.7 times the smallest"


# Sizes, colours, memory


def test_sizes_and_colours_that_differ(tmp_path: Path) -> None:
    root = folder(tmp_path, each=5, size=(70, 90))
    for name in "ab":
        save(root / name / "grey.png", pixels(3, (200, 100), channels=1))
    data = loaded(root)
    assert data.input_shape == (3, 64, 64)
    assert table(data)["images"] == "70 to 200 x 90 to 100 pixels, colour, with 2 grey images among 12"


def test_grey_folders_have_one_channel_and_are_not_flipped(tmp_path: Path) -> None:
    data = loaded(folder(tmp_path / "grey", channels=1, size=(16, 16)))
    assert data.input_shape == (1, 16, 16)
    assert table(data)["augmentation"] == "shifts by up to 2 pixels"
    colour = loaded(folder(tmp_path / "colour", size=(16, 16)))
    assert table(colour)["augmentation"] == "shifts by up to 2 pixels and flips"


def test_the_size_can_be_said(tmp_path: Path) -> None:
    assert loaded(folder(tmp_path), image_size=20).input_shape == (3, 20, 20)


def test_what_does_not_fit_into_memory_is_read_from_files(tmp_path: Path) -> None:
    root = folder(tmp_path)
    stored, files = loaded(root), loaded(root, memory=0)
    assert table(files)["reading"].startswith("decoded when read")
    for one, other in ((stored.train, files.train), (stored.test, files.test)):
        assert (one.reads_files, other.reads_files) == (False, True)  # type: ignore[attr-defined]
        for i in range(len(one)):  # type: ignore[arg-type]
            torch.manual_seed(i)
            expected = one[i]
            torch.manual_seed(i)
            assert torch.equal(other[i][0], expected[0])
            assert other[i][1] == expected[1]


def test_each_picture_that_is_kept_in_memory_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []

    def counted(content: Any, form: PixelFormat) -> torch.Tensor:
        decoded.append(content)
        return pixels_of(content, form)

    monkeypatch.setattr("letsam.data.pictures.pixels_of", counted)
    loaded(folder(tmp_path))
    assert len(decoded) == len(set(decoded)) == 12


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    data = loaded(folder(tmp_path / "images"), memory=0)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(DataError, match=r"^[ab]/\d.png: cannot be read as a picture \(.*No such file"):
        data.train[0]


# Preparation


def test_the_preparation_reads_new_files_in_the_same_way(tmp_path: Path) -> None:
    data = loaded(folder(tmp_path / "images"), augment="none")
    data.preparation.save(tmp_path / "saved")
    again = load_preparation(tmp_path / "saved")
    assert again.classes == ("a", "b")
    assert json.loads((tmp_path / "saved" / "preparation.json").read_text())["modality"] == "image"
    inputs = again.read(str(tmp_path / "images"))
    assert inputs.names[:2] == ["a/0.png", "a/1.png"]  # type: ignore[attr-defined]
    expected = {data.train[i][0].numpy().tobytes() for i in range(len(data.train))}  # type: ignore[arg-type]
    expected |= {data.test[i][0].numpy().tobytes() for i in range(len(data.test))}  # type: ignore[arg-type]
    assert {inputs[i].numpy().tobytes() for i in range(len(inputs))} == expected  # type: ignore[arg-type]
    one = again.read(str(tmp_path / "images" / "b" / "3.png"))
    assert (len(one), one[0].numpy().tobytes() in expected) == (1, True)  # type: ignore[arg-type]
    assert len(one) == len(list(one))  # type: ignore[arg-type]


def test_the_preparation_of_what_is_no_image(tmp_path: Path) -> None:
    preparation = loaded(folder(tmp_path / "images")).preparation
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="expected images, got none"):
        preparation.read(str(tmp_path / "other"))
    with pytest.raises(DataError, match="no such file or folder"):
        preparation.read(str(tmp_path / "nowhere"))
    (tmp_path / "other" / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"^x.png: cannot be read as a picture"):
        preparation.read(str(tmp_path / "other"))[0]


def test_the_data_are_a_task(tmp_path: Path) -> None:
    from letsam.data import data_task
    from letsam.models import ModelOptions

    task = data_task(DataOptions(path=str(folder(tmp_path / "images"))), ModelOptions())
    assert isinstance(task, Task)
    assert task.model()(torch.stack([task.test[0][0]])).shape == (1, 2)
    assert dataclasses.replace(task, epochs=1).preparation is task.preparation


def test_a_pretrained_model_says_size_and_scale(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "model").mkdir()
    processor = {"size": {"height": 24, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.1]}
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    root = folder(tmp_path / "images", channels=1)
    data = loaded(root, pretrained=str(tmp_path / "model"), augment="none")
    assert data.input_shape == (3, 24, 32)
    pixels = data.train.pixels[0]  # type: ignore[attr-defined]
    expected = [(pixels[c].float() / 255 - processor["image_mean"][c]) / processor["image_std"][c] for c in range(3)]  # type: ignore[index]
    assert torch.allclose(data.train[0][0], torch.stack(expected), atol=1e-6)
    timm = loaded(root, pretrained="timm:resnet18", image_size=48)
    assert timm.input_shape == (3, 48, 48)
    assert timm.preparation.scale.mean == (0.485, 0.456, 0.406)  # type: ignore[attr-defined]
