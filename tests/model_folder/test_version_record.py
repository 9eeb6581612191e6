"""What `version.json` says about a trained model, and the hashes of its data."""

from __future__ import annotations

import datetime
import hashlib
import shutil
from pathlib import Path

import pytest

from letsam.cli import run
from letsam.data import DataError
from letsam.model_folder import ModelFolderError, version_of
from letsam.model_folder.data_hashes import fingerprint_of, hashed_source
from letsam.results import Results
from picture_files import folder as pictures


def train(task: Path | str, out: Path, *options: str) -> Path:
    fixed = ("--method", "lets-sam", "--epochs", "1", "--out", str(out))
    assert run(["train", str(task), *fixed, *options]) == 0
    return out / "model"


def test_a_model_of_a_table(tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    load_wine(as_frame=True).frame.to_csv(tmp_path / "wine.csv", index=False)
    folder = train(tmp_path / "wine.csv", tmp_path / "out", "--target", "target", "--seed", "3")
    record, (measured,) = version_of(folder), Results.load(folder / "results.json").runs
    assert record is not None
    assert (record.version, record.parent, record.made_by, record.verdict) == (1, None, "train", None)
    assert record.seed == 3
    assert record.options["data_options"]["target"] == "target"
    assert record.radius == {"initial": measured.rho_initial, "final": measured.rho_final}
    assert record.numbers["accuracy"] == measured.test_accuracy
    assert record.numbers["loss"] == measured.test_loss
    content = hashlib.sha256((tmp_path / "wine.csv").read_bytes()).hexdigest()
    assert record.data["sources"] == [{"role": "train", "name": str(tmp_path / "wine.csv"), "sha256": content}]
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(record.created)
    assert 0 <= age.total_seconds() < 600


def test_the_fingerprint_of_data_depends_on_what_they_are_and_not_on_where(tmp_path: Path) -> None:
    pictures(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / ".hidden").write_text("")
    one, other = (hashed_source("train", str(tmp_path / name)) for name in ("here", "there"))
    assert fingerprint_of([one]) == fingerprint_of([other])
    assert one["name"] != other["name"]
    assert fingerprint_of([one]) != fingerprint_of([one | {"role": "test"}])
    first = min((tmp_path / "there").rglob("*.png"))
    first.rename(first.with_name("zzz.png"))
    assert hashed_source("train", str(tmp_path / "there"))["sha256"] != one["sha256"]
    first.with_name("zzz.png").rename(first)
    assert hashed_source("train", str(tmp_path / "there"))["sha256"] == one["sha256"]
    content = bytearray(first.read_bytes())
    content[-20] ^= 1
    first.write_bytes(content)
    assert hashed_source("train", str(tmp_path / "there"))["sha256"] != one["sha256"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read: No such file"):
        hashed_source("train", str(tmp_path / "gone.csv"))


def test_a_task_in_code_counts_with_its_record(tmp_path: Path) -> None:
    records = [
        version_of(train("digits", tmp_path / name, "--train-size", size))
        for name, size in (("a", "200"), ("b", "200"), ("c", "210"))
    ]
    first, second, third = (record.data["fingerprint"] for record in records if record is not None)
    assert first == second != third


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}'])
def test_another_file_in_its_place(tmp_path: Path, text: str) -> None:
    assert version_of(tmp_path) is None
    (tmp_path / "version.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"version\.json: expected the record of a version"):
        version_of(tmp_path)
