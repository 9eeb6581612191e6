"""What runs, audits and readers of data record in English is shown in Japanese. The code that records it runs here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import letsam
from letsam.data import DataOptions
from letsam.data.as_task import data_task
from letsam.languages import speaking
from letsam.model_folder.winner import winner_of
from letsam.models import ModelOptions
from letsam.radius.validation_guard import FAULTS, ValidationGuard
from letsam.reports.recorded_sentences import audit_text, chosen_text, inferred_text, radius_text, sample_name
from letsam.tasks import load_task
from letsam.validation import audit, shifted, split
from report_cases import trial
from report_languages import WORDS
from validation.test_audit import parts

pytest.importorskip("babel")


def check_japanese(recorded: str, said: str) -> None:
    assert any(ord(letter) > 0x3000 for letter in said), recorded
    assert not WORDS.search("".join(part for i, part in enumerate(said.split("`")) if not i % 2)), said
    digits = [[c for c in text if c.isdigit()] for text in (recorded, said)]
    assert sorted(digits[0]) == sorted(c for c in digits[1]), (recorded, said)


def test_warnings_of_radii(monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(radius: letsam.LearnedRadius) -> str:
        weight = torch.nn.Parameter(torch.ones(2))
        text = letsam.radius_warning(letsam.SAM(torch.optim.SGD([weight], lr=0.1), radius))
        assert text is not None
        return text

    texts = [warning(letsam.LearnedRadius(10.0)), warning(letsam.LearnedRadius(1e-4))]
    for fault in FAULTS:
        monkeypatch.setattr(ValidationGuard, "fault", property(lambda _, fault=fault: fault))
        texts.append(warning(letsam.LearnedRadius(0.05)))
    assert len(set(texts)) == 2 + len(FAULTS)
    with speaking("ja"):
        for text in texts:
            check_japanese(text, radius_text(text))


def test_what_chose_a_model() -> None:
    for methods in ({"sgd": [0.7]}, {"sgd": [0.7], "sam": [0.8]}, {"sgd": [0.7, 0.7], "sam": [0.8, 0.8]}):
        for lower in (False, True):
            results = trial(methods)
            runs = tuple(dataclasses.replace(run, lower_is_better=lower) for run in results.runs)
            text = winner_of(dataclasses.replace(results, runs=runs)).chosen_by
            with speaking("ja"):
                said = chosen_text(text)
                assert any(ord(letter) > 0x3000 for letter in said)
                assert not WORDS.search(said)
                assert "正解率" in said or "test" not in text


def audits() -> list[Any]:
    """Audits that find every kind of fault."""

    def examined(train: Any, validation: Any, deployed: Any = None, **options: Any) -> Any:
        options = {"probe": False, **options}
        return audit(TensorDataset(*train), TensorDataset(*validation), deployed, **options)

    train, validation = parts()
    groups = [f"user {i % 50}" for i in range(225)], [f"user {i}" for i in range(49, 124)]
    times = torch.arange(225.0), torch.arange(220.0, 295.0)
    targets = validation[1].clone()
    targets[::5] = (targets[::5] + 1) % 3
    found = [examined(train, (validation[0], targets), groups=groups), examined(train, validation, times=times)]
    names = [f"row {i}" for i in range(225)], ["a.png", *(f"row {i}" for i in range(74))]
    for wrong, called in ((2 - train[1][9], (None, None)), (train[1][9], names)):
        repeated = [part.clone() for part in validation]
        repeated[0][0], repeated[1][0] = train[0][9], wrong
        found.append(examined(train, tuple(repeated), names=called))
    found.append(examined(train, (validation[0] * 1.6, validation[1])))
    most = validation[1] != 0
    found.append(examined(train, (validation[0][most], validation[1][most])))
    found += [examined(train, tuple(part[:few] for part in validation), probe=True) for few in (6, 20)]
    digits = load_task("digits")
    assert isinstance(digits.train, TensorDataset)
    kept, held = split(digits.train, 0.2, seed=1)
    near = [part.clone() for part in digits.train[held.tolist()]]
    near[0][[5, 6]] = digits.train[kept.tolist()][0][[40, 40]] + 0.01
    found.append(examined(digits.train[kept.tolist()], tuple(near), shifted(digits.test, "noise:3", seed=2)))
    return found


@pytest.mark.slow
def test_findings_of_audits() -> None:
    findings = [one for found in audits() for one in found]
    codes = {"duplicates", "near-duplicates", "group-leakage", "time-leakage", "label-shares", "wrong-labels"}
    assert {one.code for one in findings} == codes | {"validation-differs", "deployed-differs", "validation-too-small"}
    with speaking("ja"):
        for one in findings:
            for text in (one.what, one.change):
                said = audit_text(text)
                assert any(ord(letter) > 0x3000 for letter in said), text
                assert not WORDS.search(said.replace("user", "")), said
            for name in one.samples:
                assert sample_name(name) != name or name.startswith("user"), name
        assert sample_name("scan (1).png") == "scan (1).png"


def table(folder: Path, **options: Any) -> Path:
    random = np.random.default_rng(0)
    rows = 60
    frame = pd.DataFrame(
        {
            "age": random.integers(20, 80, rows).astype(float),
            "site": random.choice(["north", "south"], rows),
            "day": pd.date_range("2025-01-01", periods=rows).astype(str),
            "number": np.arange(rows),
            "same": 1,
            "outcome": (random.random(rows) < 0.15).astype(int),
            "score": random.normal(size=rows),
            "said": [f"a sentence with some words number {i} in it" for i in range(rows)],
            **options,
        }
    )
    frame.loc[:3, "age"] = np.nan
    frame.loc[5, "outcome"] = np.nan
    frame.to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


def rows_of(path: Path, **options: Any) -> list[tuple[str, str]]:
    return list(data_task(DataOptions(path=str(path), **options), ModelOptions(name="auto")).inferred)


OWN = ("north", "south", "age", "site", "day", "number", "outcome", "score", "said", "same")


@pytest.mark.parametrize(
    "options",
    [
        {"target": "outcome", "drop": ("score",), "balance": True},
        {"target": "score", "time": "day", "drop": ("outcome",)},
        {"target": "outcome", "text": "said", "group": "site"},
    ],
    ids=["classes", "numbers", "texts"],
)
def test_rows_about_tables(tmp_path: Path, options: dict[str, Any]) -> None:
    path = table(tmp_path)
    if "group" in options:
        table(tmp_path, site=[f"ward {i % 12}" for i in range(60)])
    rows = rows_of(path, **options)
    assert len(rows) > 6
    check_rows(rows, str(path))


def test_rows_about_images_and_arrays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            shape = (16, 16) if i < 2 else (16, 16, 3)
            Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8)).save(tmp_path / f"images/{name}/{i}.png")
    (tmp_path / "images" / "notes.txt").write_text("x")
    x = random.normal(size=(40, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "arrays.npz", x=x, y=np.arange(40) % 2)
    check_rows(rows_of(tmp_path / "images"), str(tmp_path))
    check_rows(rows_of(tmp_path / "arrays.npz"), str(tmp_path))


def check_rows(rows: list[tuple[str, str]], place: str) -> None:
    """Labels are translated, and so are values with words in them; what is the user's own stays."""
    with speaking("ja"):
        for row in rows:
            what, value = inferred_text(*row)
            assert any(ord(letter) > 0x3000 for letter in what), row
            own = value.replace(place, "")
            for name in (*OWN, "cat", "dog"):
                own = own.replace(name, "")
            assert not WORDS.search(own), row
            assert [c for c in row[1] if c.isdigit()] == [] or any(c.isdigit() for c in value)


def test_names_of_the_user_are_no_messages() -> None:
    with speaking("ja"):
        assert inferred_text("task", "classification of target, told from its values") == (
            "タスク",
            "分類（target）、値から判断",
        )
        assert inferred_text("classes", "2: accuracy 3, loss 1") == ("クラス", "2: accuracy 3, loss 1")
        assert inferred_text("metric", "accuracy; also F1, log loss, AUROC") == (
            "評価指標",
            "正解率。ほかに F1、対数損失、AUROC",
        )
