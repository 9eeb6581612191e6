"""Where a model is: every place that a MODEL argument may name, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import letsam
from letsam.cli import run
from letsam.model_folder import ModelFolderError, model_place
from letsam.model_folder.model_places import set_current, version_name, versions_in


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "run"
    options = ("--method", "sam", "--epochs", "1", "--train-size", "200", "--out", str(folder))
    assert run(["train", "digits", *options]) == 0
    return folder


@pytest.fixture
def versions(out: Path, tmp_path: Path) -> Path:
    for number in (2, 1, 10):
        shutil.copytree(out / "model", tmp_path / version_name(number))
    (tmp_path / "v0003").write_text("a file")
    (tmp_path / "retunes").mkdir()
    set_current(tmp_path, tmp_path / "v0002")
    return tmp_path


def test_a_model_has_three_kinds_of_places(out: Path, versions: Path) -> None:
    assert model_place(out) == model_place(str(out / "model")) == out / "model"
    assert list(versions_in(versions)) == [1, 2, 10]
    assert model_place(versions) == versions / "v0002"
    set_current(versions, versions / "v0010")
    assert model_place(versions) == versions / "v0010"
    assert letsam.load(versions).folder == versions / "v0010"
    assert model_place(versions / "v0001") == versions / "v0001"


def test_a_current_version_that_is_another_model_is_refused(versions: Path) -> None:
    manifest = versions / "v0002" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(ModelFolderError, match=r"v0002: is another model than current\.json names"):
        model_place(versions)
    shutil.rmtree(versions / "v0002")
    with pytest.raises(ModelFolderError, match=r"v0002: current\.json names this version, but it is missing"):
        letsam.load(versions)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "../v0001", "fingerprint": ""}', '{"version": 3}'])
def test_another_file_in_its_place_is_refused(versions: Path, text: str) -> None:
    (versions / "current.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"current\.json: expected the name of a version and its fingerprint"):
        model_place(versions)


def test_versions_without_a_current_one(versions: Path) -> None:
    (versions / "current.json").unlink()
    with pytest.raises(ModelFolderError, match=r"expected current\.json, which names the current version"):
        model_place(versions)


def test_the_command_line_takes_a_folder_of_versions(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(versions), "x.csv"]) == 2
    assert "the task 'digits', which is no file of data, takes none" in capsys.readouterr().err
    assert json.loads((versions / "current.json").read_text())["version"] == "v0002"
