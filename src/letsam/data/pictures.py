"""Pictures as tensors: decoding with Pillow, and data sets of them in memory or in files."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from letsam.data.labelled_files import Content, read_content
from letsam.data.numbered import NumberedDataset, StoredBatches
from letsam.data.problems import DataError
from letsam.data.threads import in_threads
from letsam.tasks.images import normalised

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
INSTALL = '`pip install "letsam[trial]"`'
_GREY = ("1", "L", "LA", "La", "I")  # and those that begin with "I;16"


@dataclass(frozen=True)
class Look:
    """What is known of a picture before its pixels are used.

    Args:
        digest: of the file's bytes.
        size: width and height in pixels, upright.
        grey: whether it has a single channel.
        bits: of a channel: 8, or as many as the largest value of a picture of 16 bits needs.
        problem: why it cannot be read; None: it can.
    """

    digest: str
    size: tuple[int, int] = (0, 0)
    grey: bool = False
    bits: int = 8
    problem: str | None = None


@dataclass(frozen=True)
class PixelFormat:
    """The form that all pictures are brought to.

    Args:
        height: in pixels.
        width: in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        bits: of a channel in pictures of 16 bits, from 8 to 16; the highest 8 of them are used.
    """

    height: int
    width: int
    channels: int
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class Augmentation:
    """Random shifts, with black at the edges, and flips.

    Args:
        padding: the largest shift in each direction, in pixels.
        flip: whether half of the pictures are mirrored.
    """

    padding: int
    flip: bool

    @classmethod
    def of_size(cls, height: int, width: int, *, flip: bool) -> Augmentation:
        """Shifts by up to an eighth of the shorter side."""
        return cls(max(1, min(height, width) // 8), flip)

    @property
    def text(self) -> str:
        """What it does, for the table."""
        return f"shifts by up to {self.padding} pixels{' and flips' if self.flip else ''}"

    def __call__(self, pixels: Tensor, numbers: Tensor) -> Tensor:
        """Augment pictures.

        Args:
            pixels: shape ``(n, channels, height, width)``.
            numbers: one for each picture, int64, from 0; they decide on shift and flip.

        Example:
            >>> pixels = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
            >>> Augmentation(0, flip=True)(pixels, torch.tensor([1])).tolist()
            [[[[2, 1], [4, 3]]]]
        """
        count, channels, height, width = pixels.shape
        places = 2 * self.padding + 1
        padded = torch.nn.functional.pad(pixels, (self.padding,) * 4)
        top, left = numbers // 2 % places, numbers // 2 // places % places
        across = torch.arange(width, device=pixels.device).expand(count, width)
        if self.flip:
            across = torch.where((numbers % 2 == 1)[:, None], width - 1 - across, across)
        rows = top[:, None] + torch.arange(height, device=pixels.device)
        columns = left[:, None] + across
        first = torch.arange(count, device=pixels.device)[:, None, None, None]
        second = torch.arange(channels, device=pixels.device)[None, :, None, None]
        return padded[first, second, rows[:, None, :, None], columns[:, None, None, :]]


@dataclass(frozen=True)
class PixelScale:
    """Pixels as inputs: scaled to [0, 1], minus the mean, divided by the standard deviation of each channel.

    Args:
        mean: of each channel, for pixels in [0, 1].
        std: of each channel, > 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Inputs in float32, from pixels of type uint8 and shape ``(n, channels, height, width)``."""
        return normalised(pixels, self.mean, self.std)

    @classmethod
    def of(cls, pictures: Iterable[Tensor]) -> PixelScale:
        """Mean and standard deviation over all pixels of pictures; no deviation is below 1/255."""
        sums = squares = torch.zeros((), dtype=torch.float64)
        count = 0
        for pixels in pictures:
            values = pixels.flatten(1).double() / 255
            sums, squares, count = sums + values.sum(1), squares + values.square().sum(1), count + values.shape[1]
        mean = sums / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))


def look(content: Content) -> Look:
    """Decode a picture to see whether it can be, and what it is."""
    image_module = import_pillow()
    data, digest = read_content(content)
    if not data:
        return Look(digest, problem="the file is empty")
    try:
        with image_module.open(io.BytesIO(data)) as image:
            grey = image.mode in _GREY or image.mode.startswith("I;16")
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # orientation: turned by 90 degrees
                width, height = height, width
            if image.mode == "F":
                return Look(digest, problem="expected pixels of up to 16 bits, got 32-bit numbers")
            image.draft(None, (1, 1))  # a JPEG is decoded at 1/8 of its size, which reads all of it
            image.load()
            deep = image.mode == "I" or image.mode.startswith("I;16")
            largest = int(image.getextrema()[1]) if deep else 255  # type: ignore[index]
            if largest > 65535:
                return Look(digest, problem=f"expected pixels of up to 16 bits, got the value {largest}")
            return Look(digest, (width, height), grey, max(8, largest.bit_length()))
    except Exception as error:  # Pillow raises many types, of its decoders' as well
        return Look(digest, problem=_reason(error))


def pixels_of(content: Content, form: PixelFormat) -> Tensor:
    """Decode a picture: upright, on white where it is transparent, resized, and cut to the centre.

    The picture is scaled so that it covers the form, with antialiasing; what is longer than the form is cut off evenly.

    Returns:
        uint8, of the form's shape.
    """
    import numpy as np
    from PIL import ImageOps

    with import_pillow().open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
        opened.draft(None, (2 * form.width, 2 * form.height))  # a large JPEG need not be decoded in full
        image = _in_channels(ImageOps.exif_transpose(opened), form)
    width, height = image.size
    scale = min(width / form.width, height / form.height)
    left, top = (width - scale * form.width) / 2, (height - scale * form.height) / 2
    if image.size != (form.width, form.height):
        box = left, top, left + scale * form.width, top + scale * form.height
        image = image.resize((form.width, form.height), resample=2, box=box)  # 2: bilinear, which antialiases
    pixels = torch.from_numpy(np.asarray(image).copy())
    return pixels.reshape(form.height, form.width, form.channels).permute(2, 0, 1).contiguous()


def _in_channels(image: Image, form: PixelFormat) -> Image:
    import numpy as np

    module = import_pillow()
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64) >> (form.bits - 8)
        image = module.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = module.alpha_composite(module.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("L" if form.channels == 1 else "RGB")


class Pictures(NumberedDataset):
    """Labelled pictures, in memory or decoded when they are read.

    Args:
        pixels: uint8, shape ``(n, channels, height, width)``; or a function that reads one picture of an index.
        targets: one for each picture.
        scale: makes inputs of pixels.
        augmentation: for training; None: none.
    """

    def __init__(
        self,
        pixels: Tensor | Callable[[int], Tensor],
        targets: Tensor,
        scale: PixelScale,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.pixels, self.targets, self.scale, self.augmentation = pixels, targets, scale, augmentation
        self.augmented = augmentation is not None
        self.reads_files = not isinstance(pixels, Tensor)
        self._on_device: dict[torch.device, StoredBatches] = {}  # shared by all copies

    def raw(self, index: int, number: int) -> Tensor:
        """A picture in uint8, augmented."""
        pixels = self.pixels[index] if isinstance(self.pixels, Tensor) else self.pixels(index)
        if self.augmentation is None or not self.augmented:
            return pixels
        return self.augmentation(pixels[None], torch.tensor([number]))[0]

    def finish(self, inputs: Tensor) -> Tensor:
        """Inputs in float32."""
        return self.scale(inputs)

    def on_device(self, device: torch.device) -> StoredBatches | None:
        """The pictures on a device, once for all parts of the data; None if they are in files."""
        if not isinstance(self.pixels, Tensor):
            return None
        if device not in self._on_device:
            self._on_device[device] = _PicturesOnDevice(self.pixels.to(device), self.scale, self.augmentation)
        return self._on_device[device]


class _PicturesOnDevice(StoredBatches):
    def __init__(self, pixels: Tensor, scale: PixelScale, augmentation: Augmentation | None) -> None:
        self.pixels, self.scale, self.augmentation = pixels, scale, augmentation

    def batch(self, indices: Tensor, numbers: Tensor | None) -> Tensor:
        pixels = self.pixels[indices]
        if numbers is not None and self.augmentation is not None:
            pixels = self.augmentation(pixels, numbers)
        return self.scale(pixels)


@dataclass(frozen=True)
class PictureReader:
    """Reads a picture of an index; errors name the file.

    Args:
        contents: encoded pictures.
        names: of the pictures, for errors.
        form: of the pixels.
    """

    contents: Sequence[Content]
    names: Sequence[str]
    form: PixelFormat

    def __call__(self, index: int) -> Tensor:
        """The pixels in uint8.

        Raises:
            DataError: the file cannot be read; one line that names it.
        """
        try:
            return pixels_of(self.contents[index], self.form)
        except Exception as error:
            raise DataError(f"{self.names[index]}: cannot be read as a picture ({_reason(error)})") from error

    def all(self) -> Tensor:
        """All pictures in one tensor."""
        found = torch.empty((len(self.contents), *self.form.shape), dtype=torch.uint8)
        for index, pixels in enumerate(in_threads(self, range(len(self.contents)))):
            found[index] = pixels
        return found

    def with_contents(self, contents: Sequence[Content], names: Sequence[str]) -> PictureReader:
        """The same for other pictures."""
        return dataclasses.replace(self, contents=contents, names=names)


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":  # its message has the address of a buffer
        return "it has no format that Pillow knows"
    return " ".join(str(error).split()) or type(error).__name__


def import_pillow() -> Any:
    """The module `PIL.Image`.

    Raises:
        DataError: Pillow is missing; one line with the command that installs it.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"pictures need the package Pillow; install it with {INSTALL}") from error
    return Image
