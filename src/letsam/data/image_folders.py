"""Folders of images: one folder for each class, or a table `metadata.csv`."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from letsam.data.data_options import DataOptions
from letsam.data.data_parts import DataPart, DataParts, fits_in_memory, looked_at, parts_of_folder
from letsam.data.known_form import KnownForm
from letsam.data.labelled_files import Content, WantedFiles, unlabelled_files
from letsam.data.loaded import LoadedData
from letsam.data.pictures import (
    SUFFIXES,
    Augmentation,
    Look,
    PictureReader,
    Pictures,
    PixelFormat,
    PixelScale,
    look,
)
from letsam.data.preparation import Preparation
from letsam.data.threads import in_threads
from letsam.models.pretrained import pretrained_pixels
from letsam.models.timm_models import PREFIX
from letsam.tasks.imagenet import MEAN, STD
from letsam.tasks.subset import evenly_spaced

SIDES = (224, 192, 160, 128, 96, 64, 48, 32)  # for pictures of different sizes: the largest that most of them reach
LARGEST = 224
MEASURED = 2000  # pictures that mean and standard deviation are taken from
WANTED = WantedFiles(SUFFIXES, "images")


class ImagePreparation(Preparation):
    """Decodes pictures, brings them to one form, and scales their pixels.

    Args:
        form: of the pixels.
        scale: makes inputs of pixels.
        classes: names of the classes or labels.
    """

    modality = "image"

    def __init__(self, form: PixelFormat, scale: PixelScale, classes: tuple[str, ...] = ()) -> None:
        self.form, self.scale, self.classes = form, scale, classes

    def values(self) -> dict[str, Any]:
        """The form, and mean and standard deviation of the channels."""
        return {"form": dataclasses.asdict(self.form), "mean": list(self.scale.mean), "std": list(self.scale.std)}

    @classmethod
    def restored(cls, values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> ImagePreparation:
        """The preparation with these values."""
        return cls(PixelFormat(**values["form"]), PixelScale(tuple(values["mean"]), tuple(values["std"])))

    def read(self, path: str) -> Dataset[Any]:
        """The inputs of an image, or of all images in a folder and the folders in it, in the order of their names."""
        return PictureInputs(*unlabelled_files(Path(path), WANTED), self.form, self.scale)


class PictureInputs(Dataset[Tensor]):
    """Inputs of pictures without targets, decoded when they are read.

    Args:
        contents: encoded pictures.
        names: of the pictures.
        form: of the pixels.
        scale: makes inputs of pixels.
    """

    def __init__(self, contents: Sequence[Content], names: Sequence[str], form: PixelFormat, scale: PixelScale) -> None:
        self.names, self._read, self._scale = names, PictureReader(contents, names, form), scale

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        """An input, shape ``(channels, height, width)``."""
        return self._scale(self._read(range(len(self))[index])[None])[0]


def read_images(options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Read and prepare a folder of images.

    Raises:
        DataError: a file cannot be read, or has no label; there is one class alone; a test class is unknown.
    """
    options.refuse("images", "sample_rate", "seconds")
    if known is not None:
        known.prepared_by(ImagePreparation, options.path)
    return load_pictures(looked_at(parts_of_folder(options, WANTED), look, options, known), options, known)


def load_pictures(parts: DataParts[Look], options: DataOptions, known: KnownForm | None = None) -> LoadedData:
    """Prepare pictures: what fits into `options.memory` is decoded now, the rest when it is read."""
    looks = [one for part in parts.known() for one in part.looks]
    form, given, rows = _form(parts.train.looks, looks, options, known)
    reader = PictureReader(parts.train.files.contents, parts.train.files.names, form)
    in_memory, reading = fits_in_memory(len(looks) * math.prod(form.shape), options)
    stored = reader.all() if in_memory else None
    places = evenly_spaced(len(reader.names), MEASURED)
    scale = given or PixelScale.of(in_threads(reader, places) if stored is None else (stored[i] for i in places))
    augmentation = _augmentation(options.augment, form)
    sets = [_pictures(part, reader, scale, stored) for part in parts.known()]
    training = Pictures(sets[0].pixels, sets[0].targets, scale, augmentation)
    rows += [
        ("augmentation", "none" if augmentation is None else augmentation.text),
        reading,
    ]
    return parts.loaded(
        name=Path(options.path).resolve().name,
        modality="image",
        train=training,
        test=sets[-1],
        validation=sets[1] if parts.validation is not None else None,
        preparation=ImagePreparation(form, scale, parts.labels.classes),
        input_shape=form.shape,
        inferred=rows,
    )


