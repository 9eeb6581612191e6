"""The names belong to the numbers: each of these changes makes the feature with its name, or its group, stand out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from letsam.validation.drift.drift_features import features_of
from letsam.validation.drift.feature_names import feature_names

STREAM = torch.Generator().manual_seed(0)


def moved(before: Any, after: Any, modality: str | None) -> set[str]:
    """The features whose values all change."""
    one, other = (features_of(inputs, modality) for inputs in (before, after))
    names = feature_names(modality, one.shape[1])
    changed = ((one - other).abs() > 1e-4).all(dim=0)[: len(names)]
    return {name for name, moves in zip(names, changed.tolist(), strict=True) if moves}


IMAGES = 0.3 + 0.4 * torch.rand(5, 3, 12, 12, generator=STREAM)


def test_images() -> None:
    dark = IMAGES.clone()
    dark[:, :, 0, :] = 0
    assert {"mean brightness", "share of black", "brightness of part 1"} <= moved(IMAGES, dark, "image")
    assert moved(IMAGES, dark, "image").isdisjoint({"share of white", "brightness of part 16"})
    white = IMAGES.clone()
    white[:, :, -1, -4:] = 1
    assert {"share of white", "brightness of part 16"} <= moved(IMAGES, white, "image")
    assert "share of black" not in moved(IMAGES, white, "image")
    grey = IMAGES.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert "colourfulness" in moved(IMAGES, grey, "image")
    checks = IMAGES + 0.1 * (-1) ** (torch.arange(12)[:, None] + torch.arange(12))
    found = moved(IMAGES, checks, "image")
    assert {"detail, band 6 of 6", "mean edges across", "mean edges down", "contrast"} <= found
    assert "mean brightness" not in found


def test_texts() -> None:
    texts = ["a small house here", "one more of them"]
    assert moved(texts, [text.upper() for text in texts], "text") == {"share of capitals"}
    assert moved(texts, [text.replace(" ", "  ") for text in texts], "text") >= {"length", "share of doubled letters"}
    assert "words" not in moved(texts, [text.replace(" ", "  ") for text in texts], "text")
    rows = [[1, 2, 3], [4, 5]]
    assert moved(rows, [row * 2 for row in rows], "text") == {"length"}


def test_rows() -> None:
    rows = torch.rand(5, 3, generator=STREAM)
    other = rows.clone()
    other[:, 1] += 1
    assert moved(rows, other, "table") == {"input 2"}
    assert moved(rows, other, None) == {"input 2"}


def test_sounds() -> None:
    waves = 0.1 * torch.rand(4, 1600, generator=STREAM)
    loud = waves.clone()
    loud[:, 5] = 1.0
    assert {"peak energy", "share of clipped samples"} <= moved(waves, loud, "audio")
    names = feature_names("audio", features_of(waves, "audio").shape[1])
    assert (names[0], names[-3]) == ("energy, band 1", "mean energy")
    sounds = torch.rand(4, 1, 32, 20, generator=STREAM)
    louder = sounds.clone()
    louder[:, :, -2:] += 1
    assert moved(sounds, louder, "log-mel") == {"energy, band 16"}
    varied = sounds.clone()
    varied[:, :, :2] *= torch.linspace(0, 3, 20)
    assert {"energy, band 1", "variation, band 1"} <= moved(sounds, varied, "log-mel")
    assert "variation, band 2" not in moved(sounds, varied, "log-mel")


@pytest.mark.parametrize("modality", ["image", "text", "table", "audio", "log-mel", None])
def test_names_are_different(modality: str | None) -> None:
    batch: Any = {"image": IMAGES, "text": ["ab cd"], "table": torch.rand(2, 4), "audio": torch.rand(2, 800)}.get(
        modality or "", torch.rand(2, 1, 40, 9)
    )
    count = features_of(batch, modality).shape[1]
    names = feature_names(modality, count)
    assert len(set(names)) == len(names) <= count
