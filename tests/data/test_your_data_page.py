"""The commands of docs/how-to/your-data.md on images, recordings, arrays and data sets, run on real data."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from letsam.cli import run
from letsam.results import Results
from page_code import commands_of, run_code, section_of

PAGE = "docs/how-to/your-data.md"
SHORT = ("--epochs", "3", "--seeds", "1", "--no-refit")  # of a trial


def commands(title: str) -> list[list[str]]:
    return commands_of(section_of(PAGE, title))


def results(path: str) -> Results:
    return Results.load(f"{path}/results.json")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("report"))


def predictions() -> list[dict[str, str]]:
    return list(csv.DictReader(Path("predictions.csv").read_text(encoding="utf-8").splitlines()))


def data_folder(name: str) -> Path:
    for root in (os.environ.get("LETSAM_DATA"), "/usr/share/datasets", "/usr/share"):
        if root and (Path(root) / name).is_dir():
            return Path(root) / name
    pytest.skip(f"{name} is not there")


@pytest.mark.data
def test_images(tmp_path: Path) -> None:
    from letsam.tasks import load_task

    data_folder("fashion-mnist")
    task = load_task("fashion-mnist", train_size=200)
    for part, dataset, count in (("train", task.train, 200), ("test", task.test, 100)):
        inputs, targets = (tensor[:count] for tensor in dataset.tensors)  # type: ignore[attr-defined]
        grey = ((inputs - inputs.min()) / (inputs.max() - inputs.min()) * 255).byte().reshape(-1, 28, 28).numpy()
        for i, (pixels, target) in enumerate(zip(grey, targets.tolist(), strict=True)):
            name = {4: "coat", 8: "bag"}.get(target, f"class-{target}")
            (tmp_path / "fashion" / part / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "fashion" / part / name / f"{i}.png")
    trial, predict = commands("Images")
    assert run([*trial, *SHORT]) == 0
    found = results("runs/fashion")
    assert {one.method for one in found.runs} == {"sgd", "sam", "lets-sam"}
    assert max(one.test_accuracy for one in found.runs) > 0.2  # of 10 classes
    assert dict(map(tuple, found.inferred))["images"] == "28 x 28 pixels, grey"
    assert run(predict) == 0
    rows = predictions()
    assert [row["sample"] for row in rows] == sorted(path.name for path in Path("fashion/test/coat").iterdir())


@pytest.mark.data
def test_recordings(tmp_path: Path) -> None:
    """Three languages; the recordings of one as .wav files."""
    soundfile = pytest.importorskip("soundfile")
    source = data_folder("klettres")
    for language in ("de", "ru", "it"):
        for path in sorted((source / language).glob("alpha/*.ogg"))[:20]:
            place = tmp_path / "klettres" / language / "alpha" / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if language == "de":
                soundfile.write(place.with_suffix(".wav"), *soundfile.read(path))
            else:
                shutil.copy(path, place)
    train, predict = commands("Recordings")
    assert run([*train, "--epochs", "6"]) == 0
    (found,) = results("runs/languages").runs
    assert found.test_accuracy > 0.4  # of 3 classes
    assert run(predict) == 0
    rows = predictions()
    assert {row["prediction"] for row in rows} <= {"de", "ru", "it"}
    assert rows[0]["sample"].endswith(".wav")


def code(title: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", section_of(PAGE, title), re.S)
    return found


def test_arrays() -> None:
    pytest.importorskip("sklearn")
    run_code(code("Arrays"), PAGE, {})
    (trial,) = commands("Arrays")
    assert run([*trial, "--epochs", "1", *SHORT[2:]]) == 0
    assert max(one.test_accuracy for one in results("runs/digits").runs) > 0.15  # of 10 classes


def test_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names: dict[str, Any] = run_code(code("Data sets of the Hugging Face hub"), PAGE, {})
    assert len(names["table"]) == 1797
    (trial,) = commands("Data sets of the Hugging Face hub")
    assert run([*trial, "--epochs", "1", *SHORT[2:]]) == 0
    assert max(one.test_accuracy for one in results("runs/hub").runs) > 0.12  # of 10 classes


def test_the_sides_that_the_page_names() -> None:
    from letsam.data.image_folders import LARGEST, SIDES

    named = re.search(r"largest of ([\d, and]+)", " ".join(section_of(PAGE, "Images").split()))
    assert named is not None
    assert [int(number) for number in re.findall(r"\d+", named[1])] == sorted(SIDES)
    assert max(SIDES) == LARGEST
