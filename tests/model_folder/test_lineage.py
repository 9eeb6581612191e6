"""`letsam models`: the tree of the versions, what each was made of, and what is changed or missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_cases import files
from letsam.cli import run
from letsam.model_folder import ModelFolderError, version_of
from letsam.model_folder.lineage import lineage
from letsam.model_folder.manifest import fingerprint
from letsam.model_folder.signatures import make_keys, sign_model
from retune_cases import QUICK, champion, content


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions: the second and the fourth of the first, the third of the second, which had the verdict go."""
    folder = tmp_path_factory.mktemp("made")
    champion(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
        patch.setattr("letsam.operation.promotion.Promotion.verdict", "go")
        assert run(["retune", "wine", "new.csv", *QUICK, "--out", "v"]) == 0
        patch.undo()
        patch.chdir(folder)
        patch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
        assert run(["retune", "v", "new.csv", *QUICK, "--lr", "1e-9"]) == 1
        assert run(["retune", "v/v0001", "new.csv", *QUICK, "--lr", "1e-9", "--old", "old.csv"]) == 1
    return folder / "v"


@pytest.fixture
def versions(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "v")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "v"


@pytest.fixture
def letsam_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (run(arguments), *capsys.readouterr())

    return call


def test_the_tree(versions: Path, letsam_run: Any) -> None:
    rows = lineage(versions, verify=True)
    assert [(row.name, row.depth) for row in rows] == [("v0001", 0), ("v0002", 1), ("v0003", 2), ("v0004", 1)]
    assert [row.current for row in rows] == [False, True, False, False]
    assert [row.problem for row in rows] == [None] * 4
    status, out, err = letsam_run("models", "v", "--verify")
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if line.lstrip().startswith("v0")]
    assert [line.split()[0] for line in lines] == ["v0001", "v0002", "v0003", "v0004"]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 2]
    assert "train" in lines[0]
    for name in ("v0001", "v0002"):
        record = version_of(versions / name)
        assert record is not None
        assert record.data["fingerprint"][:8] in out
        assert f"{100 * (record.numbers['accuracy'] or 0):.2f}" in out
        assert f"{record.radius['initial']:.3g} →" in out or record.radius["initial"] is None
    for text in (" go: ", "no-go: ", "current", "unchanged", "new.csv +", "old.csv", " points"):
        assert text in out


def test_the_json(versions: Path, letsam_run: Any) -> None:
    status, out, _ = letsam_run("models", "v", "--json")
    rows = json.loads(out)
    assert status == 0
    assert [row["name"] for row in rows] == ["v0001", "v0002", "v0003", "v0004"]
    assert [row["parent"] for row in rows] == [None, *(rows[i]["fingerprint"] for i in (0, 1, 0))]
    assert rows[1]["fingerprint"] == fingerprint(versions / "v0002")
    assert rows[1]["verdict"]["verdict"] == "go"
    assert rows[2]["verdict"]["verdict"] == "no-go"
    assert rows[3]["data"]["sources"][1]["role"] == "old"
    assert rows[1]["radius"] == content(versions / "v0002" / "version.json")["radius"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: (v / "v0003" / "weights.safetensors").write_bytes(b""), r"v0003/weights\.safetensors: was changed"),
        (lambda v: (v / "v0004" / "radius.json").unlink(), r"v0004/radius\.json: the manifest lists .* is missing"),
        (lambda v: (v / "v0001" / "more.txt").write_text(""), r"v0001/more\.txt: the manifest does not list this file"),
        (lambda v: (v / "v0004" / "manifest.json").unlink(), r"v0004/manifest\.json cannot be read: No such file"),
        (lambda v: (v / "v0003" / "version.json").write_text("{}"), r"v0003/version\.json: expected the record of a"),
    ],
)
def test_what_is_changed_or_missing(change: Any, message: str, versions: Path, letsam_run: Any) -> None:
    change(versions)
    status, out, err = letsam_run("models", "v", "--verify")
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("error: v/")
    assert re.search(message, err), err
    assert out.count("not whole") == 1
    assert sum(line.lstrip().startswith("v0") for line in out.splitlines()) == 4


def test_a_parent_or_the_current_version_that_is_gone(versions: Path, letsam_run: Any) -> None:
    shutil.rmtree(versions / "v0001")
    status, _, err = letsam_run("models", "v")
    assert status == 2
    assert "v/v0002: its parent, with the fingerprint" in err
    assert "is missing; and 1 more of 3 versions" in err
    assert [row.depth for row in lineage(versions)] == [0, 1, 0]
    shutil.rmtree(versions / "v0002")
    with pytest.raises(ModelFolderError, match=r"v0002: current\.json names this version, but it is missing"):
        lineage(versions)


def test_without_verify_nothing_but_the_records_is_read(versions: Path, letsam_run: Any) -> None:
    (versions / "v0003" / "weights.safetensors").write_bytes(b"")
    assert letsam_run("models", "v")[0] == 0


def test_signed_versions(versions: Path, letsam_run: Any) -> None:
    make_keys("a.pem")
    for number in (1, 2, 3):
        sign_model(versions / f"v000{number}", "a.pem")
    status, out, err = letsam_run("models", "v", "--key", "a.pub")
    assert status == 2
    assert "v/v0004: expected a model signed with the key of a.pub, but it is not signed" in err
    assert out.count("not whole") == 1
    sign_model(versions / "v0004", "a.pem")
    assert letsam_run("models", "v", "--key", "a.pub")[0] == 0


def test_a_single_model_and_none(versions: Path, letsam_run: Any) -> None:
    assert [row.name for row in lineage(versions / "v0001")] == ["v0001"]
    status, _, err = letsam_run("models", "nowhere")
    assert status == 2
    assert err.startswith("error: nowhere: expected the folder of a model, but there is none (more: letsam docs ")


def test_rolling_back_and_what_may_not_become_current(versions: Path, letsam_run: Any) -> None:
    status, out, _ = letsam_run("models", "v", "--current", "v0001")
    assert status == 0
    assert content(versions / "current.json")["version"] == "v0001"
    assert letsam_run("models", "v", "--current", "v0002")[0] == 0
    before = files(versions)
    for name, message in (
        ("v0003", "`current` must be a version with the verdict go, got v0003, whose verdict is no-go"),
        ("v0009", "`current` must be a version in v: v0001, v0002, v0003, v0004; got 'v0009'"),
        ("../v", "`current` must be a version in v"),
    ):
        status, out, err = letsam_run("models", "v", "--current", name)
        assert (status, out) == (2, "")
        assert message in err
        assert files(versions) == before
    (versions / "v0001" / "weights.safetensors").write_bytes(b"")
    assert "was changed" in letsam_run("models", "v", "--current", "v0001")[2]
    assert content(versions / "current.json")["version"] == "v0002"
