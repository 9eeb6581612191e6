"""The hashes of a model's files: whatever differs from what was written is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from letsam.model_folder.manifest import MANIFEST, ModelFolderError, check_manifest, fingerprint, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "network").mkdir()
    for name in ("a.json", "b.bin", "network/c.json"):
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path)
    check_manifest(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["a.json", "b.bin", "network/c.json"])
@pytest.mark.parametrize(("change", "message"), [("other", "was changed"), (None, "is missing")])
def test_a_changed_or_missing_file_is_named(folder: Path, name: str, change: str | None, message: str) -> None:
    before = fingerprint(folder)
    if change is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(change)
    with pytest.raises(ModelFolderError, match=message) as caught:
        check_manifest(folder)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    write_manifest(folder)
    assert fingerprint(folder) != before


def test_an_added_file_is_named_but_hidden_files_do_not_count(folder: Path) -> None:
    (folder / ".DS_Store").write_text("")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("")
    check_manifest(folder)
    (folder / "network" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"adapter_config\.json: the manifest does not list this file"):
        check_manifest(folder)


def test_a_file_outside_the_folder_is_not_read(folder: Path) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    content["sha256"]["../secret"] = "0"
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="secret: the manifest lists this file, but it is missing"):
        check_manifest(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"expected a folder that letsam wrote, but it has no manifest\.json"),
        ("{", "expected a manifest, got"),
        ("[]", "expected a manifest, got"),
        ('{"format": "letsam model 99", "sha256": {}}', "expected the format 'letsam model 1', got 'letsam model 99'"),
    ],
)
def test_another_manifest_is_refused(folder: Path, text: str | None, message: str) -> None:
    (folder / MANIFEST).unlink()
    if text is not None:
        (folder / MANIFEST).write_text(text)
    with pytest.raises(ModelFolderError, match=message):
        check_manifest(folder)
