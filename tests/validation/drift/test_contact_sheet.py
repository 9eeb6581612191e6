"""The script that draws the contact sheets shows every shift."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from letsam.validation import available_shifts

SCRIPT = Path(__file__).parents[3] / "docs" / "draw_shifts.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("draw_shifts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    monkeypatch.setattr(found, "SEVERITIES", (0, 3))
    return found


@pytest.mark.data
def test_every_shift_of_images_is_drawn(script: Any) -> None:
    figure = script.draw()
    names = [name for name, modality, _ in available_shifts("image") if modality == "image"]
    rows = [figure.axes[4 * i : 4 * i + 4] for i in range(len(names))]
    assert [row[0].get_ylabel() for row in rows] == names
    for row, name in zip(rows, names, strict=True):
        shown = [axis.images[0].get_array() if axis.images else None for axis in row]
        assert (shown[1] is None) == (name == "colour")  # the first image is grey
        for clean, shifted in ((0, 1), (2, 3)):
            assert shown[shifted] is None or (shown[clean] != shown[shifted]).any()
    assert SCRIPT.with_name("images").joinpath("image-shifts.png").stat().st_size > 50_000


def test_every_other_shift_is_drawn(script: Any) -> None:
    figure = script.draw_others()
    names = [(modality, name) for name, modality, _ in available_shifts() if modality not in ("image", "any")]
    assert len(names) == 14
    rows = [figure.axes[2 * i : 2 * i + 2] for i in range(len(names))]
    assert [tuple(row[0].get_ylabel().split("\n")) for row in rows] == names
    for clean, shifted in rows:
        if clean.texts:
            assert clean.texts[0].get_text() != shifted.texts[0].get_text()
        elif clean.lines:
            assert (clean.lines[0].get_ydata() != shifted.lines[0].get_ydata()).any()
        else:
            assert (clean.images[0].get_array() != shifted.images[0].get_array()).any()
    assert SCRIPT.with_name("images").joinpath("other-shifts.png").stat().st_size > 50_000
