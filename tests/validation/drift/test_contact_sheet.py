"""The script that draws the contact sheet shows every shift of images."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from letsam.validation import available_shifts

SCRIPT = Path(__file__).parents[3] / "docs" / "draw_shifts.py"


@pytest.mark.data
def test_every_shift_of_images_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("draw_shifts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "SEVERITIES", (0, 3))
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
