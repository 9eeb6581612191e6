"""Decoding, augmentation and scale of pictures, against numpy and Pillow by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from letsam.data.pictures import Augmentation, Pictures, PixelFormat, PixelScale, look, pixels_of
from letsam.tasks import targets_of, with_label_noise
from letsam.tasks.images import without_augmentation
from letsam.training.feed import Batches
from picture_files import pixels, save

CPU = torch.device("cpu")


def read(path: Path, channels: int = 3, size: tuple[int, int] = (12, 10), bits: int = 8) -> np.ndarray[Any, Any]:
    """Height, width, channels."""
    return pixels_of(path, PixelFormat(size[1], size[0], channels, bits)).permute(1, 2, 0).numpy()


def test_colour(tmp_path: Path) -> None:
    values = pixels(1)
    assert (read(save(tmp_path / "a.png", values)) == values).all()
    assert (read(save(tmp_path / "a.bmp", values)) == values).all()


def test_grey_is_the_same_in_all_channels(tmp_path: Path) -> None:
    values = pixels(1, channels=1)
    path = save(tmp_path / "a.png", values)
    assert (read(path) == values).all()
    assert (read(path, channels=1) == values).all()
    assert look(path).grey


def test_colour_read_as_grey_is_its_luminance(tmp_path: Path) -> None:
    values = pixels(1)
    expected = values.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(read(save(tmp_path / "a.png", values), channels=1)[..., 0] - expected).max() <= 1


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    values = pixels(1, channels=4)
    values[..., 3] = np.where(values[..., 3] > 127, 255, 0)
    expected = np.where(values[..., 3:] == 255, values[..., :3], 255)
    assert (read(save(tmp_path / "a.png", values)) == expected).all()


@pytest.mark.parametrize(("largest", "bits"), [(65535, 16), (4095, 12), (200, 8)])
def test_sixteen_bits_are_scaled_to_eight(largest: int, bits: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (10, 12), dtype=np.uint16)
    values[0, 0] = largest
    path = save(tmp_path / "a.png", values)
    assert (look(path).bits, look(path).grey) == (bits, True)
    assert (read(path, channels=1, bits=bits)[..., 0] == values >> (bits - 8)).all()
    assert (read(path, bits=bits) == (values >> (bits - 8))[..., None]).all()


def test_palettes_and_bits(tmp_path: Path) -> None:
    values = pixels(1)
    quantized = Image.fromarray(values).convert("P")
    quantized.save(tmp_path / "p.png")
    assert (read(tmp_path / "p.png") == np.asarray(quantized.convert("RGB"))).all()
    Image.fromarray(values[..., 0] > 127).save(tmp_path / "1.png")
    assert (read(tmp_path / "1.png", channels=1)[..., 0] == np.where(values[..., 0] > 127, 255, 0)).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_pictures_are_upright(orientation: int, turns: int, tmp_path: Path) -> None:
    values = pixels(1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", values, exif=exif)
    expected = np.rot90(values, turns)
    assert look(path).size == (expected.shape[1], expected.shape[0])
    assert (read(path, size=look(path).size) == expected).all()


def test_other_sizes_are_scaled_and_cut_to_the_centre(tmp_path: Path) -> None:
    left, right = np.full((20, 30, 3), 10, np.uint8), np.full((20, 30, 3), 250, np.uint8)
    path = save(tmp_path / "wide.png", np.concatenate([left, right], axis=1))  # 60 x 20: the middle 20 x 20 remain
    found = read(path, size=(10, 10))
    assert (found[:, :4] == 10).all()
    assert (found[:, 6:] == 250).all()
    assert (read(path, size=(60, 20)) == np.asarray(Image.open(path))).all()
    tall = save(tmp_path / "tall.png", np.concatenate([left, right], axis=1).transpose(1, 0, 2).copy())
    assert (read(tall, size=(10, 10)) == found.transpose(1, 0, 2)).all()


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", pixels(1))
    form = PixelFormat(10, 12, 3)
    assert torch.equal(pixels_of(path.read_bytes(), form), pixels_of(path, form))
    assert look(path.read_bytes()) == look(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"hello", "it has no format that Pillow knows"),
        (b"\x89PNG\r\n\x1a\nxxxx", "it has no format that Pillow knows"),
    ],
)
def test_what_is_no_picture(content: bytes, problem: str) -> None:
    assert look(content).problem == problem


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_files_that_are_cut_off_are_seen(form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels(1, (64, 64))).save(buffer, form)
    whole = buffer.getvalue()
    assert look(whole).problem is None
    assert look(whole[: len(whole) * 2 // 3]).problem


def test_numbers_in_tiff_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tiff")
    assert look(tmp_path / "a.tiff").problem == "expected pixels of up to 16 bits, got 32-bit numbers"


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_shifts_and_flips(flip: bool) -> None:
    """All shifts and both directions, compared with slices of the padded picture."""
    images = torch.arange(2 * 2 * 3 * 4, dtype=torch.uint8).reshape(2, 2, 3, 4) + 1
    augmentation, seen = Augmentation(1, flip), set[bytes]()
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    for number in range(18):
        mirrored, top, left = number % 2, number // 2 % 3, number // 6
        expected = padded[:, :, top : top + 3, left : left + 4]
        expected = expected.flip(-1) if mirrored and flip else expected
        found = augmentation(images, torch.tensor([number, number + 18 * 5**20]))
        assert torch.equal(found, expected)
        seen.add(found.numpy().tobytes())
    assert len(seen) == (18 if flip else 9)


def test_the_scale_makes_mean_0_and_deviation_1() -> None:
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 2] = 7
    scale = PixelScale.of(images)
    inputs = scale(images).double()
    expected = (images.double() / 255 - torch.tensor(scale.mean).view(3, 1, 1)) / torch.tensor(scale.std).view(3, 1, 1)
    assert torch.allclose(inputs, expected, atol=1e-5)
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(inputs[:, :2].std((0, 2, 3), unbiased=False), torch.ones(2, dtype=torch.double), atol=1e-5)
    assert scale.std[2] == pytest.approx(1 / 255)  # of a constant channel


class Decoder:
    """Stands for files; counts what is decoded."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.reads = images, list[int]()

    def __call__(self, index: int) -> torch.Tensor:
        self.reads.append(index)
        return self.images[index]


