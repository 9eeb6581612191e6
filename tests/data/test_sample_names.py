"""Samples have names by which they are found again: their files, or their rows in a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from letsam.data import DataOptions, read_data
from letsam.data.as_task import task_of
from letsam.models import ModelOptions


@pytest.mark.parametrize("text", [None, "words"])
def test_rows_of_a_table(text: str | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.random(80), "words": [f"word{i % 9} and word{i % 4}" for i in range(80)]})
    frame["label"] = np.where(frame["x"] > 0.5, "big", "small")
    frame.loc[[3, 20], "label"] = None  # left out: they are rows of the file all the same
    path, held_out = tmp_path / "all.csv", tmp_path / "held_out.csv"
    frame.to_csv(path, index=False)
    data = read_data(DataOptions(path=str(path), target="label", text=text))
    for names, part in ((data.train_names, data.train), (data.test_names, data.test)):
        places = [int(name.removeprefix("row ")) - 1 for name in names]
        assert len(places) == len(part)  # type: ignore[arg-type]
        labels = [data.classes[int(part[i][1])] for i in range(len(places))]
        assert labels == frame["label"].iloc[places].tolist()
    assert not set(data.train_names) & set(data.test_names)
    task = task_of(data, ModelOptions())
    assert (task.train_names, task.test_names) == (data.train_names, data.test_names)

    frame[:30].assign(x=frame["x"] / 2, words=frame["words"] + " more").to_csv(held_out, index=False)
    data = read_data(DataOptions(path=str(path), target="label", text=text, test=str(held_out)))
    assert data.test_names == tuple(f"row {i + 1}" for i in range(30) if i not in (3, 20))
    assert data.train_names == tuple(f"row {i + 1}" for i in range(80) if i not in (3, 20))


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(8):
            brightness = 20 * i + (7 if name == "b" else 0)
            Image.new("RGB", (8, 8), (brightness, brightness, brightness)).save(tmp_path / name / f"{i}.png")
    data = read_data(DataOptions(path=str(tmp_path), augment="none"))
    assert len(data.test_names) == len(data.test)  # type: ignore[arg-type]
    assert len(data.train_names) == len(data.train)  # type: ignore[arg-type]
    for names, part in ((data.train_names, data.train), (data.test_names, data.test)):
        assert [data.classes[int(part[i][1])] for i in range(len(names))] == [Path(name).parent.name for name in names]
    brightness = [float(data.test[i][0].mean()) for i in range(len(data.test_names))]
    expected = [np.asarray(Image.open(tmp_path / name)).mean() for name in data.test_names]
    assert np.argsort(brightness).tolist() == np.argsort(expected).tolist()
