"""Snow, fog and rain on images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws
from letsam.validation.drift.shift import Reference, by_severity


def snow(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Flakes that fall along one direction of each image, over a paler image."""
    from kornia.filters import motion_blur

    height, width = images.shape[2:]
    side = min(height, width)
    share, pale = (
        by_severity(severity, 0.006, 0.012, 0.02, 0.03, 0.045),
        by_severity(severity, 0.08, 0.13, 0.18, 0.24, 0.3),
    )
    grain = max(1, side // 40)  # pixels a flake
    cells = (1, -(-height // grain), -(-width // grain))
    flakes = (draws.uniform(*cells) < share).float() * draws.uniform(*cells, low=0.5)
    flakes = torch.nn.functional.interpolate(flakes, scale_factor=grain, mode="nearest")[:, :, :height, :width]
    length = max(3, side // 20 * 2 + 1)
    angle = draws.uniform(1, low=225.0, high=315.0)[:, 0]
    flakes = motion_blur(flakes, length, angle, torch.zeros_like(angle)) * length / 2
    return images + pale * (1 - images) + flakes.clamp(0, 1)


def fog(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """A bright cloud of the diamond-square algorithm, which hides contrast."""
    from kornia.contrib import diamond_square

    def uniform(shape: Any, **_: object) -> Tensor:
        return draws.uniform(*shape[1:]).reshape(tuple(shape))

    height, width = images.shape[2:]
    cloud = diamond_square(
        (len(images), 1, height, width), roughness=0.6, random_fn=uniform, normalize_range=(0.4, 1.0)
    )
    thick = by_severity(severity, 0.25, 0.4, 0.55, 0.67, 0.8) * cloud
    return images * (1 - thick) + 0.85 * thick


def rain(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Streaks by kornia's `RandomRain`, over a darker image."""
    from kornia.augmentation import RandomRain

    count, side = len(images), min(images.shape[2:])
    drops = max(
        1, round(by_severity(severity, 0.01, 0.018, 0.027, 0.038, 0.05) * images.shape[2] * images.shape[3] / 2)
    )
    length = min(side - 1, max(2, side // 7))
    slant = (draws.uniform(1, low=-0.5, high=0.5)[:, 0] * length).round()
    parameters = {
        "number_of_drops_factor": torch.full((count,), drops),
        "drop_height_factor": torch.full((count,), length),
        "drop_width_factor": slant.long().cpu(),
        "coordinates_factor": draws.uniform(drops, 2),
    }
    darker = images * (1 - by_severity(severity, 0.08, 0.14, 0.2, 0.27, 0.35))
    streaks = RandomRain(p=1.0).apply_transform(torch.zeros_like(images[:, :1]), parameters, {})
    return torch.where(streaks > 0, 0.35 * darker + 0.65 * streaks, darker)
