"""The commands and the code of the pages on models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import letsam
from letsam.cli import run
from letsam.model_folder.manifest import FORMAT
from letsam.models import MODELS, DataDescription, ModelOptions, choose
from page_code import ROOT, blocks_of, commands_of, run_code

HOW_TO, FOLDER = "docs/how-to/models.md", "docs/model-folder.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("letsam.reports.html.write_report", lambda results, path, *_: path.write_text("page"))
    return tmp_path


def commands(page: str) -> list[list[str]]:
    return commands_of((ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_how_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, code = blocks_of(HOW_TO)
    run_code(table, HOW_TO, {})
    wine = [command for command in commands(HOW_TO) if "wine" in " ".join(command)]
    assert [command[0] for command in wine] == ["train", "predict", "trial"]
    for command in wine:
        assert run(command) == 0, capsys.readouterr().err
    assert len(Path("predictions.csv").read_text().splitlines()) == 179
    names = run_code(code, HOW_TO, {})
    assert names["model"].classes == ("Barbera", "Barolo", "Grignolino")
    assert isinstance(names["network"], torch.nn.Module)
    assert names["model"].results.config["found_lr"] > 0
    best = letsam.load("runs/wine-trial")
    assert (best.folder / best.config["exported"]).is_file()
    results = json.loads(Path("runs/wine-trial/results.json").read_text())
    assert results["config"]["refit_best"]["chosen_by"] == best.config["chosen_by"]


def test_the_page_of_the_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = commands(FOLDER)
    assert run(command) == 0
    (code,) = blocks_of(FOLDER)
    model = run_code(code, FOLDER, {})["model"]
    page = (ROOT / FOLDER).read_text(encoding="utf-8")
    for field in model.config:
        assert f"`{field}`" in page
    files = {path.relative_to(model.folder).parts[0] for path in model.folder.iterdir()}
    for name in files:
        assert f"`{name}`" in page
    assert f'"{FORMAT}"' in page


def test_the_names_and_defaults_of_the_page() -> None:
    page = (ROOT / HOW_TO).read_text(encoding="utf-8")
    which = page.split("## Which model")[1].split("## ")[0]
    for models in MODELS.values():
        for name in models:
            assert f"`{name}`" in which
    table = page.split("| model | optimizer |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    shapes = {"rows": ("table", (4,)), "images": ("image", (3, 32, 32)), "tokens": ("text", (8,))}
    for form, (modality, shape) in shapes.items():
        data = DataDescription(modality=modality, samples=100, outputs=2, input_shape=shape, vocabulary=9)
        for name in MODELS[form]:
            marker = "`resnet` (tables)" if (form, name) == ("rows", "resnet") else f"`{name}`"
            matching = [row for row in rows if marker in row[0]]
            (row,) = [r for r in matching if (form == "rows") == ("(tables)" in r[0])] if name == "resnet" else matching
            default = choose(data, ModelOptions(name=name)).optimizer
            assert row[1:] == [f"`{default.name}`", f"{default.lr:g}", f"{default.weight_decay:g}"]  # type: ignore[attr-defined]
