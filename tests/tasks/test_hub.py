"""Data sets of the hub: where their files are, and what is said when they are not there."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from letsam.tasks import TaskError, load_task
from letsam.tasks.hub import load_splits

datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.delenv("LETSAM_DATA", raising=False)


# Where data come from


def splits(**options: Any) -> Any:
    return load_splits("uoft-cs/cifar10", ("train", "test"), ("img", "label"), folder_name="cifar10", **options)


def test_configurations_are_folders_or_named_in_the_readme(tmp_path: Path) -> None:
    for name, text in (("cola", "a"), ("sst2", "b")):
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            rows = datasets.Dataset.from_dict({"sentence": [text], "label": [0]})
            rows.to_parquet(tmp_path / name / f"{split}-00000-of-00001.parquet")
    load = partial(load_splits, "nyu-mll/glue", ("train", "validation"), ("sentence", "label"), folder_name="glue")
    assert load(data_dir=tmp_path, config="sst2")[1]["sentence"][:] == ["b"]
    (tmp_path / "cola").rename(tmp_path / "one")
    files = "".join(f"\n  - split: {split}\n    path: one/{split}-*" for split in ("train", "validation"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: cola\n  data_files:{files}\n---\n")
    assert load(data_dir=tmp_path, config="cola")[0]["sentence"][:] == ["a"]


@pytest.mark.parametrize("clone", [False, True], ids=["plain", "with a README"])
def test_splits_whose_names_begin_alike_stay_apart(tmp_path: Path, clone: bool) -> None:
    names = ("train", "validation", "validation_matched", "validation_mismatched")
    (tmp_path / "mnli").mkdir()
    for name in names:
        rows = datasets.Dataset.from_dict({"premise": [name], "label": [0]})
        rows.to_parquet(tmp_path / "mnli" / f"{name}-00000-of-00001.parquet")
    if clone:
        files = "".join(f"\n  - split: {name}\n    path: mnli/{name}-*" for name in names)
        (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: mnli\n  data_files:{files}\n---\n")
    found = load_splits(
        "nyu-mll/glue", names[1:], ("premise", "label"), folder_name="glue", data_dir=tmp_path, config="mnli"
    )
    assert [rows["premise"][:] for rows in found] == [[name] for name in names[1:]]


def test_a_readme_names_the_files_that_are_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "mnli").mkdir()
    for name in ("one", "two"):
        (tmp_path / "mnli" / f"{name}.csv").write_text(f"premise,label\n{name},0\n")
    pairs = (("train", "one"), ("validation_matched", "two"))
    files = "".join(f"\n  - split: {split}\n    path: mnli/{name}.csv" for split, name in pairs)
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: mnli\n  data_files:{files}\n---\n")
    found = load_splits(
        "nyu-mll/glue",
        [split for split, _ in pairs],
        ("premise",),
        folder_name="glue",
        data_dir=tmp_path,
        config="mnli",
    )
    assert [rows["premise"][:] for rows in found] == [["one"], ["two"]]


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"img": [1, 2], "label": [0, 1]})
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "cifar10")
    assert splits(data_dir=tmp_path)[1]["label"][:] == [0, 1]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: None, r"must be a folder with the files of cifar10, got .*data$"),
        (lambda folder: folder.mkdir(), r"data: cannot be read as the data set uoft-cs/cifar10 \(EmptyDatasetError"),
        (
            lambda folder: (folder.mkdir(), (folder / "train.parquet").write_bytes(b"PAR1 no")),
            r"data: cannot be read as",
        ),
        (
            lambda folder: (folder.mkdir(), (folder / "train.csv").write_text("img,label\n1,2\n")),
            r"data: expected the splits train, test, got train$",
        ),
        (
            lambda folder: (
                folder.mkdir(),
                [(folder / f"{part}.csv").write_text("image,label\n1,2\n") for part in ("train", "test")],
            ),
            r"data: expected the columns img, label in train, got image, label$",
        ),
    ],
    ids=["missing", "empty", "damaged", "split", "column"],
)
def test_folders_that_are_no_such_data_set(tmp_path: Path, write: Any, message: str) -> None:
    write(tmp_path / "data")
    with pytest.raises(TaskError, match=message) as caught:
        splits(data_dir=tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_the_hub_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for module in (datasets.config, pytest.importorskip("huggingface_hub").constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError) as caught:
        load_task("cifar10")
    message = str(caught.value)
    assert message.startswith("cannot load uoft-cs/cifar10 from the Hugging Face hub (ConnectionError: ")
    assert message.endswith("give a folder with its files as `data_dir` (--data-dir), or as cifar10 in LETSAM_DATA")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


def test_datasets_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        TaskError, match=r'`cifar10` needs the package datasets; install it with `pip install "letsam\['
    ):
        load_task("cifar10")
