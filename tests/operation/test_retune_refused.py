"""What `letsam retune` refuses, in one line and before anything is written; and what it takes in its stride."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

import warm
from cli_cases import check_error, files
from letsam.cli import run
from letsam.model_folder import version_of
from letsam.model_folder.manifest import write_manifest
from picture_files import folder as pictures
from retune_cases import QUICK, champion, content, wines


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    champion(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs `letsam retune`, which must say why not, and leave all files as they are."""

    def call(*arguments: str, message: str) -> None:
        before = files(here)
        capsys.readouterr()
        check_error((run(["retune", *arguments, *QUICK]), *capsys.readouterr()), message)
        assert files(here) == before
        assert not (here / "wine-versions").exists()

    return call


def written(frame: pandas.DataFrame) -> str:
    frame.to_csv("other.csv", index=False)
    return "other.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="hue"), r"other\.csv: expected the columns .*, got none of the name 'hue'"),
        (lambda f: f.rename(columns={"target": "kind"}), r"other\.csv: `target` must name one of its columns"),
        (lambda f: f.assign(hue="blue"), r"other\.csv: expected numbers in 'hue', got 'blue'"),
        (lambda f: f.replace({"target": {"Barolo": "Merlot"}}), r"has the class 'Merlot', which no training row has"),
        (lambda f: f[:0], r"other\.csv: expected a table with a header and rows, got no rows"),
        (lambda f: f[:1], r"other\.csv: "),
    ],
)
def test_data_of_another_form(change: Callable[[Any], pandas.DataFrame], message: str, refused: Any) -> None:
    name = written(change(wines(drifted=True)[90:]))
    refused("wine", name, message=message)
    if "other" in message and len(change(wines()[90:])) > 1:
        refused("wine", "new.csv", "--old", name, message=message)


def test_data_that_are_not_there_or_of_another_kind(refused: Any, here: Path) -> None:
    refused("wine", "nowhere.csv", message=r"nowhere\.csv: expected a file or folder of data, but there is none")
    refused("wine", "digits", message="digits: expected a file or folder of data, but there is none")
    pictures(here / "images")
    refused(
        "wine", "images", message="images: expected data of the kind table, which the model was trained on, got image"
    )
    (here / "empty.csv").write_text("")
    refused("wine", "empty.csv", message=r"empty\.csv: expected a table with a header and rows, got an empty file")
    refused("wine", "new.csv", "--test", "new.csv", message="expected test data that are not trained on")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--radius", "anew"), r"`radius` must be .*fresh.*continue.*, got 'anew'"),
        (("--epochs", "0"), "`epochs` must be a whole number >= 1, got 0"),
        (("--lr", "-1"), "`lr` must be > 0, got -1"),
        (("--seeds", "2"), "`seeds` must be at least 3, as fewer show nothing, got 2"),
        (("--minimum-effect", "-1"), "`minimum_effect` must be .*>= 0.*, got -1"),
        (("--validation-share", "1.5"), r"`validation_share` must be between 0 and 1, got 1\.5"),
        (("--evaluate-shift", "fog"), "fog"),
        (("--device", "tpu"), "`device` must be"),
        (("--language", "jp"), "`language` must be .*ja.*, got 'jp'"),
    ],
)
def test_options_out_of_range(options: tuple[str, ...], message: str, here: Path, capsys: Any) -> None:
    before = files(here)
    arguments = [*QUICK, *options]
    check_error((run(["retune", "wine", "new.csv", *arguments]), *capsys.readouterr()), message)
    assert files(here) == before


def test_a_model_that_is_none_or_was_changed(refused: Any, here: Path) -> None:
    refused("nowhere", "new.csv", message="nowhere: expected the folder of a model, but there is none")
    weights = here / "wine" / "model" / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    refused("wine", "new.csv", message=r"weights\.safetensors: was changed after letsam wrote it")
    weights.write_bytes(kept)
    manifest = here / "wine" / "model" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace("letsam model 1", "letsam model 2"))
    refused("wine", "new.csv", message="expected the format 'letsam model 1', got 'letsam model 2'; another version of")
    manifest.write_text(text)
    config = here / "wine" / "model" / "results.json"
    values = json.loads(config.read_text())
    values["config"]["methods"] = ["of-a-later-letsam"]
    config.write_text(json.dumps(values))
    write_manifest(here / "wine" / "model")
    refused("wine", "new.csv", message="expected a model with the options of its run, got .*of-a-later-letsam")


def test_a_radius_that_could_go_on_is_needed(here: Path, capsys: Any, tmp_path: Path) -> None:
    champion(here, "sgd")
    before = files(here)
    result = run(["retune", "wine", "new.csv", *QUICK, "--radius", "continue"]), *capsys.readouterr()
    check_error(result, "`radius` must be fresh, as the model was trained without a radius that could go on")
    assert files(here) == before
    assert run(["retune", "wine", "new.csv", *QUICK]) in (0, 1)
    results = content(here / "wine-versions" / "retunes" / "v0002" / "results.json")
    assert results["config"]["retune"]["roles"] == {"sgd": "base optimizer", "lets-sam:0.05": "re-tuned radius"}


def test_a_folder_with_the_versions_of_another_model(here: Path, capsys: Any) -> None:
    assert run(["retune", "wine", "new.csv", *QUICK]) in (0, 1)
    champion(here, "sgd")
    before = files(here)
    capsys.readouterr()
    result = run(["retune", "wine", "new.csv", *QUICK]), *capsys.readouterr()
    check_error(result, "wine-versions: expected the versions of wine/model, but none of them is this model")
    assert files(here) == before


def test_two_at_once(here: Path, capsys: Any) -> None:
    script = "import time\nimport letsam.operation.retuning as r\nfrom letsam.cli import run\n"
    script += "record = r.RetuneRuns.rehearse\n"
    script += "def rehearse(self):\n    open('begun', 'w').close()\n    time.sleep(60)\n"
    script += "r.RetuneRuns.rehearse = rehearse\nrun(['retune', 'wine', 'new.csv', '--seeds', '3'])\n"
    (here / "slow.py").write_text(script)
    first = warm.start("slow.py")
    deadline = time.monotonic() + 60
    while not (here / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    before = files(here)
    result = run(["retune", "wine", "new.csv", *QUICK]), *capsys.readouterr()
    check_error(result, r"wine-versions: process \d+ on .* writes to this folder; wait until it has ended")
    assert files(here) == before
    first.process.kill()
    first.process.join()
    assert run(["retune", "wine", "new.csv", *QUICK]) in (0, 1)  # the lock of a killed process is none


def test_a_clock_that_jumps_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letsam.operation.promotion.Promotion.verdict", "go")
    assert run(["retune", "wine", "new.csv", *QUICK]) == 0
    real, wall = time.gmtime, time.time
    monkeypatch.setattr(time, "gmtime", lambda *_: real(0))
    monkeypatch.setattr(time, "time", lambda: wall() - 1e8)
    assert run(["retune", "wine-versions", "new.csv", *QUICK]) == 0
    second, third = (version_of(here / "wine-versions" / name) for name in ("v0002", "v0003"))
    assert second is not None
    assert third is not None
    assert third.created == "1970-01-01T00:00:00Z" < second.created
    assert content(here / "wine-versions" / "current.json")["version"] == "v0003"
    assert (second.version, third.version) == (2, 3)
    assert re.fullmatch(r"[0-9a-f]{64}", str(third.parent))


def test_several_ranks(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric import Fabric

    monkeypatch.setattr(Fabric, "world_size", 2)
    refused("wine", "new.csv", message="a model is re-tuned by one process, got 2 under torchrun")
