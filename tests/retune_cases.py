"""A model of wines and new wines that differ, for the tests of re-tuning and versions."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas
from sklearn.datasets import load_wine

from cli_cases import files
from letsam.cli import run
from letsam.results import Results
from training_cases import without_seconds

NAMES = {0: "Barolo", 1: "Grignolino", 2: "Barbera"}
QUICK = ("--seeds", "3", "--epochs", "1")
ENOUGH = ("--seeds", "3", "--epochs", "5", "--lr", "0.01")  # to learn the wines that differ


def wines(drifted: bool = False) -> pandas.DataFrame:
    """All wines in a random order; the drifted ones were measured by instruments with another zero."""
    frame = load_wine(as_frame=True).frame.sample(frac=1.0, random_state=1).reset_index(drop=True)
    frame["target"] = frame["target"].map(NAMES)
    if drifted:
        for name in ("alcohol", "proline", "flavanoids", "hue", "color_intensity"):
            frame[name] = frame[name].max() + frame[name].min() - frame[name]
    return frame


@functools.cache
def _trained(method: str) -> tempfile.TemporaryDirectory[str]:
    """A folder with old.csv, new.csv and the results `wine` of a run; it is removed with the tests."""
    folder = tempfile.TemporaryDirectory(prefix="letsam-test-")
    place = Path(folder.name)
    wines()[:90].to_csv(place / "old.csv", index=False)
    wines(drifted=True)[90:].to_csv(place / "new.csv", index=False)
    with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()):
        options = ("--target", "target", "--method", method, "--epochs", "10", "--out", "wine")
        assert run(["train", "old.csv", *options]) == 0
    return folder


def champion(here: Path, method: str = "lets-sam") -> Path:
    """Put old.csv, new.csv and the results of a trained model into a folder; returns that of the results."""
    shutil.copytree(_trained(method).name, here, dirs_exist_ok=True)
    return here / "wine"


def content(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def state(folder: Path) -> dict[str, Any]:
    """What a re-tuning has written, without the time that it took and when."""
    found: dict[str, Any] = {}
    for name, data in files(folder).items():
        if name == ".letsam.lock":
            continue
        if name.endswith("results.json"):
            found[name] = [without_seconds(one) for one in Results.load(folder / name).runs]
        elif name.endswith(("version.json", "current.json", "retune.json")):
            found[name] = _timeless(content(folder / name))
        elif not name.endswith(("manifest.json", "report.html", "README.md")):
            found[name] = data
        else:
            found[name] = "there"
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("created", "seconds", "parent", "fingerprint")}
    return [_timeless(one) for one in value] if isinstance(value, list) else value