def both() -> tuple[Pictures, Pictures, Decoder]:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scale, targets, decoder = PixelScale.of(images), torch.arange(9) % 3, Decoder(images)
    augmentation = Augmentation(2, flip=True)
    return Pictures(images, targets, scale, augmentation), Pictures(decoder, targets, scale, augmentation), decoder


def test_pictures_in_memory_and_in_files_are_the_same() -> None:
    stored, files, _ = both()
    for wrap in (lambda data: data, lambda data: Subset(data, [5, 2, 8]), without_augmentation):
        one, other = Batches(wrap(stored), CPU), Batches(wrap(files), CPU)
        assert (one.in_memory, other.in_memory) == (True, False)
        one.numbers = other.numbers = torch.arange(len(one)) * 987_654_321
        expected, found = one.one([2, 0, 1]), other.one([2, 0, 1])
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    torch.manual_seed(5)
    from_memory = stored[3][0]
    torch.manual_seed(5)
    assert torch.equal(files[3][0], from_memory)


def test_targets_are_read_without_decoding() -> None:
    _, files, decoder = both()
    part = Subset(files, [5, 2, 8])
    assert targets_of(part).tolist() == [2, 2, 2]
    noisy = with_label_noise(part, 0.5, 3, generator=torch.Generator().manual_seed(0))
    assert (targets_of(noisy) != 2).sum() == 2
    assert decoder.reads == []
    assert without_augmentation(noisy)[0][0].shape == (3, 8, 8)
    assert decoder.reads == [5]


def test_the_copy_on_the_device_is_shared_by_all_parts() -> None:
    stored, *_ = both()
    assert stored.on_device(CPU) is without_augmentation(stored).on_device(CPU)  # type: ignore[attr-defined]