def _pictures(part: DataPart[Look], reader: PictureReader, scale: PixelScale, stored: Tensor | None) -> Pictures:
    """The data set of a part; `stored` are the pixels of the training data, where they are kept in memory."""
    mine = reader.with_contents(part.files.contents, part.files.names)
    if stored is None:
        return Pictures(mine, part.targets, scale)
    return Pictures(stored if part.files.contents is reader.contents else mine.all(), part.targets, scale)


def _form(
    train: Sequence[Look], looks: Sequence[Look], options: DataOptions, known: KnownForm | None
) -> tuple[PixelFormat, PixelScale | None, list[tuple[str, str]]]:
    """The form of the pixels: as known, or by the training data or the pretrained model; its scale; rows."""
    sizes = Counter(one.size for one in looks)
    grey = sum(one.grey for one in looks)
    bits = max(one.bits for one in train)
    channels = 1 if all(one.grey for one in train) else 3
    side = options.image_size or _side([one.size for one in train])
    form, scale = PixelFormat(side, side, channels, bits), None
    if known is not None:
        fitted = known.prepared_by(ImagePreparation, options.path)
        form, scale = fitted.form, fitted.scale
    elif options.pretrained is not None:
        form, scale = _pretrained_form(options, bits)
    colours = "grey" if form.channels == 1 else "colour"
    if 0 < grey < len(looks):
        colours += f", with {grey:,} grey images among {len(looks):,}"
    found = " x ".join(map(str, next(iter(sizes)))) if len(sizes) == 1 else _range(list(sizes))
    rows = [("images", f"{found} pixels, {colours}"), ("image size", f"{form.width} x {form.height} pixels")]
    if form.bits > 8:
        rows.append(("brightness", f"values up to {2**form.bits - 1:,}, scaled to 8 bits"))
    return form, scale, rows


def _pretrained_form(options: DataOptions, bits: int) -> tuple[PixelFormat, PixelScale]:
    assert options.pretrained is not None
    if options.pretrained.startswith(PREFIX):
        side = options.image_size or LARGEST
        return PixelFormat(side, side, 3, bits), PixelScale(MEAN, STD)
    pixels = pretrained_pixels(options.pretrained)
    height, width = (options.image_size,) * 2 if options.image_size else pixels.size
    return PixelFormat(height, width, 3, bits), PixelScale(pixels.mean, pixels.std)


def _side(sizes: Sequence[tuple[int, int]]) -> int:
    """The side of pictures of one square size up to 224; else the largest usual side that half of them reach."""
    if len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] <= LARGEST:
        return sizes[0][0]
    middle = statistics.median(min(size) for size in sizes)
    return next((side for side in SIDES if side <= middle), SIDES[-1])


def _range(sizes: Sequence[tuple[int, int]]) -> str:
    widths, heights = zip(*sizes, strict=True)
    return f"{min(widths)} to {max(widths)} x {min(heights)} to {max(heights)}"


def _augmentation(name: str, form: PixelFormat) -> Augmentation | None:
    """Shifts; flips only of pictures in colour, as digits and letters are grey."""
    if name == "none":
        return None
    flip = form.channels == 3 if name == "auto" else name == "shift+flip"
    return Augmentation.of_size(form.height, form.width, flip=flip)
