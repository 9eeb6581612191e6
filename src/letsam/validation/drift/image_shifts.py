"""Shifts of images, by kornia. Sizes are relative to the shorter side, so that small images are not destroyed."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from letsam.validation.drift.draws import Draws
from letsam.validation.drift.known_shifts import table_of
from letsam.validation.drift.shift import Reference, Shift, by_severity
from letsam.validation.drift.weather import fog, rain, snow

USUAL_SIDE = 28  # the widths of blurs below are for images of this side, and grow with the root of the side


def import_kornia() -> Any:
    """The package kornia, or an error that says how to install it."""
    try:
        import kornia
    except ImportError as error:
        raise ImportError('shifts of images need kornia; install it with `pip install "letsam[validation]"`') from error
    return kornia


def noise(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Normal noise on each value."""
    return images + by_severity(severity, 0.04, 0.08, 0.12, 0.18, 0.26) * draws.normal(*images.shape[1:])


def impulse(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Pixels that are black or white."""
    share = by_severity(severity, 0.01, 0.03, 0.06, 0.1, 0.17)
    drawn = draws.uniform(1, *images.shape[2:])
    return torch.where(drawn < share / 2, 0.0, torch.where(drawn < share, 1.0, images))


def blur(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """A Gaussian filter."""
    sigma = by_severity(severity, 0.5, 0.75, 1.0, 1.4, 2.0) * math.sqrt(_side(images) / USUAL_SIDE)
    size = _odd(4 * sigma, images)
    return import_kornia().filters.gaussian_blur2d(images, (size, size), (sigma, sigma))


def motion(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """A line filter along a direction of each image's own."""
    length = min(1 + by_severity(severity, 0.07, 0.11, 0.16, 0.23, 0.33) * _side(images), float(_largest(images)))
    angle, along = draws.uniform(1, high=180.0)[:, 0], draws.uniform(1, low=-0.5, high=0.5)[:, 0]

    def moved(size: int) -> Tensor:
        return images if size == 1 else import_kornia().filters.motion_blur(images, size, angle, along)

    # Filters have odd sizes. Those around the length are mixed, so that severities differ in small images, too.
    shorter = 2 * int((length - 1) // 2) + 1
    weight, short = (length - shorter) / 2, moved(shorter)
    return short + weight * (moved(shorter + 2) - short) if weight else short


def pixelated(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Fewer, larger pixels."""
    share = by_severity(severity, 0.85, 0.7, 0.5, 0.35, 0.25)
    small = [max(1, round(share * side)) for side in images.shape[2:]]
    fewer = torch.nn.functional.interpolate(images, size=small, mode="area")
    return torch.nn.functional.interpolate(fewer, size=images.shape[2:], mode="area")


def jpeg(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """JPEG compression; each channel on its own unless there are three."""
    quality = images.new_tensor([by_severity(severity, 40, 25, 15, 9, 5)])
    coloured = images.shape[1] == 3
    planes = images if coloured else images.reshape(-1, 1, *images.shape[2:]).expand(-1, 3, -1, -1)
    coded = import_kornia().enhance.jpeg_codec_differentiable(planes.clamp(0, 1), quality)
    return coded if coloured else coded.mean(dim=1).reshape(images.shape)


def contrast(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Less contrast."""
    factor = by_severity(severity, 0.75, 0.55, 0.4, 0.28, 0.18)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + factor * (images - mean)


def brightness(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Overexposure."""
    return import_kornia().enhance.adjust_brightness(images, by_severity(severity, 0.1, 0.2, 0.3, 0.4, 0.5))


def darkness(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Underexposure: a gamma curve, then a lower maximum."""
    gamma, gain = by_severity(severity, 1.2, 1.5, 1.8, 2.2, 2.8), by_severity(severity, 0.9, 0.8, 0.7, 0.55, 0.4)
    return import_kornia().enhance.adjust_gamma(images.clamp(0, 1), gamma, gain)


def colour(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Another hue and saturation, of each image's own."""
    enhance = import_kornia().enhance
    turn = by_severity(severity, 0.04, 0.08, 0.14, 0.22, 0.32) * 2 * math.pi
    spread = by_severity(severity, 0.2, 0.35, 0.5, 0.7, 0.9)
    turned = enhance.adjust_hue(images.clamp(0, 1), turn * draws.uniform(1, low=0.5)[:, 0] * draws.signs(1)[:, 0])
    return enhance.adjust_saturation(turned, 1 + spread * draws.uniform(1, low=0.5)[:, 0] * draws.signs(1)[:, 0])


def occlusion(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """A grey square at a place of each image's own."""
    share = by_severity(severity, 0.2, 0.3, 0.4, 0.5, 0.6)
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for axis, side in ((2, images.shape[2]), (3, images.shape[3])):
        length = max(1, round(share * side))
        start = (draws.uniform(1) * (side - length + 1)).floor()
        places = torch.arange(side, device=images.device)
        within = (places >= start) & (places < start + length)
        inside = inside & within.reshape(len(images), 1, *((-1, 1) if axis == 2 else (1, -1)))
    return torch.where(inside, 0.5, images)


def affine(images: Tensor, severity: int, draws: Draws, _: Reference) -> Tensor:
    """Rotated, moved, scaled and sheared."""
    transform = import_kornia().geometry.transform
    height, width = images.shape[2:]
    strength = by_severity(severity, 0.2, 0.4, 0.6, 0.8, 1.0)
    count = len(images)
    middle = images.new_tensor([(width - 1) / 2, (height - 1) / 2]).expand(count, 2)
    moved = draws.uniform(2, low=-0.15, high=0.15) * strength * images.new_tensor([width, height])
    scale = (draws.uniform(1, low=-0.3, high=0.3) * strength).exp().expand(count, 2)
    angle = draws.signs(1)[:, 0] * draws.uniform(1, low=20.0, high=40.0)[:, 0] * strength
    shear = draws.uniform(2, low=-0.15, high=0.15) * strength
    matrix = transform.get_affine_matrix2d(moved, middle, scale, angle, shear[:, 0], shear[:, 1])[:, :2]
    return transform.warp_affine(images, matrix, (height, width), padding_mode="border", align_corners=True)


def _side(images: Tensor) -> int:
    return min(images.shape[2:])


def _odd(size: float, images: Tensor) -> int:
    """An odd number >= 3, as near as can be, that a filter of these images can have."""
    return min(max(3, 2 * round((size - 1) / 2) + 1), _largest(images))


def _largest(images: Tensor) -> int:
    """The largest odd size that a filter of these images can have, as it reflects at the border."""
    return _side(images) - 1 + _side(images) % 2


IMAGE_SHIFTS = table_of(
    [
        Shift("noise", "image", "noise of the sensor, normal, on each value", noise),
        Shift("impulse", "image", "single pixels that are black or white", impulse),
        Shift("blur", "image", "out of focus: a Gaussian filter", blur),
        Shift("motion", "image", "motion blur in a random direction", motion),
        Shift("pixelated", "image", "lower resolution, scaled up again", pixelated),
        Shift("jpeg", "image", "JPEG compression, quality 40 to 5", jpeg),
        Shift("contrast", "image", "less contrast", contrast),
        Shift("brightness", "image", "overexposure", brightness),
        Shift("darkness", "image", "underexposure", darkness),
        Shift("colour", "image", "another hue and saturation; images with 3 channels", colour),
        Shift("occlusion", "image", "a grey square that hides a part", occlusion),
        Shift("affine", "image", "rotated, moved, scaled and sheared", affine),
        Shift("snow", "image", "flakes of snow, and less contrast", snow),
        Shift("fog", "image", "fog with clouds", fog),
        Shift("rain", "image", "streaks of rain, and less light", rain),
    ]
)
